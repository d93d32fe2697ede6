"""Plans the map over perturbation chunks: arithmetic on bounds and bytes, nothing else.

A tile is a range of perturbations of one context times a block of genes. All perturbations of a
tile are tested against the same sorted controls. Perturbations are never cut: the cells of one are
always summed by one task in one order, which is why results do not depend on the plan.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, zip_longest

from pertscale.errors import MemoryBudgetError

#: Limits of a window, the rows that a tile holds at once, in chunks and in bytes of results: larger
#: ones are not faster, and the peak would grow with the screen as long as the budget allows.
MAX_WINDOW_CHUNKS = 16
MAX_RESULT_BYTES = 16_000_000
#: Share of a task's memory that the sorted controls may take: with many controls, blocks of genes
#: get narrower and chunks are decoded more than once, but the peak does not grow with them.
CONTROL_SHARE = 0.2
#: The last blocks of genes are cut into this many tiles per thread, so that all end together.
LAST_PIECES = 8


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
        """File-name stem of the tile's statistics."""
        return f"c{self.context}-p{self.first}-{self.last}-g{self.gene_start}-{self.gene_stop}"

    @property
    def shape(self) -> tuple[int, int]:
        """Rows of the tile's statistics, the controls first, and its genes."""
        return 1 + self.last - self.first, self.gene_stop - self.gene_start


@dataclass(frozen=True, kw_only=True)
class MatrixShape:
    """What a plan has to know of a store's matrix, and of what the kernel needs for it.

    Parameters
    ----------
    n_genes : int
    gene_chunk, row_chunk : int
        Shape of its chunks.
    itemsize : int
        Bytes of a value.
    control_bytes : float
        Bytes of a control cell and gene: the value, and its share of the prepared controls.
    row_bytes, group_bytes : int
        Bytes of scratch per cell of a window, and per cell of the largest group.
    statistics_bytes : int
        Bytes of a result per perturbation and gene.
    gene_bytes, fixed_bytes : int
        Bytes of what is kept beside the controls: per gene, and whatever the genes.
    """

    n_genes: int
    gene_chunk: int
    row_chunk: int
    itemsize: int
    control_bytes: float
    row_bytes: int
    group_bytes: int
    statistics_bytes: int
    gene_bytes: int = 0
    fixed_bytes: int = 0


@dataclass(frozen=True)
class TilePlan:
    """Tiles in the order in which they should start, and what one of them holds in memory.

    A window has at most `window_rows` rows and `window_groups` perturbations, or is one
    perturbation. A tile needs `tile_bytes` at most.
    """

    tiles: tuple[Tile, ...]
    window_rows: int
    window_groups: int
    tile_bytes: int


def plan_tiles(
    sizes: Sequence[Sequence[int]],
    matrix: MatrixShape,
    *,
    memory_bytes: int,
    n_parallel: int,
    n_threads: int,
) -> TilePlan:
    """Cut (perturbations x genes) of every context into tiles.

    Parameters
    ----------
    sizes : sequence of sequence of int
        For each context the number of cells of its control group, then of each perturbation.
    matrix : MatrixShape
        The store's matrix.
    memory_bytes : int
        What all tasks of a process may hold together.
    n_parallel : int
        Tasks that run at once in a process.
    n_threads : int
        Tasks that run at once in all processes.

    Returns
    -------
    TilePlan
        Whole blocks of genes first; the last ones in several pieces.

    Raises
    ------
    MemoryBudgetError
        If even one perturbation, one chunk of rows and a narrow gene block do not fit.
    """
    tile_bytes = memory_bytes // max(1, n_parallel)
    n_control = max(groups[0] for groups in sizes)
    largest = max(max(groups) for groups in sizes)
    width = min(matrix.gene_chunk, matrix.n_genes)
    while width > 64 and width * n_control * matrix.control_bytes > CONTROL_SHARE * tile_bytes:
        width = -(-width // 2)
    while (needed := _bytes(matrix, width, matrix.row_chunk, 1, n_control, largest)) > tile_bytes:
        if width <= 16:
            raise MemoryBudgetError(
                f"the largest perturbation ({largest:,} cells) and {n_control:,} control cells "
                f"need {needed / 1e6:,.0f} MB for a block of {width} genes, but memory= allows "
                f"{tile_bytes / 1e6:,.0f} MB for each of {n_parallel} parallel tasks; pass "
                f"memory='{int(needed * n_parallel / 1e6) + 1}MB' or use fewer threads"
            )
        width = -(-width // 2)
    left = tile_bytes - _bytes(matrix, width, 0, 0, n_control, largest)
    rows = int(left * 0.75 / (width * matrix.itemsize + matrix.row_bytes))
    chunks = min(max(rows // matrix.row_chunk, 1), MAX_WINDOW_CHUNKS)
    # where one chunk of rows takes more than its share, less is left for results
    rest = tile_bytes - _bytes(matrix, width, chunks * matrix.row_chunk, 0, n_control, largest)
    room = min(left * 0.25, rest, MAX_RESULT_BYTES)
    groups = max(1, int(room / (width * matrix.statistics_bytes)))
    blocks = [
        (context, g, min(g + width, matrix.n_genes))
        for context in range(len(sizes))
        for g in range(0, matrix.n_genes, width)
    ]
    rows = chunks * matrix.row_chunk
    tiles = _tiles(sizes, blocks, rows, n_parallel, max(n_threads, 1))
    needed = _bytes(matrix, width, rows, groups, n_control, largest)
    return TilePlan(tuple(tiles), rows, groups, int(needed))


def _bytes(
    matrix: MatrixShape, width: int, rows: int, groups: int, n_control: int, largest: int
) -> float:
    """Bytes that a task holds for a block of genes: chunk, controls, window, results."""
    window = max(rows, largest)
    return (
        matrix.gene_chunk * matrix.row_chunk * matrix.itemsize
        + width * n_control * matrix.control_bytes
        + window * (width * matrix.itemsize + matrix.row_bytes)
        + largest * matrix.group_bytes
        + groups * width * matrix.statistics_bytes
        + width * matrix.gene_bytes
        + matrix.fixed_bytes
    )


def _tiles(
    sizes: Sequence[Sequence[int]],
    blocks: Sequence[tuple[int, int, int]],
    window_rows: int,
    n_parallel: int,
    n_threads: int,
) -> Iterator[Tile]:
    """Yield whole blocks, then the last one per thread in pieces.

    Every tile of a block costs a pass over the block's controls, unless it runs in the same
    process as another one; so a piece has at least as many cells as there are controls. Pieces of
    as many blocks as there are parallel tasks alternate: two tasks that need the same controls at
    the same moment would have to wait for each other.
    """
    n_last = min(n_threads, len(blocks)) if n_threads > 1 else 0
    n_whole = len(blocks) - n_last
    for context, start, stop in blocks[:n_whole]:
        yield Tile(context, 0, len(sizes[context]) - 1, start, stop)
    pieces = -(-LAST_PIECES * n_threads // max(n_last, 1))
    for i in range(n_whole, len(blocks), n_parallel):
        turns = []
        for context, start, stop in blocks[i : i + n_parallel]:
            control, *groups = sizes[context]
            # room for one more perturbation, so that a remainder does not become a tile of its own
            rows = max(-(-sum(groups) // pieces) + max(groups), control, window_rows)
            ends = list(accumulate(groups))
            cuts = windows([0, *ends[:-1]], ends, rows, len(groups))
            turns.append([Tile(context, first, last, start, stop) for first, last in cuts])
        yield from (tile for turn in zip_longest(*turns) for tile in turn if tile)


def windows(
    starts: Sequence[int], stops: Sequence[int], rows: int, groups: int
) -> list[tuple[int, int]]:
    """Cut consecutive perturbations into windows of at most `rows` rows and `groups` of them.

    Returns index ranges ``(first, last)`` into `starts`; a perturbation that is larger than `rows`
    stands alone.
    """
    cuts: list[tuple[int, int]] = []
    first = 0
    for i in range(len(starts)):
        if i > first and (stops[i] - starts[first] > rows or i - first == groups):
            cuts.append((first, i))
            first = i
    if len(starts) > first:
        cuts.append((first, len(starts)))
    return cuts
