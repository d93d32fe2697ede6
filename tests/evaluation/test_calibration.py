"""Calibration of metrics and weighted errors: golden values of scPertEval, and edge cases."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from pertscale.errors import ArgumentError, InputError
from pertscale.evaluation import (
    bound_discrimination_score,
    dynamic_range_fraction,
    gene_weights,
    interpolated_duplicate,
    weighted_mse,
    weighted_pearson,
    weighted_r2,
)
from pertscale.evaluation.calibration import at_full_depth, scaled_score
from pertscale.evaluation.duplicates import welch_p_values
from tests.support.helpers import GOLDEN

GOLD = json.loads((GOLDEN / "scperteval_0.2.0.json").read_text())


def numbers(values):
    return np.array(values, float)  # None is NaN


@pytest.mark.parametrize("case", GOLD["calibrators"])
def test_calibrators_of_scperteval(case):
    better = case["better"] == "higher"
    positive, negative = numbers([case["positive"]]), numbers([case["negative"]])
    drf = dynamic_range_fraction(
        positive, negative, perfect=case["perfect"], greater_is_better=better
    )
    np.testing.assert_allclose(drf, numbers([case["drf"]]), rtol=0, atol=1e-10)
    bds, n_undefined = bound_discrimination_score(positive, negative, greater_is_better=better)
    assert n_undefined == (case["positive"] is None)
    if n_undefined:  # scPertEval counts it as lost, here it is left out
        assert np.isnan(bds)
    else:
        assert bds == case["bds"]


def test_weights_of_scperteval():
    np.testing.assert_allclose(
        gene_weights(numbers(GOLD["statistic"])), GOLD["weights_exp2"], rtol=0, atol=1e-10
    )


@pytest.mark.parametrize("exponent", [1, 2, 4])
def test_weighted_errors_of_scperteval(exponent):
    truth, predicted = numbers(GOLD["truth"]), numbers(GOLD["predicted"])
    weights = gene_weights(numbers(GOLD["statistic"]), exponent=exponent)
    expected = GOLD["metrics"][f"wmse_exp{exponent}"]
    np.testing.assert_allclose(weighted_mse(truth, predicted, weights), expected, atol=1e-10)


@pytest.mark.parametrize(
    ("metric", "name"), [(weighted_pearson, "weighted_pearson"), (weighted_r2, "weighted_r2")]
)
def test_weighted_scores_of_scperteval(metric, name):
    weights = gene_weights(numbers(GOLD["statistic"]))
    found = metric(numbers(GOLD["truth"]), numbers(GOLD["predicted"]), weights)
    np.testing.assert_allclose(found, GOLD["metrics"][f"{name}_exp2"], atol=1e-10)


def test_equal_weights_give_the_plain_scores():
    rng = np.random.default_rng(0)
    truth, predicted = rng.normal(size=(2, 5, 40))
    weights = np.full((5, 40), 1 / 40)
    expected = [stats.pearsonr(a, b).statistic for a, b in zip(truth, predicted, strict=True)]
    np.testing.assert_allclose(weighted_pearson(truth, predicted, weights), expected)
    np.testing.assert_allclose(
        weighted_mse(truth, predicted, weights), ((truth - predicted) ** 2).mean(axis=1)
    )


def test_wrong_weights():
    with pytest.raises(ArgumentError, match="above zero"):
        gene_weights([[1.0, 2.0]], exponent=0)
    with pytest.raises(InputError, match="needed is the same"):
        weighted_mse(np.ones((2, 3)), np.ones((2, 3)), np.ones((3, 3)))
    assert np.isnan(gene_weights([[2.0, -2.0]])).all()


def test_what_has_no_value_is_left_out_and_counted():
    share, n = bound_discrimination_score(
        [1.0, 0.0, np.nan, 1.0], [0.0, 0.0, 0.0, np.nan], greater_is_better=True
    )
    assert (share, n) == (0.5, 2)  # a tie is no win


def test_interpolated_duplicate_is_its_formula():
    rng = np.random.default_rng(1)
    replicate, others = rng.normal(size=(2, 3, 7))
    q = rng.uniform(size=(3, 7))
    expected = (1 - q) * replicate + (1 - (1 - q)) * others
    np.testing.assert_allclose(interpolated_duplicate(replicate, others, q), expected, rtol=1e-14)
    with pytest.raises(InputError, match="needed is the same"):
        interpolated_duplicate(replicate, others, q[:2])


def test_welch_from_moments_is_scipys():
    rng = np.random.default_rng(2)
    one, two = rng.normal(size=(9, 4)), rng.normal(0.5, 2.0, size=(30, 4))
    found = welch_p_values(
        one.mean(0),
        one.var(0, ddof=1),
        np.array(9.0),
        others=(two.mean(0), two.var(0, ddof=1), np.array(30.0)),
    )
    np.testing.assert_allclose(found, stats.ttest_ind(one, two, equal_var=False).pvalue)
    nothing = np.zeros(1)
    same = welch_p_values(nothing, nothing, np.array(5.0), others=(nothing, nothing, np.array(9.0)))
    assert same == 1.0


def test_scales():
    assert scaled_score(0.6, floor=0.2, ceiling=0.8) == pytest.approx(2 / 3)
    assert scaled_score(1.0, floor=0.2, ceiling=0.6) == pytest.approx(2.0)  # never clipped
    assert at_full_depth(0.5) == pytest.approx(2 / 3)
