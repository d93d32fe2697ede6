"""Weighted scores of classes: ones are no weights, whole numbers repeat pairs, zeros leave out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pertscale.errors import InputError
from pertscale.evaluation import evaluate, evaluate_weighted

KEYS = ["operating_point", "level", "group", "metric"]


@pytest.fixture
def pairs():
    random = np.random.default_rng(0)
    shape = 6, 50
    truth = random.choice([-1, 0, 1, -128], shape, p=[0.15, 0.6, 0.15, 0.1]).astype(np.int8)
    predicted = random.choice([-1, 0, 1, -128], shape, p=[0.2, 0.5, 0.2, 0.1]).astype(np.int8)
    scores = random.dirichlet([1, 2, 1], shape).round(2).astype(np.float32)
    scores[0, :4] = np.nan
    return truth, predicted, scores, random.integers(0, 4, shape)


def pooled(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["level"] != "perturbation"].reset_index(drop=True)


def test_ones_are_no_weights(pairs):
    truth, predicted, scores, _ = pairs
    how = {"scores": scores, "training_rate": 0.3}
    plain = evaluate(truth, predicted, perturbations=list("abcdef"), **how)
    found = evaluate_weighted(truth, predicted, weights=np.ones(truth.shape), **how)
    pd.testing.assert_frame_equal(found, pooled(plain), rtol=1e-9)


def test_whole_numbers_repeat_pairs(pairs):
    truth, predicted, scores, weights = pairs
    n = weights.ravel()
    again = [np.repeat(a.ravel(), n)[None] for a in (truth, predicted)]
    classes = np.repeat(scores.reshape(-1, 3), n, axis=0)[None]
    plain = evaluate(*again, perturbations=["all"], scores=classes)
    found = evaluate_weighted(truth, predicted, weights=weights, scores=scores)
    pd.testing.assert_frame_equal(
        found.drop(columns="n"), pooled(plain).drop(columns="n"), rtol=1e-9
    )
    assert set(found["n"]) == {int(((truth != -128) & (weights > 0)).sum())}


def test_pairs_without_a_weight_are_left_out(pairs):
    truth, predicted, _, weights = pairs
    unknown = np.where(weights == 0, np.nan, weights / 7)
    found = evaluate_weighted(truth, predicted, weights=unknown).set_index(KEYS)["value"]
    wanted = evaluate_weighted(truth, predicted, weights=weights).set_index(KEYS)["value"]
    scale_free = [key for key in wanted.index if key[3] in ("accuracy", "macro_f1", "mcc", "f1")]
    np.testing.assert_allclose(found[scale_free], wanted[scale_free])
    assert not evaluate_weighted(truth, predicted, weights=0 * weights)["n"].any()


def test_what_does_not_fit_is_refused(pairs):
    truth, predicted, scores, weights = pairs
    with pytest.raises(InputError, match="weights have shapes"):
        evaluate_weighted(truth, predicted, weights=weights[:2])
    with pytest.raises(InputError, match=r"scores \(6, 50, 2\)"):
        evaluate_weighted(truth, predicted, weights=weights, scores=scores[..., :2])
    with pytest.raises(InputError, match="negative or infinite"):
        evaluate_weighted(truth, predicted, weights=-1.0 * weights)
    with pytest.raises(InputError, match="predicted has codes"):
        evaluate_weighted(truth, predicted * 0 + 7, weights=weights)
