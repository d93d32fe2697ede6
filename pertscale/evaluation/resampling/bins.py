"""Scores of a class in few bins, so that areas under curves are functions of sums (method N2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pertscale.evaluation._kernels.bins import binned_areas, count_in_bins, cut
from pertscale.schema import CLASSES, Label

#: Bins of the scores of a class. The areas are exact, only their spread is of the bins: with 256
#: it differs by less than a hundredth from that with one bin for each score.
MOST_BINS: Final = 256
_PREFIX_BITS: Final = 16


@dataclass(frozen=True, eq=False)
class Bins:
    """Where the scores of a class are cut.

    Attributes
    ----------
    edges : ndarray (bin - 1,), uint32
        First key of each bin but the lowest; keys are in the order of the scores.
    n_missing : int
        1 where the lowest bin is that of missing scores.
    """

    edges: NDArray[np.uint32]
    n_missing: int

    @classmethod
    def of(cls, keys: NDArray[np.uint32], counts: NDArray[np.integer], *, missing: bool) -> Bins:
        """Cut ascending keys into bins of as large shares of the pairs, or one for each key.

        Negatives and positives count alike, however rare they are: the areas depend on where the
        few are.

        Parameters
        ----------
        keys : ndarray (n,)
        counts : ndarray (n, 2)
            Negatives and positives with each.
        missing : bool
            Whether the lowest is that of missing scores, which get a bin of their own.
        """
        edges = keys[1:]
        if len(keys) > MOST_BINS:
            places = np.empty(MOST_BINS - 1, np.intp)
            n = cut(np.ascontiguousarray(counts), MOST_BINS, places)
            edges = keys[np.unique(places[:n])]
            edges = edges[edges > keys[0]]
            if missing:
                edges = np.union1d(edges, keys[1:2])
        return cls(np.ascontiguousarray(edges, np.uint32), int(missing))

    @property
    def n(self) -> int:
        """Number of bins."""
        return len(self.edges) + 1

    def count(
        self,
        truth: NDArray[np.integer],
        scores: NDArray[np.floating],
        column: int,
        counts: NDArray[np.integer],
    ) -> None:
        """Add pairs to counts (perturbation, bin, 2): negatives and positives in each bin."""
        prefixes = np.arange(2**_PREFIX_BITS, dtype=np.uint32) << np.uint32(_PREFIX_BITS)
        count_in_bins(
            np.ascontiguousarray(truth, np.int8),
            np.ascontiguousarray(scores, np.float32).view(np.uint32),
            column,
            int(CLASSES[column]),
            int(Label.UNTESTED),
            self.edges,
            np.searchsorted(self.edges, prefixes, side="right").astype(np.uint16),
            counts,
        )


def areas_of_bins(counts: NDArray[np.floating], n_missing: int) -> NDArray[np.float64]:
    """Return areas (version, 3) of counts (version, bin, 2).

    Under the ROC curve; average precision; and that of the negatives by the negated score. NaN
    where one side is empty.
    """
    areas = np.empty((len(counts), 3))
    binned_areas(np.ascontiguousarray(counts), n_missing, areas)
    return areas
