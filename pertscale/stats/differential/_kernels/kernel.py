"""What a kernel of the rank-sum test is: the seam between arrays and everything else.

The map over tiles reads blocks of the matrix and writes statistics; what happens in between is a
:class:`RankSumKernel`. One is written in this package, in numba (``cpu.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

#: Codes of the variants of the statistic (method B1).
MANN_WHITNEY, SCANPY, SCANPY_TIE = 0, 1, 2

#: What is kept per (perturbation, gene) until the label table is written.
STATISTICS_DTYPE = np.dtype(
    [
        ("u_statistic", "f8"),
        ("p_value", "f8"),
        ("sum_log1p", "f8"),
        ("sum_normalized", "f8"),
        ("z", "f4"),
        ("n_expressed", "i4"),
    ]
)

#: Quotients a / b > c / d of integers differ by 1 / (b c) of the smaller at least, and rounding
#: moves each by 2**-53 of it at most: they stay different as long as b x c is below this.
EXACT_BELOW = 2**52

#: Called with a name, a shape and a dtype; returns the memory of an array, with any content.
Take = Callable[[str, tuple[int, ...], Any], np.ndarray]


def new_array(name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Return memory of its own for each array."""
    return np.empty(shape, dtype)


class PreparedControls(Protocol):
    """The controls of a block of genes, as a kernel wants them."""

    @property
    def statistics(self) -> np.ndarray:
        """Sums over the controls, STATISTICS_DTYPE (genes,); U and z are 0, p is 1."""


class RankSumKernel(Protocol):
    """The test of one block of genes x cells, on arrays.

    Several threads call one kernel at the same time. What a group gets must depend on its cells,
    the controls and `most_cells` alone, never on which other groups or genes are in the block:
    blocks follow the memory that there is.

    Attributes
    ----------
    bit_equal : bool
        Whether the statistics are those of the kernel ``"cpu"``, bit for bit. If not, tables that
        are made with it have its name in their options, and so in their key.
    row_bytes, group_bytes : int
        Scratch per cell of a block, and per cell of the largest group.
    """

    bit_equal: bool
    row_bytes: int
    group_bytes: int

    def control_bytes(self, n_expressed: int) -> int:
        """Bytes of prepared controls per value that is not zero, of which a gene has so many."""

    def prepare_controls(
        self, block: np.ndarray, totals: np.ndarray, *, is_counts: bool, take: Take = new_array
    ) -> PreparedControls:
        """Prepare the controls of a block of genes, against which groups are tested.

        Parameters
        ----------
        block : ndarray (genes, control cells)
            Counts, or log-normalised values; C-contiguous.
        totals : ndarray (control cells,), float64
            Total count of each cell; not used for log-normalised values.
        is_counts : bool
            Whether `block` holds counts.
        take : callable
            Gives memory; what it gave before is free when the controls are prepared anew.
        """

    def test(
        self,
        block: np.ndarray,
        totals: np.ndarray,
        bounds: np.ndarray,
        controls: Any,
        *,
        is_counts: bool,
        variant: int,
        most_cells: int,
        out: np.ndarray,
    ) -> None:
        """Test groups of cells against the controls, gene by gene.

        Parameters
        ----------
        block : ndarray (genes, cells)
            Counts or log-normalised values of the perturbed cells; each gene contiguous.
        totals : ndarray (cells,), float64
            Total count of each cell; not used for log-normalised values.
        bounds : ndarray (groups + 1,), int64
            The cells of group q are the columns ``bounds[q]:bounds[q + 1]``.
        controls
            What :meth:`prepare_controls` returned for the same genes.
        is_counts : bool
            Whether `block` holds counts.
        variant : int
            ``MANN_WHITNEY``, ``SCANPY`` or ``SCANPY_TIE``.
        most_cells : int
            Cells of the controls and of the largest group together, the largest of all blocks;
            how sums are kept may depend on it.
        out : ndarray (groups, genes), STATISTICS_DTYPE
            Filled.
        """

    def sum_halves(
        self,
        block: np.ndarray,
        totals: np.ndarray,
        codes: np.ndarray,
        bounds: np.ndarray,
        *,
        n_seeds: int,
        is_counts: bool,
        sums: np.ndarray,
    ) -> None:
        """Sum groups of cells, and halves of them, gene by gene; see :meth:`test_halves`."""

    def prepare_halves(
        self,
        block: np.ndarray,
        totals: np.ndarray,
        codes: np.ndarray,
        controls: Any,
        *,
        is_counts: bool,
        take: Take = new_array,
    ) -> Any:
        """Prepare halves of the controls, the first way of `codes`; see :meth:`test_halves`.

        `controls` were prepared from the same block.
        """

    def test_halves(
        self,
        block: np.ndarray,
        totals: np.ndarray,
        codes: np.ndarray,
        bounds: np.ndarray,
        controls: Any,
        halves: Any,
        *,
        n_seeds: int,
        is_counts: bool,
        variant: int,
        most_cells: int,
        out: np.ndarray,
        sums: np.ndarray,
        z: np.ndarray,
    ) -> None:
        """Test groups as :meth:`test` does, sum halves of them, and test those of the first way.

        Parameters
        ----------
        block, totals, bounds, controls, is_counts, variant, most_cells, out
            As of :meth:`test`.
        codes : ndarray (cells,), uint8
            Bit k: whether the cell is in the second half of way k.
        halves
            What :meth:`prepare_halves` returned for the same genes.
        n_seeds : int
            Ways that there are codes of.
        sums : ndarray (groups, genes, N_SUMS), float64
            Filled; what they are: ``half_groups.py``.
        z : ndarray (2, groups, genes), float32
            Filled: the signed statistic of each half against the same half of the controls.
        """

    def test_chosen(
        self,
        block: np.ndarray,
        totals: np.ndarray,
        bounds: np.ndarray,
        chosen: np.ndarray,
        controls: Any,
        *,
        is_counts: bool,
        variant: int,
        most_cells: int,
        z: np.ndarray,
    ) -> None:
        """Test groups of controls against the other controls, gene by gene.

        Parameters
        ----------
        block, totals : ndarray (genes, control cells), (control cells,)
            Those that `controls` were prepared from.
        bounds, chosen : ndarray, int64 (groups + 1) and int32
            The cells of group q are the columns ``chosen[bounds[q]:bounds[q + 1]]``, fewer than
            there are controls.
        controls, is_counts, variant, most_cells
            As of :meth:`test`.
        z : ndarray (groups, genes), float32
            Filled: the signed statistic; NaN for genes that no control expresses.
        """
