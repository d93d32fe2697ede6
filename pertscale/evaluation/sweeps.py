"""Sweeps over the matrices of a prediction, block by block: counts, rankings, areas."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, TypeVar, cast

import dask
import numpy as np
from numpy.typing import NDArray

from pertscale._computing import compute
from pertscale.evaluation.confusion_matrix import called_per_row, confusion_per_row
from pertscale.evaluation.line_areas import Positions, areas_of_change, packed_pairs
from pertscale.evaluation.ranking import RankCounts, Tally, tally_class
from pertscale.evaluation.resampling.bins import Bins
from pertscale.schema import CLASSES, Label

#: Pairs in a block of matrices that are in memory, and blocks of lazy ones computed at a time.
_BLOCK_PAIRS: Final = 2**20
_BLOCKS_AT_A_TIME: Final = 4

T = TypeVar("T")


@dataclass(frozen=True)
class Counted:
    """What one sweep finds of all pairs, and of those that are not left out.

    Attributes
    ----------
    counts : tuple of ndarray (perturbation, 3, 4)
        Confusion counts.
    areas : tuple of ndarray (perturbation,), or of None
        Under the ROC curve of change within each perturbation; None without scores.
    """

    counts: tuple[NDArray[np.int64], NDArray[np.int64]]
    areas: tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]


@dataclass(frozen=True)
class Ranked:
    """The scores of a class, ranked; and what to take out of that for the rest."""

    ranking: RankCounts
    left: list[Tally]

    def leave_out(self) -> None:
        """Go from all pairs to the rest."""
        for tally in self.left:
            self.ranking.remove_tally(tally)


class Sweep:
    """Truth, predicted labels and class scores of the same pairs, gone through in blocks.

    Arrays in memory or in a Zarr store are read as often as needed: once per class, so that one
    ranking at a time is held. Dask arrays are computed once for all of it.

    Parameters
    ----------
    truth, predicted : array (perturbation, gene)
        NumPy, Zarr or Dask.
    scores : array (perturbation, gene, 3), optional
    left_out : ndarray (n, 2)
        Row and gene of the pairs to leave out.
    """

    def __init__(self, truth: Any, predicted: Any, scores: Any, left_out: NDArray[np.intp]) -> None:
        self._arrays = (truth, predicted, scores)
        self._left_out = left_out
        self._lazy = any(map(dask.is_dask_collection, self._arrays))
        self._strips = list(strips(*self._arrays))

    def count(self) -> tuple[Counted, Iterator[Ranked]]:
        """Count pairs as they are called; then rank the scores of one class after the other."""
        columns = range(len(CLASSES)) if self._arrays[2] is not None else range(0)
        ranked = [Ranked(RankCounts(), []) for _ in columns]
        found = [self._strip(*strip, ranked) for strip in self._strips]
        counts, areas = (np.concatenate(column, axis=1) for column in zip(*found, strict=True))
        per_row = (areas[0], areas[1]) if len(columns) else (None, None)
        rankings = iter(ranked) if self._lazy else map(self._ranked, columns)
        return Counted((counts[0], counts[1]), per_row), rankings

    def count_again(
        self, thresholds: Sequence[float | None], bins: Sequence[Bins]
    ) -> tuple[NDArray[np.int64], list[NDArray[np.uint32]]]:
        """Count pairs as called at thresholds, and in bins of the scores of each class.

        Parameters
        ----------
        thresholds : sequence of float or None
            That of all pairs, and that of the rest.
        bins : sequence of Bins
            Of each class, or none.

        Returns
        -------
        tuple of (ndarray (2, perturbation, 3, 4), list of ndarray (2, perturbation, bin, 2))
            Of all pairs and of the rest. The first is empty without thresholds; without anything
            to count the matrices are not read.
        """
        truth, _, scores = self._arrays
        if scores is None or (thresholds[0] is None and not bins):
            return np.empty((2, 0, 3, 4), np.int64), []
        found = []
        for rows, columns in self._strips:
            calls = [
                (truth[rows, g], scores[rows, g], thresholds, bins, self._here(rows, g))
                for g in columns
            ]
            blocks = list(_computed(_count_again, calls))
            found.append(
                [np.sum(parts, axis=0, dtype=parts[0].dtype) for parts in zip(*blocks, strict=True)]
            )
        called, *in_bins = (np.concatenate(parts, axis=1) for parts in zip(*found, strict=True))
        return called, in_bins

    def _strip(
        self, rows: slice, columns: list[slice], ranked: list[Ranked]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return counts (2, row, 3, 4) and areas (2, row) of a strip; Dask's scores are ranked."""
        tallied = range(len(ranked) if self._lazy else 0)
        calls = [
            (*self._block(rows, genes), tallied, self._here(rows, genes), (rows.start, genes.start))
            for genes in columns
        ]
        counts, lines = [], []
        for block in _computed(_look, calls):
            counts.append(block.counts)
            lines.append(block.packed)
            for one, tally, left in zip(ranked, block.tallies, block.left, strict=False):
                one.ranking.add_tally(tally)
                one.left.append(left)
        packed = np.concatenate(lines, axis=1) if len(lines) > 1 else lines[0]
        return np.sum(counts, axis=0), areas_of_change(packed).T

    def _ranked(self, column: int) -> Ranked:
        """Rank the scores of a class."""
        truth, _, scores = self._arrays
        ranked = Ranked(RankCounts(), [])
        for rows, columns in self._strips:
            for genes in columns:
                of_block = np.asarray(truth[rows, genes]), np.asarray(scores[rows, genes])
                ranked.ranking.add_tally(tally_class(*of_block, column=column))
                ranked.left.append(_tally_left(*of_block, self._here(rows, genes), column))
        return ranked

    def _block(self, rows: slice, genes: slice) -> list[Any]:
        return [None if array is None else array[rows, genes] for array in self._arrays]

    def _here(self, rows: slice, genes: slice) -> Positions:
        """Return the positions to leave out that are in a block, counted from its corner."""
        row, gene = self._left_out.T
        here = (row >= rows.start) & (row < rows.stop) & (gene >= genes.start) & (gene < genes.stop)
        return row[here] - rows.start, gene[here] - genes.start


def strips(*arrays: Any) -> Iterator[tuple[slice, list[slice]]]:
    """Yield ranges of perturbations, with the ranges of genes that each is read in.

    They are the chunks of the last array that is lazy, or on disk.
    """
    n_rows, n_genes = arrays[0].shape
    row_chunks = _sizes(n_rows, max(1, _BLOCK_PAIRS // max(1, n_genes)))
    gene_chunks = _sizes(n_genes, n_genes)
    for array in arrays:
        if dask.is_dask_collection(array):
            row_chunks, gene_chunks = array.chunks[:2]
        elif hasattr(array, "chunks"):
            row_chunks = _sizes(n_rows, array.chunks[0])
            at_once = _BLOCK_PAIRS // array.chunks[0] // array.chunks[1]
            gene_chunks = _sizes(n_genes, max(1, at_once) * array.chunks[1])
    for rows in _slices(row_chunks):
        yield rows, list(_slices(gene_chunks))


def _sizes(n: int, step: int) -> list[int]:
    return [min(step, n - start) for start in range(0, n, step)]


def _slices(sizes: Sequence[int]) -> Iterator[slice]:
    edges = np.cumsum([0, *sizes]).tolist()
    return (slice(start, stop) for start, stop in pairwise(edges))


def _computed(function: Callable[..., T], calls: Sequence[tuple[Any, ...]]) -> Iterator[T]:
    """Call with what Dask computes, a few together; one by one where nothing is lazy."""
    if not any(dask.is_dask_collection(argument) for call in calls for argument in call):
        yield from (function(*call) for call in calls)
        return
    delayed = dask.delayed(function, pure=False)
    for first in range(0, len(calls), _BLOCKS_AT_A_TIME):
        some = [delayed(*call) for call in calls[first : first + _BLOCKS_AT_A_TIME]]
        yield from cast(Sequence[T], compute(*some))


@dataclass(frozen=True)
class _Block:
    """What is kept of a block: counts (2, row, 3, 4), packed pairs, and tallies of classes."""

    counts: NDArray[np.int64]
    packed: NDArray[np.uint64]
    tallies: list[Tally]
    left: list[Tally]


def _look(
    truth: NDArray[np.integer],
    predicted: NDArray[np.integer],
    scores: NDArray[np.floating] | None,
    tallied: Sequence[int],
    left_out: Positions,
    origin: tuple[int, int],
) -> _Block:
    """Count a block, and pack its pairs; tally the scores of some classes."""
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    every = confusion_per_row(truth, predicted, origin=origin)
    rest = every.copy()
    if len(left_out[0]):
        left = confusion_per_row(truth[left_out][:, None], predicted[left_out][:, None])
        np.subtract.at(rest, left_out[0], left)
    counts = np.stack([every, rest])
    if scores is None:
        return _Block(counts, np.empty((len(truth), 0), np.uint64), [], [])
    return _Block(
        counts,
        packed_pairs(truth, scores, left_out),
        [tally_class(truth, scores, column=column) for column in tallied],
        [_tally_left(truth, scores, left_out, column) for column in tallied],
    )


def _tally_left(
    truth: NDArray[np.integer], scores: NDArray[np.floating], left_out: Positions, column: int
) -> Tally:
    """Count the scores of a class among the pairs to leave out."""
    return tally_class(truth[left_out][None], scores[left_out][None], column=column)


def _count_again(
    truth: NDArray[np.integer],
    scores: NDArray[np.floating],
    thresholds: Sequence[float | None],
    bins: Sequence[Bins],
    left_out: Positions,
) -> list[NDArray[Any]]:
    """Count a block, all pairs and the rest: as called at thresholds, then in bins by class."""
    truth, scores = np.asarray(truth), np.asarray(scores)
    found: list[NDArray[Any]] = [np.empty((2, len(truth), 0, 0), np.int64)]
    of_all, of_rest = thresholds
    if of_all is not None:
        rest_calls = calls = called_per_row(truth, scores, of_all)
        if of_rest is not None:
            rest = truth.copy()
            rest[left_out] = Label.UNTESTED
            rest_calls = called_per_row(rest, scores, of_rest)
        found = [np.stack([calls, rest_calls])]
    left = truth[left_out][:, None], scores[left_out][:, None]
    for column, of_class in enumerate(bins):
        counts = np.zeros((2, len(truth), of_class.n, 2), np.uint32)
        of_class.count(truth, scores, column, counts[0])
        counts[1] = counts[0]
        if len(left_out[0]):
            less = np.zeros((len(left[0]), of_class.n, 2), np.uint32)
            of_class.count(*left, column, less)
            pair, at, side = np.nonzero(less)
            np.subtract.at(counts[1], (left_out[0][pair], at, side), 1)
        found.append(counts)
    return found
