"""Scores of classes over all pairs in which some pairs count more than others (method P4)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from pertscale.arguments import checked
from pertscale.errors import InputError
from pertscale.evaluation.class_metrics import OF_AREAS, OF_COUNTS, ClassAreas, ClassCounts
from pertscale.evaluation.confusion_matrix import N_PREDICTED, Averaged
from pertscale.evaluation.metrics import METRICS
from pertscale.evaluation.operating_point import labels_at_threshold, threshold_at_rate
from pertscale.evaluation.resampling.bins import areas_of_bins
from pertscale.schema import AS_CALLED, AT_TRAINING_RATE, CLASS_NAMES, CLASSES, Label

_NON_DE = CLASSES.index(Label.NON_DE)
_GROUPS = {"overall": ("",), "class": CLASS_NAMES}


@checked
def evaluate_weighted(
    truth: ArrayLike,
    predicted: ArrayLike,
    *,
    weights: ArrayLike,
    scores: ArrayLike | None = None,
    labels: Averaged = "observed",
    training_rate: float | None = None,
) -> pd.DataFrame:
    """Score predicted classes over all pairs, each with a weight: its confidence, for instance.

    Parameters
    ----------
    truth, predicted : array_like (perturbation, gene)
        Labels, as of :func:`evaluate`.
    weights : array_like (perturbation, gene)
        Not negative: counts of pairs become sums of weights. Pairs with NaN or 0 are left out.
        :func:`pertscale.stats.confidence_matrix` has those of a screen.
    scores : array_like (perturbation, gene, 3), optional
        Class scores, as of :func:`evaluate`.
    labels, training_rate
        As of :func:`evaluate`. The share of pairs that is called at the training rate is of pairs
        with a weight, each counted once.

    Returns
    -------
    DataFrame
        Columns and metrics of :func:`evaluate` at the levels ``overall`` and ``class``; support,
        and what is called as what, are sums of weights. `n` is the number of pairs. Memory: a few
        copies of the weights.

    Raises
    ------
    InputError
        For shapes that do not fit, or weights that are negative or infinite.

    Examples
    --------
    >>> truth, predicted = np.array([[1, 0, 0]], np.int8), np.array([[1, 1, 0]], np.int8)
    >>> table = ps.evaluation.evaluate_weighted(truth, predicted, weights=[[1.0, 0.1, 0.9]])
    >>> float(table.query("metric == 'accuracy'")["value"].iloc[0])  # 2/3 without weights
    0.95
    """
    true, called = (np.asarray(x) for x in (truth, predicted))
    weight = np.asarray(weights, np.float64)
    given = None if scores is None else np.asarray(scores, np.float32)
    _check(true, called, weight, given)
    used = (true != Label.UNTESTED) & (weight > 0)
    true, called, weight = true[used], called[used], weight[used]
    at_point = {AS_CALLED: _sums(true, called, weight)}
    areas = None
    if given is not None:
        given = given[used]
        areas = ClassAreas.of(_areas(true, weight, given))
        if training_rate is not None:
            threshold = threshold_at_rate(
                *np.unique(given[:, _NON_DE], return_counts=True), training_rate
            )
            at_rate = labels_at_threshold(given, threshold)
            at_point[AT_TRAINING_RATE] = _sums(true, at_rate, weight)
    rows = _rows(at_point, areas, labels)
    columns = ["operating_point", "level", "group", "metric", "value"]
    return pd.DataFrame(rows, columns=columns).assign(n=len(true))


def _sums(true: NDArray, called: NDArray, weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the confusion matrix (3, 4) in weights."""
    row, column = np.searchsorted(CLASSES, true), np.searchsorted(CLASSES, called)
    column = np.where(called == Label.UNTESTED, len(CLASSES), column)
    shape = len(CLASSES), N_PREDICTED
    at = row * N_PREDICTED + column
    return _added(at, weight, shape[0] * shape[1]).reshape(shape)


def _added(at: NDArray, weight: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Return the sum of the weights at each place."""
    return np.asarray(np.bincount(at, weights=weight, minlength=n), np.float64)


def _areas(
    true: NDArray, weight: NDArray[np.float64], scores: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return areas (class, 3) over weights; a missing score is below all others."""
    areas = np.empty((len(CLASSES), 3))
    for at, label in enumerate(CLASSES):
        of_class = scores[:, at]
        lowest = np.where(np.isnan(of_class), -np.inf, of_class)
        distinct, which = np.unique(lowest, return_inverse=True)
        side = (true == label).astype(np.intp)
        sums = _added(2 * which + side, weight, 2 * len(distinct))
        n_missing = int(np.isnan(of_class).any())
        areas[at] = areas_of_bins(sums.reshape(1, -1, 2), n_missing)[0]
    return areas


def _rows(
    at_point: Mapping[str, NDArray[np.float64]], areas: ClassAreas | None, labels: Averaged
) -> Iterator[tuple[str, str, str, str, float]]:
    """Yield the rows in the order of :func:`pertscale.evaluation.evaluate`."""
    for point, cells in at_point.items():
        counts = ClassCounts.of(cells, labels=labels)
        for level, groups in _GROUPS.items():
            values: dict[str, Any] = {
                name: metric(counts)
                for name, metric in OF_COUNTS[level].items()
                if METRICS[name].needs_calls or point == AS_CALLED
            }
            if areas is not None and point == AS_CALLED:
                values |= {name: metric(areas) for name, metric in OF_AREAS[level].items()}
            for at, group in enumerate(groups):
                for name in (name for name in METRICS if name in values):
                    of_point = point if METRICS[name].needs_calls else ""
                    value = float(np.atleast_1d(values[name])[at])
                    yield of_point, level, group, name, value


def _check(
    true: NDArray, called: NDArray, weight: NDArray[np.float64], scores: NDArray | None
) -> None:
    shapes = [true.shape, called.shape, weight.shape]
    wanted = (*true.shape, len(CLASSES))
    if len(set(shapes)) > 1 or (scores is not None and scores.shape != wanted):
        told = ", ".join(map(str, shapes))
        more = "" if scores is None else f", scores {scores.shape}"
        raise InputError(
            f"truth, predicted and weights have shapes {told}{more}; the first three need the "
            f"same, scores {wanted}"
        )
    if (weight < 0).any() or np.isinf(weight).any():
        raise InputError("weights are negative or infinite; they have to be 0 or more, or NaN")
    known = (*CLASSES, int(Label.UNTESTED))
    for what, values in (("truth", true), ("predicted", called)):
        if not np.isin(values, known).all():
            raise InputError(f"{what} has codes that are no labels; these are {known}")
