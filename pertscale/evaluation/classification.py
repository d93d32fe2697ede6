"""Score predicted classes against the truth, as a tidy table (method F)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from pertscale.arguments import checked
from pertscale.errors import InputError, PertscaleWarning
from pertscale.evaluation.confusion_matrix import Averaged, scores_from_confusion
from pertscale.evaluation.metrics import METRICS
from pertscale.evaluation.operating_point import threshold_at_rate
from pertscale.evaluation.ranking import RankCounts
from pertscale.evaluation.sweeps import Ranked, Sweep
from pertscale.schema import AS_CALLED, AT_TRAINING_RATE, CLASS_NAMES, CLASSES, Label

_COLUMNS: Final = ("operating_point", "level", "group", "metric", "value", "n")
_NON_DE: Final = CLASSES.index(Label.NON_DE)

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
    shape = _check_shapes(truth, predicted, scores, perturbations)
    left_out = _positions(exclude, shape)
    sweep = Sweep(truth, predicted, scores, left_out)
    counted, rankings = sweep.count()
    whole, rest = _areas_of(rankings, training_rate, both=len(left_out) > 0)
    frames = []
    for i, curves in enumerate((whole, rest) if len(left_out) else (whole,)):
        areas, counts = curves.areas(counted.areas[i]), counted.counts[i]
        rows = _Table(AS_CALLED, counts, perturbations, labels, areas).rows()
        if curves.threshold is not None:
            counts = sweep.count_at(curves.threshold, rest=i > 0)
            rows += _Table(AT_TRAINING_RATE, counts, perturbations, labels).rows()
        frames.append(pd.DataFrame(rows, columns=list(_COLUMNS)))
    return frames[0], frames[-1]


@dataclass
class _Curves:
    """Areas of all classes; of change; and the score up to which pairs are called at a rate."""

    auroc: list[float] = field(default_factory=list)
    auprc: list[float] = field(default_factory=list)
    auprc_of_change: float = np.nan
    threshold: float | None = None

    def add(self, ranking: RankCounts, rate: float | None) -> None:
        """Add the areas of the next class."""
        self.auroc.append(ranking.auroc())
        self.auprc.append(ranking.average_precision())
        if len(self.auroc) - 1 == _NON_DE:
            self.auprc_of_change = ranking.average_precision_reversed()
            if rate is not None:
                self.threshold = threshold_at_rate(*ranking.distinct(), rate)

    def areas(self, within: NDArray[np.float64] | None) -> _Areas | None:
        """Return them with those within perturbations; None without scores."""
        if within is None:
            return None
        of_classes = np.array(self.auroc), np.array(self.auprc)
        return _Areas(*of_classes, self.auprc_of_change, within)


def _areas_of(
    rankings: Iterator[Ranked], rate: float | None, *, both: bool
) -> tuple[_Curves, _Curves]:
    """Return the areas of all pairs, and of the rest; one ranking is held at a time."""
    whole, rest = _Curves(), _Curves()
    for ranked in rankings:
        whole.add(ranked.ranking, rate)
        if both:
            ranked.leave_out()
            rest.add(ranked.ranking, rate)
        _warn_if_rounded(ranked.ranking)
    return whole, rest


# --- metrics --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Counts:
    """Confusion counts (..., 3, 4), which metrics of calls and of the truth are functions of.

    `scores` are what :func:`scores_from_confusion` makes of them.
    """

    cells: NDArray[np.int64]
    scores: Mapping[str, NDArray[np.float64]]

    @property
    def n(self) -> NDArray[np.int64]:
        """Pairs, (...)."""
        return np.asarray(self.cells.sum(axis=(-1, -2)))

    def share(self, n: NDArray[np.int64]) -> NDArray[np.float64]:
        """Divide numbers of pairs by all; NaN where there is none."""
        undefined = np.full(self.n.shape, np.nan)
        return np.divide(n, self.n, out=undefined, where=self.n > 0)

    @property
    def share_called(self) -> NDArray[np.float64]:
        """Share of the pairs that are called differentially expressed."""
        called = self.cells[..., : len(CLASSES)].sum(axis=(-1, -2))
        return self.share(called - self.cells[..., _NON_DE].sum(axis=-1))

    @property
    def share_de(self) -> NDArray[np.float64]:
        """Share of the pairs that are differentially expressed."""
        return self.share(self.n - self.cells[..., _NON_DE, :].sum(axis=-1))


@dataclass(frozen=True)
class _Areas:
    """What scores say without a call: per class, of change, and within the perturbations."""

    auroc: NDArray[np.float64]
    auprc: NDArray[np.float64]
    auprc_of_change: float
    auroc_by_perturbation: NDArray[np.float64]

    @property
    def auprc_macro(self) -> float:
        """Mean of the average precision of up and of down, where there are such pairs."""
        directions = np.delete(self.auprc, _NON_DE)
        defined = directions[~np.isnan(directions)]
        return float(defined.mean()) if len(defined) else np.nan


#: Metrics by level and name, as functions of confusion counts: a value for each class or
#: perturbation, or one.
OF_COUNTS: Final[Mapping[str, Mapping[str, Callable[[_Counts], NDArray[Any]]]]] = {
    "overall": {
        "accuracy": lambda counts: counts.scores["accuracy"],
        "balanced_accuracy": lambda counts: counts.scores["balanced_accuracy"],
        "macro_f1": lambda counts: counts.scores["macro_f1"],
        "mcc": lambda counts: counts.scores["mcc"],
        "share_called": lambda counts: counts.share_called,
        "share_de": lambda counts: counts.share_de,
    },
    "class": {
        "precision": lambda counts: counts.scores["precision"],
        "recall": lambda counts: counts.scores["recall"],
        "f1": lambda counts: counts.scores["f1"],
        "support": lambda counts: counts.scores["support"],
        "n_predicted_down": lambda counts: counts.cells[..., CLASSES.index(Label.DOWN)],
        "n_predicted_non_de": lambda counts: counts.cells[..., _NON_DE],
        "n_predicted_up": lambda counts: counts.cells[..., CLASSES.index(Label.UP)],
        "n_predicted_none": lambda counts: counts.cells[..., len(CLASSES)],
    },
    "perturbation": {
        "accuracy": lambda counts: counts.scores["accuracy"],
        "balanced_accuracy": lambda counts: counts.scores["balanced_accuracy"],
        "macro_f1": lambda counts: counts.scores["macro_f1"],
    },
}
#: The same of areas.
OF_AREAS: Final[Mapping[str, Mapping[str, Callable[[_Areas], Any]]]] = {
    "overall": {
        "auprc_de": lambda areas: areas.auprc_of_change,
        "auprc_macro": lambda areas: areas.auprc_macro,
    },
    "class": {"auroc": lambda areas: areas.auroc, "auprc": lambda areas: areas.auprc},
    "perturbation": {"auroc": lambda areas: areas.auroc_by_perturbation},
}


# --- rows of the table ----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Table:
    """What the rows of an operating point are made of; those that need no point come as called.

    Attributes
    ----------
    point : str
    counts : ndarray (perturbation, 3, 4)
        Confusion counts.
    perturbations : sequence of str
    labels : {'observed', 'all'}
        Classes that are averaged over.
    areas : _Areas, optional
    """

    point: str
    counts: NDArray[np.int64]
    perturbations: Sequence[str]
    labels: Averaged
    areas: _Areas | None = None

    def rows(self) -> list[Row]:
        """Return the rows of all levels."""
        total = self.counts.sum(axis=0)
        return [
            *self._level("overall", [""], total),
            *self._level("class", CLASS_NAMES, total),
            *self._level("perturbation", self.perturbations, self.counts),
        ]

    def _level(self, level: str, groups: Sequence[str], cells: NDArray[np.int64]) -> Iterator[Row]:
        """Yield the rows of a level, in the order of the groups, then of :data:`METRICS`."""
        counts = _Counts(cells, scores_from_confusion(cells, labels=self.labels))
        values: dict[str, Any] = {
            name: metric(counts)
            for name, metric in OF_COUNTS[level].items()
            if METRICS[name].needs_calls or self.point == AS_CALLED
        }
        if self.areas is not None:
            values |= {name: metric(self.areas) for name, metric in OF_AREAS[level].items()}
        columns = [
            (self.point if metric.needs_calls else "", name, np.atleast_1d(values[name]))
            for name, metric in METRICS.items()
            if name in values
        ]
        n = np.broadcast_to(counts.n, len(groups))
        for (at, group), (point, name, column) in product(enumerate(groups), columns):
            yield point, level, str(group), name, float(column[at]), int(n[at])


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
