"""From predicted changes of expression to classes (method G2).

A change of more than a threshold is up or down. The threshold comes from training perturbations:
either it calls as many pairs as are differentially expressed there, or it has the best macro F1.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from pertscale.arguments import checked
from pertscale.baselines._kernels import count_sizes, spread_evidence
from pertscale.errors import ArgumentError, InputError
from pertscale.evaluation.confusion_matrix import scores_from_confusion
from pertscale.schema import CLASSES, Label

Rule = Literal["match_rate", "macro_f1"]
RULES: Final = ("match_rate", "macro_f1")
#: Bits of a positive float32 that are dropped: thresholds have a precision of a thousandth.
_DROPPED_BITS: Final = 13
_N_BINS: Final = 1 << (31 - _DROPPED_BITS)


@checked
def labels_of_changes(change: NDArray, threshold: float) -> NDArray[np.int8]:
    """Return labels: up above the threshold, down below its negative; NaN is non-DE.

    Examples
    --------
    >>> ps.baselines.labels_of_changes(np.array([0.8, -0.1, -0.6, np.nan]), 0.5)
    array([ 1,  0, -1,  0], dtype=int8)
    """
    threshold = max(threshold, 0.0)  # no change is never called
    labels = np.asarray(np.greater(change, threshold), np.int8)
    labels -= np.less(change, -threshold)
    return labels


@checked
def scores_of_changes(change: NDArray) -> NDArray[np.float32]:
    """Return class scores (…, 3): ``|x| / (1 + |x|)`` to the direction of x, the rest to non-DE.

    Any signed evidence does: changes, or z statistics. They rank as ``|x|`` does; NaN is none.

    Examples
    --------
    >>> ps.baselines.scores_of_changes(np.array([3.0, -1.0]))  # down, non-DE, up
    array([[0.  , 0.25, 0.75],
           [0.5 , 0.5 , 0.  ]], dtype=float32)
    """
    evidence = np.asarray(change, np.float32, order="C")
    scores = np.empty((*evidence.shape, len(CLASSES)), np.float32)
    spread_evidence(evidence.reshape(-1), scores.reshape(-1, len(CLASSES)))
    return scores


@checked
def tune_threshold(
    blocks: Iterable[tuple[NDArray, NDArray]], *, rule: Rule = "match_rate"
) -> float:
    """Choose the threshold on training perturbations.

    Parameters
    ----------
    blocks
        Predicted changes (perturbation, gene) and observed labels of training perturbations, in
        blocks. Pairs that were not tested are left out.
    rule : {'match_rate', 'macro_f1'}
        Call as many pairs as are differentially expressed, as nearly as can be; or have the best
        macro F1. Of equally good thresholds the one with the fewest calls.

    Raises
    ------
    ArgumentError
        For an unknown rule.
    InputError
        No training pair was tested.

    Notes
    -----
    One pass. Memory: a block, and 13 MB of counts; sizes of changes have a precision of 0.1 %.

    Examples
    --------
    >>> change = np.array([[0.9, 0.2, -0.7, 0.1]])
    >>> truth = np.array([[1, 0, -1, 0]], np.int8)
    >>> threshold = ps.baselines.tune_threshold([(change, truth)])
    >>> ps.baselines.labels_of_changes(change, threshold)
    array([[ 1,  0, -1,  0]], dtype=int8)
    """
    if rule not in RULES:
        raise ArgumentError(f"threshold={rule!r} is not one of {', '.join(RULES)}")
    counts = np.zeros((len(CLASSES), 3, _N_BINS), np.int64)
    for change, truth in blocks:
        _count(counts, np.asarray(change), np.asarray(truth))
    n_pairs = int(counts.sum())
    if not n_pairs:
        raise InputError("no training pair was tested, so there is nothing to tune a threshold on")
    if rule == "match_rate":
        n_changed = int(counts[[0, 2]].sum())
        return _nearest(counts.sum(axis=(0, 1)), n_changed)
    return _best_macro_f1(counts)


def matching_rate(change: NDArray, rate: float) -> float:
    """Return the threshold that calls a given share of the changes; needs no truth."""
    counts = np.bincount(_bins(np.nan_to_num(change)).ravel(), minlength=_N_BINS)
    return _nearest(counts, round(rate * change.size))


def _bins(change: NDArray) -> NDArray[np.int64]:
    size = np.abs(np.ascontiguousarray(change, np.float32))
    return (size.view(np.uint32) >> np.uint32(_DROPPED_BITS)).astype(np.int64)


def _lower_edge(n: int) -> float:
    """Return the largest number below a bin: sizes of the bin are above it."""
    edge = np.array([n << _DROPPED_BITS], np.uint32).view(np.float32)[0]
    return float(np.nextafter(edge, np.float32(-1)))


def _count(counts: NDArray, change: NDArray, truth: NDArray) -> None:
    """Add pairs by true class, direction (down, none, up) and size."""
    bits = np.ascontiguousarray(np.atleast_2d(change), np.float32).view(np.uint32)
    labels = np.ascontiguousarray(np.atleast_2d(truth), np.int8)
    count_sizes(bits, labels, int(Label.UNTESTED), _DROPPED_BITS, counts)


def _nearest(by_size: NDArray, wanted: int) -> float:
    """Return the threshold that calls nearly `wanted` of the changes, which are counted by size."""
    called = np.cumsum(by_size[:0:-1])[::-1]  # from bin 1 on: no change is never called
    fewest = called[np.abs(called - wanted) == np.abs(called - wanted).min()].min()
    return _lower_edge(int(np.argmax(called == fewest)) + 1)


def _best_macro_f1(counts: NDArray) -> float:
    used = np.flatnonzero(counts.sum(axis=(0, 1))[1:]) + 1
    edges = np.append(used, used[-1] + 1) if len(used) else np.ones(1, int)  # the last calls none
    called = np.zeros((len(edges), len(CLASSES), len(CLASSES) + 1), np.int64)
    for direction, column in ((0, 0), (2, 2)):
        from_above = np.cumsum(counts[:, direction, used][:, ::-1], axis=1)[:, ::-1]
        called[:-1, :, column] = from_above.T
    called[:, :, 1] = counts.sum(axis=(1, 2)) - called.sum(axis=2)
    values = scores_from_confusion(called, labels="fixed")["macro_f1"]
    return _lower_edge(int(edges[np.flatnonzero(values == values.max())[-1]]))
