"""The tiles of a rank-sum run: planned once, and kept beside their statistics.

The first process in a run's working folder (a run, one of the shares of a job array, a run that was
interrupted) writes the plan; all others follow it, so that tiles fit together whatever memory and
threads each has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import numpy as np

from pertscale.errors import MemoryBudgetError
from pertscale.execution.resources import Resources
from pertscale.io.store.layout import CHUNK_GENES, CHUNK_ROWS
from pertscale.io.store.matrix import MatrixReader
from pertscale.screen import Screen
from pertscale.stats.differential._kernels import KERNELS
from pertscale.stats.differential._kernels.kernel import STATISTICS_DTYPE, RankSumKernel
from pertscale.stats.differential.half_tiles import (
    HALVES_CONTROL_BYTES,
    HALVES_GROUP_BYTES,
    HALVES_ROW_BYTES,
    pair_bytes,
)
from pertscale.stats.differential.null_cells import null_tests
from pertscale.stats.differential.null_tiles import CONTROL_BYTES, DTYPE
from pertscale.stats.differential.tiles import MatrixShape, Tile, TilePlan, plan_tiles
from pertscale.storage.atomic import read_json, remove, write_json_once

_FILE = "plan.json"
TILES_DIR = "tiles"
#: Threads that a cluster's plan is made for at least: workers come one by one, the plan stays.
_FEWEST = 16
#: Control cells that the density of a block of genes is taken from.
_SAMPLED_CONTROLS = CHUNK_ROWS


def plan_of(
    screen: Screen,
    resources: Resources,
    *,
    kernel: str,
    n_seeds: int = 0,
    min_cells: int = 0,
    densities: Sequence[float] | None = None,
) -> TilePlan:
    """Cut a screen into tiles; see :func:`pertscale.stats.differential.tiles.plan_tiles`.

    Cells are halved in `n_seeds` ways, too, and controls tested as if they were perturbations,
    which have `min_cells` cells at least. `densities` are those of :func:`gene_densities`, where
    they are known already.
    """
    tests = KERNELS[kernel]
    sizes = screen.group_sizes
    itemsize = np.dtype(screen.info["dtype"]).itemsize
    density = max(densities or gene_densities(screen))
    matrix = MatrixShape(
        n_genes=screen.n_genes,
        gene_chunk=CHUNK_GENES,
        row_chunk=CHUNK_ROWS,
        itemsize=itemsize,
        control_bytes=itemsize + _prepared_bytes(screen, tests, density),
        row_bytes=tests.row_bytes,
        group_bytes=tests.group_bytes,
        statistics_bytes=STATISTICS_DTYPE.itemsize,
    )
    if n_seeds:
        matrix = with_nulls(with_halves(matrix, n_seeds), screen, min_cells)
    return plan_tiles(
        [list(sizes[screen.context_groups(context).index]) for context in screen.contexts],
        matrix,
        memory_bytes=resources.memory,
        n_parallel=resources.n_parallel,
        n_threads=max(resources.n_threads, _FEWEST if resources.may_grow else 1),
    )


def kept_plan(
    screen: Screen,
    staging: Path,
    resources: Resources,
    *,
    kernel: str,
    n_seeds: int = 0,
    min_cells: int = 0,
    alone: bool,
) -> TilePlan:
    """Return the plan in a working folder; make it, if there is none.

    Parameters
    ----------
    screen : Screen
    staging : Path
        The run's working folder.
    resources : Resources
    kernel : str
        What tests the tiles, a name of ``KERNELS``.
    n_seeds : int
        Ways to halve the cells.
    min_cells : int
        Cells that a perturbation needs to be tested.
    alone : bool
        Whether no other process works there: then a plan whose tiles need more memory than there
        is gets replaced, and what was done by it is dropped.

    Raises
    ------
    MemoryBudgetError
        If tiles do not fit, or the kept plan's do not and others follow it too.
    """
    file = staging / _FILE
    room = resources.memory // max(1, resources.n_parallel)
    if (kept := read_plan(staging)) is not None and kept.tile_bytes > room:
        if not alone:
            raise MemoryBudgetError(
                f"the tiles of this run were planned for {kept.tile_bytes / 1e6:,.0f} MB each, "
                f"this process allows {room / 1e6:,.0f} MB for each of {resources.n_parallel} "
                "parallel tasks; give all shares the same memory and threads"
            )
        remove(file)
        remove(staging / TILES_DIR)
    if not file.exists():
        plan = plan_of(screen, resources, kernel=kernel, n_seeds=n_seeds, min_cells=min_cells)
        write_json_once(file, _as_json(plan))  # or another share is quicker
    return _read(file)


def read_plan(staging: Path) -> TilePlan | None:
    """Return the plan in a working folder, or None; nothing is written."""
    file = staging / _FILE
    return _read(file) if file.exists() else None


def _as_json(plan: TilePlan) -> dict[str, Any]:
    return {
        "tiles": [list(astuple(tile)) for tile in plan.tiles],
        "window_rows": plan.window_rows,
        "window_groups": plan.window_groups,
        "tile_bytes": plan.tile_bytes,
    }


def _read(file: Path) -> TilePlan:
    plan = read_json(file)
    tiles = tuple(Tile(*where) for where in plan["tiles"])
    return TilePlan(tiles, plan["window_rows"], plan["window_groups"], plan["tile_bytes"])


def with_halves(matrix: MatrixShape, n_seeds: int) -> MatrixShape:
    """Return what a plan has to know where halves of the cells are tested, too.

    Beside the prepared controls there is what says how many of them are in a half.
    """
    return replace(
        matrix,
        control_bytes=matrix.control_bytes + HALVES_CONTROL_BYTES,
        row_bytes=matrix.row_bytes + HALVES_ROW_BYTES,
        group_bytes=matrix.group_bytes + HALVES_GROUP_BYTES,
        statistics_bytes=matrix.statistics_bytes + pair_bytes(n_seeds),
    )


def with_nulls(matrix: MatrixShape, screen: Screen, min_cells: int) -> MatrixShape:
    """Return what a plan has to know where controls are tested against controls, too.

    Their results are kept with the controls, and which cells they are is in memory.
    """
    tests = null_tests(screen, min_cells)
    most = max(sum(test.context == c for test in tests) for c in range(len(screen.contexts)))
    n_control = max(stop - start for start, stop in map(screen.control_rows, screen.contexts))
    chosen = sum(test.n_cells for test in tests)
    return replace(
        matrix,
        gene_bytes=most * DTYPE.itemsize,
        fixed_bytes=n_control * CONTROL_BYTES + chosen * np.dtype(np.int32).itemsize,
    )


def _prepared_bytes(screen: Screen, kernel: RankSumKernel, density: float) -> float:
    """Bytes of the prepared controls per control cell and gene."""
    most = max(stop - start for start, stop in map(screen.control_rows, screen.contexts))
    return density * kernel.control_bytes(int(most * density))


def gene_densities(screen: Screen) -> list[float]:
    """Share of non-zero values in each block of genes, the largest over contexts.

    From some controls: a few chunks of each column of chunks are read.
    """
    densities = []
    for g in range(0, screen.n_genes, CHUNK_GENES):
        stop = min(g + CHUNK_GENES, screen.n_genes)
        reader = MatrixReader(screen.path, gene_start=g, gene_stop=stop)
        density = 0.0
        for start, end in map(screen.control_rows, screen.contexts):
            block = reader.read(start, min(end, start + _SAMPLED_CONTROLS))
            density = max(density, np.count_nonzero(block) / block.size)
        densities.append(density)
    return densities
