"""Areas under the ROC curve within the lines of a matrix: its perturbations, or its genes.

A line is sorted once for both of its areas: of all pairs, and of those that are not left out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pertscale.evaluation._kernels.ranking import areas_between, areas_of_lines, pack_lines
from pertscale.schema import CLASSES, Label

_DOWN, _UP = CLASSES.index(Label.DOWN), CLASSES.index(Label.UP)

#: Row and gene of pairs to leave out.
Positions = tuple[NDArray[np.intp], NDArray[np.intp]]


def packed_pairs(
    truth: NDArray[np.integer], scores: NDArray[np.floating], left_out: Positions
) -> NDArray[np.uint64]:
    """Return integers (perturbation, gene) that rank pairs by ``- score of non_de``.

    The order is that of ``1 - score``, without the digits that the subtraction would lose; NaN is
    the lowest.
    """
    truth = np.ascontiguousarray(truth, dtype=np.int8)
    bits = np.ascontiguousarray(scores, dtype=np.float32).view(np.uint32)
    packed = np.empty(truth.shape, np.uint64)
    pack_lines(truth, bits, int(Label.NON_DE), int(Label.UNTESTED), packed)
    packed[left_out] |= np.uint64(1)
    return packed


def areas_of_change(packed: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Return the areas (line, 2) of changed pairs against the others, all and the rest.

    `packed` (line, n), of :func:`packed_pairs`, is sorted in place.
    """
    packed.sort(axis=1)
    areas = np.empty((len(packed), 2))
    areas_of_lines(packed, areas)
    return areas


def areas_of_direction(
    truth: NDArray[np.integer], scores: NDArray[np.floating], left_out: Positions
) -> NDArray[np.float64]:
    """Return the areas (gene, 2) of up against down, by ``up / (up + down)``, all and the rest."""
    row, gene = np.nonzero((truth != Label.UNTESTED) & (truth != Label.NON_DE))
    up, down = (np.asarray(scores[row, gene, side], np.float64) for side in (_UP, _DOWN))
    share = np.divide(up, up + down, out=np.full(up.shape, 0.5), where=up + down > 0)
    _, order = np.unique(np.where(np.isnan(up), -1.0, share), return_inverse=True)
    left = np.zeros(truth.shape, np.bool_)
    left[left_out] = True
    bits = np.stack([gene, order, truth[row, gene] == Label.UP, left[row, gene]]).astype(np.uint64)
    packed = bits[0] << np.uint64(34) | bits[1] << np.uint64(2) | bits[2] << np.uint64(1) | bits[3]
    packed.sort()
    starts = np.arange(truth.shape[1] + 1, dtype=np.uint64) << np.uint64(34)
    areas = np.empty((truth.shape[1], 2))
    areas_between(packed, np.searchsorted(packed, starts), areas)
    return areas
