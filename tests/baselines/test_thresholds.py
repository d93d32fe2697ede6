"""From changes to classes: thresholds against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from pertscale.baselines.thresholds import (
    labels_of_changes,
    matching_rate,
    scores_of_changes,
    tune_threshold,
)
from pertscale.errors import ArgumentError, InputError


def _case(seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    truth = random.choice([-1, 0, 1, -128], (30, 40), p=[0.1, 0.75, 0.1, 0.05]).astype(np.int8)
    change = random.normal(0, 0.1, truth.shape) + np.where(truth == -128, 0, truth) * 0.15
    change[truth == 0] *= random.choice([0, 1], (truth == 0).sum())
    return change.astype(np.float32), truth


def _blocks(change, truth, step=7):
    return ((change[i : i + step], truth[i : i + step]) for i in range(0, len(truth), step))


def test_labels_and_scores_of_changes():
    change = np.array([[-0.3, -0.1, 0.0, 0.1, 0.3, np.nan]])
    assert labels_of_changes(change, 0.1).tolist() == [[-1, 0, 0, 0, 1, 0]]
    scores = scores_of_changes(change)
    np.testing.assert_allclose(scores.sum(axis=2), 1, rtol=1e-6)
    assert scores[0, 0].argmax() == 1
    assert scores[0, 0, 0] > scores[0, 1, 0] > scores[0, 4, 0] == 0
    assert scores[0, 5].tolist() == [0, 1, 0]


def test_extreme_changes_have_classes_and_finite_scores():
    change = np.array([np.inf, -np.inf, -0.0, 1e38, np.nan], np.float32)
    assert labels_of_changes(change, 1e10).tolist() == [1, -1, 0, 1, 0]
    assert labels_of_changes(change, -1e-300).tolist() == [1, -1, 0, 1, 0]  # 0 is no change
    assert scores_of_changes(change)[:2].tolist() == [[0, 0, 1], [1, 0, 0]]
    assert scores_of_changes(change)[2:].tolist() == [[0, 1, 0], [0, 0, 1], [0, 1, 0]]
    assert scores_of_changes(np.float64(3)).tolist() == [0, 0.25, 0.75]
    assert labels_of_changes(np.float64(3), 1).item() == 1
    across = np.arange(6.0).reshape(2, 3).T  # not contiguous
    np.testing.assert_array_equal(scores_of_changes(across), scores_of_changes(across.copy()))


@pytest.mark.parametrize("seed", range(5))
def test_matching_the_rate_calls_as_many_pairs_as_are_changed(seed):
    change, truth = _case(seed)
    tested = truth != -128
    wanted = int((tested & (truth != 0)).sum())
    threshold = tune_threshold(_blocks(change, truth))
    called = int((labels_of_changes(change, threshold) != 0)[tested].sum())
    assert abs(called - wanted) <= 1  # two sizes may share a bin
    held_out = matching_rate(change, wanted / tested.sum())
    assert abs((labels_of_changes(change, held_out) != 0).mean() - wanted / tested.sum()) < 2e-3


@pytest.mark.parametrize("seed", range(2))
def test_best_macro_f1_is_that_of_brute_force(seed):
    change, truth = _case(seed)
    tested = truth != -128
    threshold = tune_threshold(_blocks(change, truth), rule="macro_f1")

    def value(t):
        predicted = labels_of_changes(change, t)[tested]
        return f1_score(truth[tested], predicted, labels=[-1, 0, 1], average="macro")

    best = max(value(t) for t in [*np.abs(change[tested]), -0.0])
    assert value(threshold) >= best - 2e-3  # sizes are told apart to a thousandth
    assert value(threshold) <= best + 1e-12


def test_blocks_do_not_matter_and_scale_does_not_either():
    change, truth = _case(9)
    for rule in ("match_rate", "macro_f1"):
        one = tune_threshold([(change, truth)], rule=rule)
        assert tune_threshold(_blocks(change, truth, step=3), rule=rule) == one
        twice = tune_threshold([(change * 8, truth)], rule=rule)
        assert twice == pytest.approx(8 * one)
        np.testing.assert_array_equal(
            labels_of_changes(change * 8, twice), labels_of_changes(change, one)
        )
    up = (truth == 1)[truth != -128]
    areas = [
        roc_auc_score(up, scores_of_changes(x)[truth != -128][:, 2]) for x in (change, 8 * change)
    ]
    assert areas[0] == pytest.approx(areas[1], abs=1e-6)


def test_no_change_is_never_called_and_nothing_may_be_best():
    truth = np.array([[1, 0, 0, 0]], np.int8)
    zero = np.zeros((1, 4), np.float32)
    for rule in ("match_rate", "macro_f1"):
        threshold = tune_threshold([(zero, truth)], rule=rule)
        assert (labels_of_changes(zero, threshold) == 0).all()
    wrong = np.array([[-1, 1, 1, 1]], np.float32)
    threshold = tune_threshold([(wrong, np.zeros((1, 4), np.int8))], rule="macro_f1")
    assert (labels_of_changes(wrong, threshold) == 0).all()


def test_errors():
    with pytest.raises(ArgumentError, match="threshold='best' is not one of"):
        tune_threshold([], rule="best")
    with pytest.raises(InputError, match="no training pair was tested"):
        tune_threshold([(np.zeros((1, 1)), np.array([[-128]], np.int8))])
