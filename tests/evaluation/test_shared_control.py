"""What a shared control alone makes of scores, against golden numbers and drawn screens."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pertscale.errors import ArgumentError, InputError
from pertscale.evaluation import evaluate_expression, no_effect, no_effect_elsewhere
from pertscale.evaluation.shared_control import check_controls
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


def no_effects(n_control, *, seed=0, n_genes=4000):
    """Return profiles of a screen without effects: truth, training, halves of the controls, all."""
    random = np.random.default_rng(seed)
    deviation, level = random.gamma(1, 0.3, n_genes), random.gamma(2, 1, n_genes)

    def profiles(n, cells):
        return level + deviation * random.normal(size=(n, n_genes)) / np.sqrt(cells)

    halves = profiles(2, n_control / 2)
    return profiles(25, 80), profiles(12, 100), halves, halves.mean(axis=0)


def means(truth, predicted, control, background, halves):
    table = evaluate_expression(
        truth,
        np.broadcast_to(predicted, truth.shape),
        control,
        background=background,
        perturbations=[f"P{i}" for i in range(len(truth))],
        n_genes=len(control),
        targets="include",
        controls=halves,
    )
    return table[table["level"] == "overall"].set_index("metric")["value"]


@pytest.mark.parametrize("n_control", [60, 400])
def test_with_halves_of_the_controls_nothing_is_gained(n_control):
    """Means, shrunken means, and effects from elsewhere that are added to the control."""
    truth, train, halves, control = no_effects(n_control)
    background = train.mean(axis=0)
    elsewhere = np.random.default_rng(1).normal(0, 0.05, truth.shape)
    for predicted in (
        background,
        control + 0.3 * (background - control),
        train[0] + train[1] - control,
        control + elsewhere,
    ):
        shared = means(truth, predicted, control, background, None)
        split = means(truth, predicted, control, background, halves)
        assert abs(split["pearson_delta"]) < 0.06
        assert abs(split["direction"] - 0.5) < 0.03
        assert abs(split["pearson_changed"]) < 0.25
        for metric in ("l2", "rmse", "pearson_delta_mean", "rank_l1"):
            assert split[metric] == shared[metric]
    assert means(truth, background, control, background, None)["pearson_delta"] > 0.1


def test_measured_from_a_half_is_as_if_made_with_that_half():
    """Exact for what depends on the control as means do, or not at all."""
    truth, train, halves, control = no_effects(60)
    truth = truth + 0.2 * np.random.default_rng(2).normal(size=truth.shape)
    background = train.mean(axis=0)

    def made(kind, control):
        return {
            "mean": background,
            "conditions": (train.sum(axis=0) + control) / (len(train) + 1),
            "no_change": control,
        }[kind]

    for kind in ("mean", "conditions", "no_change"):
        found = means(truth, made(kind, control), control, background, halves)
        want = []
        for half in (0, 1):
            delta = made(kind, halves[half]) - halves[half]
            change = truth - halves[1 - half]
            with np.errstate(invalid="ignore"):
                want.append(np.mean([np.corrcoef(delta, row)[0, 1] for row in change]))
        if kind == "no_change":
            assert np.isnan(found["pearson_delta"])
        else:
            assert found["pearson_delta"] == pytest.approx(np.mean(want), abs=1e-4)


@pytest.mark.parametrize("n_control", [60, 200])
def test_what_is_made_up_gains_nothing(n_control):
    """Constants, scales, other signs and silence on some genes, chosen by the control's noise."""
    truth, train, halves, control = no_effects(n_control, seed=3)
    background = train.mean(axis=0)
    toward = background - control
    k = (toward**2).sum() / toward.sum()
    chosen = np.arange(len(control)) % 2 == 0
    for predicted in (
        background - k,
        background - 2 * k,
        control - 0.05 * np.sign(toward.sum()),
        control + 20 * toward,
        control - toward,
        np.where(chosen, background, control),
        np.where(chosen, background, control + 0.001 * toward),
        np.where(toward < 0, control - 0.05, control),
    ):
        found = means(truth, predicted, control, background, halves)
        assert np.isnan(found["pearson_delta"]) or abs(found["pearson_delta"]) < 0.06


def test_a_gene_whose_mean_is_not_known_changes_nothing():
    truth, train, halves, control = no_effects(60)
    background = train.mean(axis=0)
    unknown = np.where(np.arange(len(control)) == 7, np.nan, background)
    one, other = (means(truth, background, control, mean, halves) for mean in (background, unknown))
    assert one["pearson_delta"] == pytest.approx(other["pearson_delta"], abs=0.01)


@pytest.mark.parametrize("controls", [np.ones((3, 4000)), np.full((2, 4000), np.nan)])
def test_other_than_two_halves_of_the_control_are_refused(controls):
    truth, train, _, control = no_effects(60)
    with pytest.raises(InputError, match="means of two halves of the"):
        means(truth, train.mean(axis=0), control, train.mean(axis=0), controls)


def test_another_value_of_controls_is_refused():
    with pytest.raises(ArgumentError, match="controls='half' is not one of split, shared"):
        check_controls("half")
