"""Scores of classes as functions of sums over perturbations (method N2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pertscale.evaluation.class_metrics import OF_AREAS, OF_COUNTS, ClassAreas, ClassCounts
from pertscale.evaluation.metrics import METRICS
from pertscale.evaluation.resampling.bins import areas_of_bins
from pertscale.evaluation.resampling.draws import Draws
from pertscale.evaluation.resampling.versions import Versions, totals, versions
from pertscale.schema import CLASS_NAMES

#: Operating point, level, group and metric of a score.
ScoreKey = tuple[str, str, str, str]
_GROUPS = {"overall": ("",), "class": CLASS_NAMES}


@dataclass(frozen=True, eq=False)
class PairSums:
    """Of each perturbation, what the scores of a prediction of classes are functions of.

    Attributes
    ----------
    called : mapping of str to ndarray (perturbation, 3, 4)
        Confusion counts by operating point.
    bins : tuple of ndarray (perturbation, bin, 2)
        Negatives and positives by bin of the scores of each class; empty without scores.
    n_missing : tuple of int
        Of each class, how many of the lowest bins are of missing scores.
    """

    called: Mapping[str, NDArray[np.integer]]
    bins: tuple[NDArray[np.integer], ...] = ()
    n_missing: tuple[int, ...] = ()


def resampled_scores(
    sums: PairSums, draws: Draws, perturbations: Sequence[str]
) -> tuple[list[ScoreKey], Versions]:
    """Return the scores that have a better side, on each version of a table.

    Areas are of bins: those of the table as it is are near the exact ones, to which
    :meth:`Versions.shifted_to` moves them.
    """
    columns: list[tuple[ScoreKey, NDArray[np.float64]]] = []
    for point, cells in sums.called.items():
        counts = ClassCounts.of(totals(draws, perturbations, cells))
        columns += _of_counts(counts, point)
    if sums.bins:
        found = [
            areas_of_bins(totals(draws, perturbations, counts, dtype=np.float32), n_missing)
            for counts, n_missing in zip(sums.bins, sums.n_missing, strict=True)
        ]
        columns += _of_areas(ClassAreas.of(np.stack(found, axis=1)))
    keys = [key for key, _ in columns]
    return keys, versions(draws, perturbations, np.stack([x for _, x in columns], axis=1))


def scores_of_sums(sums: PairSums, rows: NDArray[np.intp]) -> Iterator[tuple[ScoreKey, float]]:
    """Yield the same scores of some perturbations, by their rows; areas are of bins."""
    columns: list[tuple[ScoreKey, NDArray[np.float64]]] = []
    for point, cells in sums.called.items():
        columns += _of_counts(ClassCounts.of(cells[rows].sum(axis=0, dtype=np.int64)[None]), point)
    if sums.bins:
        found = [
            areas_of_bins(counts[rows].sum(axis=0, dtype=np.float32)[None], n_missing)
            for counts, n_missing in zip(sums.bins, sums.n_missing, strict=True)
        ]
        columns += _of_areas(ClassAreas.of(np.stack(found, axis=1)))
    yield from ((key, float(values[0])) for key, values in columns)


def _of_counts(counts: ClassCounts, point: str) -> Iterator[tuple[ScoreKey, NDArray[np.float64]]]:
    for level, groups in _GROUPS.items():
        for name, metric in OF_COUNTS[level].items():
            if METRICS[name].needs_calls and METRICS[name].greater_is_better is not None:
                values = metric(counts).reshape(-1, len(groups))
                yield from (((point, level, g, name), values[:, i]) for i, g in enumerate(groups))


def _of_areas(areas: ClassAreas) -> Iterator[tuple[ScoreKey, NDArray[np.float64]]]:
    for level, groups in _GROUPS.items():
        for name, metric in OF_AREAS[level].items():
            values = metric(areas).reshape(-1, len(groups))
            yield from ((("", level, g, name), values[:, i]) for i, g in enumerate(groups))
