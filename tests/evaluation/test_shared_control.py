"""What a shared control alone makes of scores, against golden numbers and drawn screens."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pertscale.errors import InputError
from pertscale.evaluation import evaluate_expression, no_effect, no_effect_elsewhere
from tests.support.helpers import GOLDEN

GOLD = json.loads((GOLDEN / "shared_control_null.json").read_text())


@pytest.mark.parametrize("case", GOLD["cases"], ids=lambda case: f"{case['c']}-{case['n']}")
def test_the_formula_and_what_was_observed_are_the_golden_ones(case):
    found = no_effect(
        np.array([case["n"]]), n_control=case["c"], n_training=np.full(case["m"], case["n"])
    )
    assert found["pearson_delta"][0] == pytest.approx(case["expected"], rel=1e-12)
    seen = GOLD["observed"][f"{case['c']} controls, {case['n']} cells per perturbation"]
    near = GOLD["tolerance"]
    assert found["pearson_delta"][0] == pytest.approx(seen["pearson_delta_mean_baseline"], abs=near)
    assert found["direction"][0] == pytest.approx(seen["direction"], abs=near)
    of_no_change = seen["pearson_delta_mean_of_no_change"]
    assert found["pearson_delta_mean"][0] == pytest.approx(of_no_change, abs=near)


@pytest.mark.parametrize("n_control", [60, 400])
def test_screens_without_effect_with_groups_of_all_sizes(n_control):
    """Held-out and training perturbations of 20 to 500 cells, genes of all variances."""
    random = np.random.default_rng(n_control)
    n_genes = 4000
    cells, training = random.integers(20, 500, 25), random.integers(20, 500, 12)
    deviation, level = random.gamma(1, 0.3, n_genes), random.gamma(2, 1, n_genes)

    def profile(n):
        return level + deviation * random.normal(size=n_genes) / np.sqrt(n)

    control = profile(n_control)
    truth = np.array([profile(n) for n in cells])
    mean = np.mean([profile(n) for n in training], axis=0)
    expected = no_effect(cells, n_control=n_control, n_training=training)
    for predicted, metrics in (
        (mean, ("pearson_delta", "direction")),
        (control, ("pearson_delta_mean",)),
    ):
        table = evaluate_expression(
            truth,
            np.tile(predicted, (len(cells), 1)),
            control,
            background=mean,
            perturbations=[str(i) for i in range(len(cells))],
            n_genes=n_genes,
            targets="include",
            no_effect=expected,
        )
        for metric in metrics:
            rows = table[table["metric"] == metric]
            each = rows[rows["level"] == "perturbation"]
            np.testing.assert_array_equal(each["no_effect"], expected[metric])
            np.testing.assert_allclose(each["value"], each["no_effect"], atol=0.1)
            (mean_of_all,) = rows[rows["level"] == "overall"].itertuples()
            assert mean_of_all.no_effect == pytest.approx(expected[metric].mean())
            assert mean_of_all.value == pytest.approx(mean_of_all.no_effect, abs=0.03)
        others = table[~table["metric"].isin(expected)]
        assert others["no_effect"].isna().all()


def test_effects_from_elsewhere_share_no_noise():
    found = no_effect_elsewhere(3)
    assert found["pearson_delta"].tolist() == [0, 0, 0]
    assert found["direction"].tolist() == [0.5, 0.5, 0.5]


def test_numbers_of_cells_that_can_not_be():
    with pytest.raises(InputError, match="no training perturbation"):
        no_effect(np.array([5]), n_control=5, n_training=np.array([]))
    for cells, n_control in (([0], 5), ([5], 0)):
        with pytest.raises(InputError, match="above zero"):
            no_effect(np.array(cells), n_control=n_control, n_training=np.array([3]))
