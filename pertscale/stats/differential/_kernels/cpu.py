"""The rank-sum kernel on processors: what numba has compiled, and the memory it works in."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from pertscale.stats.differential._kernels.half_groups import (
    IN_FIRST,
    rank_halves,
    split_controls,
    sum_halves,
)
from pertscale.stats.differential._kernels.kernel import STATISTICS_DTYPE, Take, new_array
from pertscale.stats.differential._kernels.null_groups import rank_chosen
from pertscale.stats.differential._kernels.ranksum import (
    EXACT_TIES_UP_TO,
    FINE_BUCKETS_UP_TO,
    rank_groups,
    sort_controls,
)


class ControlTable(NamedTuple):
    """Sorted controls of a block of genes; ragged arrays with one stretch per gene."""

    n_control: int
    value: np.ndarray  # f8: distinct non-zero keys, ascending, then +inf
    below: np.ndarray  # i4: controls with a smaller non-zero key; one entry more than values
    value_start: np.ndarray  # i8 (genes + 1): where the stretch of a gene begins in both
    bucket: np.ndarray  # i4: first distinct value of each bucket in the stretch; then the end
    bucket_start: np.ndarray  # i8 (genes + 1)
    base: np.ndarray  # i8 (genes): leading bits of the smallest key
    shift: np.ndarray  # i8 (genes): how many low bits of a key its bucket ignores
    clustered: np.ndarray  # bool (genes): some bucket has too many keys to try one by one
    tie_exact: np.ndarray  # i8 (genes): sum of t**3 - t over non-zero ties
    tie_float: np.ndarray  # f8 (genes): the same, where an int64 might overflow
    statistics: np.ndarray  # STATISTICS_DTYPE (genes): sums over the controls


class HalfTable(NamedTuple):
    """Halves of the controls of a block of genes, beside a :class:`ControlTable` of all of them."""

    n_cells: tuple[int, int]
    below_first: np.ndarray  # i4, as ``below``: those of the first half
    tie_exact: np.ndarray  # i8 (half, genes): sum of t**3 - t over non-zero ties of each half
    tie_float: np.ndarray  # f8 (half, genes)
    zeros: np.ndarray  # i8 (half, genes): controls of each half that are zero


class CpuKernel:
    """Compiled for one thread; see ``ranksum.py``.

    The time of a test does not depend on the number of controls.
    """

    bit_equal = True
    row_bytes = 20  # index, key, total
    group_bytes = 100  # filters and hash tables of ties

    def control_bytes(self, n_expressed: int) -> int:
        """Bytes per non-zero control value at most: value, below, and up to two or four buckets."""
        return 8 + 4 + 4 * (4 if n_expressed <= FINE_BUCKETS_UP_TO else 2)

    def prepare_controls(
        self, block: np.ndarray, totals: np.ndarray, *, is_counts: bool, take: Take = new_array
    ) -> ControlTable:
        """Sort the controls of a block of genes."""
        n_genes = len(block)
        n = int(np.count_nonzero(block)) + 2 * n_genes
        table = ControlTable(
            n_control=block.shape[1],
            value=take("value", (n,), np.float64),
            below=take("below", (n,), np.int32),
            value_start=take("value_start", (n_genes + 1,), np.int64),
            # at most four buckets a key, as chosen when they are sorted
            bucket=take("bucket", (4 * n + 8 * n_genes,), np.int32),
            bucket_start=take("bucket_start", (n_genes + 1,), np.int64),
            base=take("base", (n_genes,), np.int64),
            shift=take("shift", (n_genes,), np.int64),
            clustered=take("clustered", (n_genes,), np.bool_),
            tie_exact=take("tie_exact", (n_genes,), np.int64),
            tie_float=take("tie_float", (n_genes,), np.float64),
            statistics=take("statistics", (n_genes,), STATISTICS_DTYPE),
        )
        sort_controls(block, _read_only(totals), is_counts, table)
        return table

    def test(
        self,
        block: np.ndarray,
        totals: np.ndarray,
        bounds: np.ndarray,
        controls: ControlTable,
        *,
        is_counts: bool,
        variant: int,
        most_cells: int,
        out: np.ndarray,
    ) -> None:
        """Test groups of cells; ties are summed as integers where these do not overflow.

        Scratch: 12 bytes per cell of the block and about 80 bytes per cell of the largest group.
        """
        ties, one = _ties(controls, most_cells)
        rank_groups(block, _read_only(totals), is_counts, bounds, controls, ties, one, variant, out)

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
        """Sum halves of groups; scratch: 20 bytes per cell of the largest group."""
        in_first = IN_FIRST[: 1 << n_seeds]
        sum_halves(block, _read_only(totals), codes, is_counts, bounds, in_first, sums)

    def prepare_halves(
        self,
        block: np.ndarray,
        totals: np.ndarray,
        codes: np.ndarray,
        controls: ControlTable,
        *,
        is_counts: bool,
        take: Take = new_array,
    ) -> HalfTable:
        """Count the controls of each half beside those of all of them."""
        n_second = int(np.count_nonzero(codes & 1))
        halved = (2, len(block))
        table = HalfTable(
            n_cells=(block.shape[1] - n_second, n_second),
            below_first=take("below_first", controls.below.shape, np.int32),
            tie_exact=take("half_tie_exact", halved, np.int64),
            tie_float=take("half_tie_float", halved, np.float64),
            zeros=take("half_zeros", halved, np.int64),
        )
        split_controls(block, _read_only(totals), codes, is_counts, controls, table)
        return table

    def test_halves(
        self,
        block: np.ndarray,
        totals: np.ndarray,
        codes: np.ndarray,
        bounds: np.ndarray,
        controls: ControlTable,
        halves: HalfTable,
        *,
        n_seeds: int,
        is_counts: bool,
        variant: int,
        most_cells: int,
        out: np.ndarray,
        sums: np.ndarray,
        z: np.ndarray,
    ) -> None:
        """Test groups and their halves; scratch: 21 bytes per cell of the block, and as `test`."""
        whole, one = _ties(controls, most_cells)
        of_halves, _ = _ties(halves, most_cells)
        rank_halves(
            block,
            _read_only(totals),
            codes,
            is_counts,
            bounds,
            IN_FIRST[: 1 << n_seeds],
            controls,
            halves,
            (whole, of_halves),
            one,
            variant,
            out,
            sums,
            z,
        )

    def test_chosen(
        self,
        block: np.ndarray,
        totals: np.ndarray,
        bounds: np.ndarray,
        chosen: np.ndarray,
        controls: ControlTable,
        *,
        is_counts: bool,
        variant: int,
        most_cells: int,
        z: np.ndarray,
    ) -> None:
        """Test controls against the others; scratch: 8 bytes per control."""
        ties, one = _ties(controls, most_cells)
        rank_chosen(
            block, _read_only(totals), is_counts, bounds, chosen, controls, ties, one, variant, z
        )


def _ties(table: ControlTable | HalfTable, most_cells: int) -> tuple[np.ndarray, Any]:
    """Return the controls' sums of ties as integers, or as floats for many cells, and 1 as such."""
    if most_cells <= EXACT_TIES_UP_TO:
        return table.tie_exact, np.int64(1)
    return table.tie_float, 1.0


def _read_only(array: np.ndarray) -> np.ndarray:
    """Return a view that can't be written to: for an array that can, numba would compile anew."""
    view = array.view()
    view.flags.writeable = False
    return view
