"""Score predicted classes against the truth, as a tidy table (method F)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from pertscale.arguments import checked
from pertscale.errors import InputError, PertscaleWarning
from pertscale.evaluation.class_metrics import (
    NON_DE,
    OF_AREAS,
    OF_COUNTS,
    ClassAreas,
    ClassCounts,
)
from pertscale.evaluation.confusion_matrix import Averaged
from pertscale.evaluation.metrics import METRICS
from pertscale.evaluation.operating_point import threshold_at_rate
from pertscale.evaluation.ranking import RankCounts
from pertscale.evaluation.resampling.bins import Bins
from pertscale.evaluation.resampling.pairs import PairSums
from pertscale.evaluation.sweeps import Ranked, Sweep
from pertscale.schema import AS_CALLED, AT_TRAINING_RATE, CLASS_NAMES, CLASSES

_COLUMNS: Final = ("operating_point", "level", "group", "metric", "value", "n")

Row = tuple[str, str, str, str, float, int]


@checked
def evaluate(
    truth: Any,
    predicted: Any,
    *,
    perturbations: Sequence[str],
    scores: Any = None,
    exclude: ArrayLike | None = None,
    labels: Averaged = "observed",
    training_rate: float | None = None,
) -> pd.DataFrame:
    """Score predicted labels, and class scores where there are any, against observed labels.

    Parameters
    ----------
    truth, predicted
        Labels of shape (perturbation, gene), NumPy, Zarr or Dask arrays. Pairs whose truth is
        ``Label.UNTESTED`` are left out; a tested pair predicted as ``UNTESTED`` counts as wrong.
    perturbations
        Names of the rows.
    scores
        Class scores of shape (perturbation, gene, 3), class axis in the order of
        ``schema.CLASSES``, float32 precision. A pair with NaN ranks below all others.
    exclude
        (row, gene) positions to leave out, shape (n, 2): the target genes, for instance. Their
        truth is taken as untested.
    labels
        Classes that macro F1 averages over; see :func:`scores_from_confusion`. By default those
        that occur in the truth, so what is true of all methods alike decides about what is scored.
    training_rate
        Share of differentially expressed pairs in training. With it, pairs are scored at a second
        operating point: that share of them is called, those with the highest ``1 - score of
        non_de``, as the likelier direction (:func:`threshold_at_rate` says what ties do).

    Returns
    -------
    pandas.DataFrame
        Columns ``operating_point, level, group, metric, value, n``, in a fixed order. Level
        ``overall``: accuracy, balanced_accuracy, macro_f1, mcc, share_called; share_de; auprc_de
        (of differentially expressed pairs against the others, by ``1 - score of non_de``) and
        auprc_macro. Level ``class``, per true class: precision, recall, f1, support, auroc and
        auprc against the rest, and the row of the confusion matrix. Level ``perturbation``:
        accuracy, balanced_accuracy, macro_f1, and auroc of differentially expressed genes against
        the others. The areas are there only if `scores` is given; like support and share_de they
        need no calls, and have no operating point. The rows ``at_training_rate`` come last. `n` is
        the number of pairs behind the row: those of the perturbation, else all. A value is NaN
        where it is not defined.

    Raises
    ------
    InputError
        For shapes that do not fit, positions outside the matrix, or codes that are not labels.

    Warns
    -----
    PertscaleWarning
        If there are so many distinct scores that they were rounded to bound the memory.

    Notes
    -----
    Dask arrays are computed a few blocks at a time. The chunks of the last lazy one of `truth`,
    `predicted` and `scores` are the blocks, and each is computed once; of the other arrays, chunks
    that span several blocks are computed again for each, so give them the same chunks. The second
    operating point is known when all scores are: `truth` and `scores` are then computed once more.
    Memory: those blocks, 8 bytes per pair of one row of chunks, and what :class:`RankCounts` needs,
    for each of the three classes. Of arrays in memory and Zarr arrays one class is ranked at a
    time.

    References
    ----------
    Sun, Zhu and Chen (2026), https://openreview.net/forum?id=EZ2KZwM1mR

    Examples
    --------
    >>> truth = np.array([[1, 0, -1], [0, 0, 1]], np.int8)
    >>> predicted = np.array([[1, 0, 0], [0, 0, 1]], np.int8)
    >>> table = ps.evaluation.evaluate(truth, predicted, perturbations=["GATA1", "KLF1"])
    >>> table[table["level"] == "overall"][["metric", "value"]].round(3)
                  metric  value
    0           accuracy  0.833
    1  balanced_accuracy  0.667
    2           macro_f1  0.619
    3                mcc  0.746
    4       share_called  0.333
    5           share_de  0.500
    """
    tables = evaluate_both(
        truth,
        predicted,
        perturbations=perturbations,
        scores=scores,
        exclude=exclude,
        labels=labels,
        training_rate=training_rate,
    )
    return tables[1]


@checked
def evaluate_both(
    truth: Any,
    predicted: Any,
    *,
    perturbations: Sequence[str],
    scores: Any = None,
    exclude: ArrayLike | None = None,
    labels: Averaged = "observed",
    training_rate: float | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score all pairs, and all but those to exclude, from one pass over the matrices.

    Parameters and errors are those of :func:`evaluate`.

    Returns
    -------
    tuple of DataFrame
        As of :func:`evaluate`: of all pairs, and without `exclude`; the same table twice where
        nothing is to be excluded.

    Examples
    --------
    >>> labels = np.array([[-1, 0, 1], [0, 0, 1]], np.int8)
    >>> every, rest = ps.evaluation.evaluate_both(
    ...     labels, labels, perturbations=["GATA1", "KLF1"], exclude=[(0, 0)]
    ... )
    >>> int(every["n"].max()), int(rest["n"].max())  # pairs, with and without GATA1 itself
    (6, 5)
    """
    both = scored_both(
        truth,
        predicted,
        perturbations=perturbations,
        scores=scores,
        exclude=exclude,
        labels=labels,
        training_rate=training_rate,
        keep_sums=False,
    )
    return both[0].table, both[1].table


@dataclass(frozen=True, eq=False)
class ScoredPairs:
    """A table of scores, and what resampling needs to know of each perturbation, if it is kept.

    `threshold` is the score of non_de up to which pairs were called at the training rate.
    """

    table: pd.DataFrame
    sums: PairSums | None
    threshold: float | None = None


def scored_both(
    truth: Any,
    predicted: Any,
    *,
    perturbations: Sequence[str],
    scores: Any = None,
    exclude: ArrayLike | None = None,
    labels: Averaged = "observed",
    training_rate: float | None = None,
    threshold: float | None = None,
    keep_sums: bool = True,
) -> tuple[ScoredPairs, ScoredPairs]:
    """Return the tables of :func:`evaluate_both` with the sums that they are functions of.

    With `threshold` pairs are called up to it, whichever share of them that is.
    """
    shape = _check_shapes(truth, predicted, scores, perturbations)
    left_out = _positions(exclude, shape)
    sweep = Sweep(truth, predicted, scores, left_out)
    counted, rankings = sweep.count()
    found = _areas_of(rankings, training_rate, both=len(left_out) > 0, keep_bins=keep_sums)
    limits = [f.threshold if threshold is None else threshold for f in found]
    counts_at, bins = sweep.count_again(limits, found[0].bins)
    scored = []
    for i in range(2 if len(left_out) else 1):
        called = {AS_CALLED: counted.counts[i]}
        if limits[0] is not None:
            called[AT_TRAINING_RATE] = counts_at[i]
        areas = found[i].areas(counted.areas[i])
        table = _table(called, perturbations, labels, areas)
        n_missing = tuple(one.n_missing for one in found[0].bins)
        sums = PairSums(called, tuple(of_class[i] for of_class in bins), n_missing)
        scored.append(ScoredPairs(table, sums if keep_sums else None, limits[i]))
    return scored[0], scored[-1]


@dataclass
class _Curves:
    """Areas of all classes; the score up to which pairs are called at a rate; bins of scores."""

    of_classes: list[tuple[float, float, float]] = field(default_factory=list)
    threshold: float | None = None
    bins: list[Bins] = field(default_factory=list)

    def add(self, ranking: RankCounts, rate: float | None) -> None:
        """Add the areas of the next class."""
        is_non_de = len(self.of_classes) == NON_DE
        reversed_ = ranking.average_precision_reversed() if is_non_de else np.nan
        self.of_classes.append((ranking.auroc(), ranking.average_precision(), reversed_))
        if is_non_de and rate is not None:
            self.threshold = threshold_at_rate(*ranking.distinct(), rate)

    def areas(self, within: NDArray[np.float64] | None) -> ClassAreas | None:
        """Return them with those within perturbations; None without scores."""
        return None if within is None else ClassAreas.of(np.array(self.of_classes), within)


def _areas_of(
    rankings: Iterator[Ranked], rate: float | None, *, both: bool, keep_bins: bool
) -> tuple[_Curves, _Curves]:
    """Return the areas of all pairs, and of the rest; one ranking is held at a time."""
    whole, rest = _Curves(), _Curves()
    for ranked in rankings:
        whole.add(ranked.ranking, rate)
        if keep_bins:
            whole.bins.append(ranked.ranking.bins())
        if both:
            ranked.leave_out()
            rest.add(ranked.ranking, rate)
        _warn_if_rounded(ranked.ranking)
    return whole, rest


# --- rows of the table ----------------------------------------------------------------------------


def _table(
    called: Mapping[str, NDArray[np.int64]],
    perturbations: Sequence[str],
    labels: Averaged,
    areas: ClassAreas | None,
) -> pd.DataFrame:
    """Return the rows of counts (perturbation, 3, 4) by operating point.

    Those that need no point come with the first.
    """
    rows: list[Row] = []
    for point, counts in called.items():
        total = counts.sum(axis=0)
        levels = (
            ("overall", [""], total),
            ("class", CLASS_NAMES, total),
            ("perturbation", perturbations, counts),
        )
        of_point = areas if point == AS_CALLED else None
        for level, groups, cells in levels:
            rows += _level(level, groups, ClassCounts.of(cells, labels=labels), point, of_point)
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def _level(
    level: str, groups: Sequence[str], counts: ClassCounts, point: str, areas: ClassAreas | None
) -> Iterator[Row]:
    """Yield the rows of a level, in the order of the groups, then of :data:`METRICS`."""
    values: dict[str, Any] = {
        name: metric(counts)
        for name, metric in OF_COUNTS[level].items()
        if METRICS[name].needs_calls or point == AS_CALLED
    }
    if areas is not None:
        values |= {name: metric(areas) for name, metric in OF_AREAS[level].items()}
    columns = [
        (point if metric.needs_calls else "", name, np.atleast_1d(values[name]))
        for name, metric in METRICS.items()
        if name in values
    ]
    n = np.broadcast_to(counts.n, len(groups))
    for (at, group), (at_point, name, column) in product(enumerate(groups), columns):
        yield at_point, level, str(group), name, float(column[at]), int(n[at])


# --- checks -------------------------------------------------------------------------------------


def _check_shapes(
    truth: Any, predicted: Any, scores: Any, perturbations: Sequence[str]
) -> tuple[int, int]:
    """Return the common shape (perturbation, gene)."""
    shape = tuple(truth.shape)
    if len(shape) != 2 or shape[0] != len(perturbations) or not shape[0]:
        raise InputError(
            f"truth has shape {shape} with {len(perturbations)} perturbation names; it needs the "
            "shape (perturbation, gene), at least one row, and one name per row"
        )
    if tuple(predicted.shape) != shape:
        raise InputError(
            f"predicted has shape {tuple(predicted.shape)} and truth {shape}; align the "
            "perturbations and genes of the prediction to the truth first"
        )
    if scores is not None and tuple(scores.shape) != (*shape, len(CLASSES)):
        raise InputError(
            f"scores has shape {tuple(scores.shape)}; with truth of shape {shape} it has to be "
            f"{(*shape, len(CLASSES))}, classes in the order {CLASS_NAMES}"
        )
    return shape


def _positions(exclude: ArrayLike | None, shape: tuple[int, int]) -> NDArray[np.intp]:
    """Return the (row, gene) positions to leave out, shape (n, 2)."""
    if exclude is None:
        return np.empty((0, 2), dtype=np.intp)
    positions = np.unique(np.asarray(exclude, dtype=np.intp).reshape(-1, 2), axis=0)
    outside = ((positions < 0) | (positions >= shape)).any(axis=1)
    if outside.any():
        raise InputError(
            f"exclude names the position {tuple(positions[outside][0].tolist())}, which is not in "
            f"a matrix of shape {shape}; give (row, gene) positions counted from 0"
        )
    return positions


def _warn_if_rounded(ranking: RankCounts) -> None:
    if ranking.rounded_bits:
        warnings.warn(
            f"more than {ranking.max_distinct:,} distinct scores: the areas of classes were "
            f"computed on scores without their last {ranking.rounded_bits} bits",
            PertscaleWarning,
            stacklevel=3,
        )
