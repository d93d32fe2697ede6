"""Plans the map over perturbation chunks: arithmetic on bounds and bytes, nothing else.

A tile is a range of perturbations of one context times a block of genes. All perturbations of a
tile are tested against the same sorted controls. Perturbations are never cut: the cells of one are
always summed by one task in one order, which is why results do not depend on the plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pertscale.errors import MemoryBudgetError

#: Bytes per non-zero control value of a sorted control table (stats/_kernels/ranksum.py).
CONTROL_BYTES = 28  # 20, and the copy of the buckets while it is built
#: Chunks of rows that a tile holds at once, and bytes of its result: beyond these nothing gets
#: faster, and the peak would grow with the screen as long as the budget allows.
MAX_WINDOW_CHUNKS = 8
MAX_RESULT_BYTES = 32_000_000
#: Bytes of scratch per cell of the rows that are held at once: index, key, total.
CELL_SCRATCH_BYTES = 20


@dataclass(frozen=True)
class Tile:
    """Perturbations ``first:last`` of a context times genes ``gene_start:gene_stop``."""

    context: int
    first: int
    last: int
    gene_start: int
    gene_stop: int

    @property
    def name(self) -> str:
        """File-name stem of the tile's piece."""
        return f"c{self.context}-p{self.first}-{self.last}-g{self.gene_start}-{self.gene_stop}"


@dataclass(frozen=True)
class TilePlan:
    """Tiles in the order in which they should start, and what one of them may hold in memory."""

    tiles: tuple[Tile, ...]
    window_rows: int
    tile_bytes: int


def plan_tiles(
    sizes: Sequence[Sequence[int]],
    *,
    n_genes: int,
    gene_chunk: int,
    row_chunk: int,
    itemsize: int,
    statistics_bytes: int,
    memory_bytes: int,
    n_parallel: int,
) -> TilePlan:
    """Cut (perturbations x genes) of every context into tiles.

    Parameters
    ----------
    sizes : sequence of sequence of int
        For each context the number of cells of its control group, then of each perturbation.
    n_genes, gene_chunk, row_chunk : int
        Genes of the screen, and the shape of the store's chunks.
    itemsize : int
        Bytes of a value of the matrix.
    statistics_bytes : int
        Bytes of a tile's result per (perturbation, gene).
    memory_bytes : int
        What all tasks of a process may hold together.
    n_parallel : int
        Tasks that run at once in a process.

    Returns
    -------
    TilePlan
        Gene blocks outermost, so that the tiles which share controls run next to each other.

    Raises
    ------
    MemoryBudgetError
        If even one perturbation, one chunk of rows and a narrow gene block do not fit.
    """
    tile_bytes = memory_bytes // max(1, n_parallel)
    n_control = max(group[0] for group in sizes)
    largest = max((max(group[1:], default=0) for group in sizes), default=0)
    width = min(gene_chunk, n_genes)
    while True:
        control = n_control * (CONTROL_BYTES + itemsize)
        row = 2 * itemsize + CELL_SCRATCH_BYTES / width
        smallest = width * (control + (largest + row_chunk) * row + statistics_bytes)
        if smallest <= tile_bytes or width <= 16:
            break
        width = -(-width // 2)
    if smallest > tile_bytes:
        raise MemoryBudgetError(
            f"the largest perturbation ({largest:,} cells) and {n_control:,} control cells need "
            f"{smallest / 1e6:,.0f} MB for a block of {width} genes, but memory= allows "
            f"{tile_bytes / 1e6:,.0f} MB for each of {n_parallel} parallel tasks; pass "
            f"memory='{int(smallest * n_parallel / 1e6) + 1}MB' or use fewer threads"
        )
    left = tile_bytes - width * control
    rows = int(left * 0.5 / (width * row))
    chunks = min(max(rows // row_chunk, 1), MAX_WINDOW_CHUNKS)
    window_rows = max(largest, chunks * row_chunk)
    result_bytes = min(left * 0.25, MAX_RESULT_BYTES)
    per_tile = max(1, int(result_bytes / (width * statistics_bytes)))
    tiles = [
        Tile(context, first, min(first + per_tile, len(groups) - 1), g, min(g + width, n_genes))
        for context, groups in enumerate(sizes)
        for g in range(0, n_genes, width)
        for first in range(0, len(groups) - 1, per_tile)
    ]
    return TilePlan(tuple(tiles), window_rows, tile_bytes)


def windows(starts: Sequence[int], stops: Sequence[int], rows: int) -> list[tuple[int, int]]:
    """Group consecutive perturbations so that each group spans at most `rows` rows.

    Returns index ranges ``(first, last)`` into `starts`; a perturbation that is larger than `rows`
    stands alone.
    """
    found: list[tuple[int, int]] = []
    first = 0
    for i in range(len(starts)):
        if i > first and stops[i] - starts[first] > rows:
            found.append((first, i))
            first = i
    if len(starts) > first:
        found.append((first, len(starts)))
    return found
