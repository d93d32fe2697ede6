"""Differential-expression labels and pseudobulks: a map over perturbation chunks (SPEC A3, B).

Two maps on the current Dask scheduler. The first tests tiles (perturbations x a block of genes)
and writes each one's statistics; the second, over fixed parts of the label table, adjusts the
p-values of whole perturbations, assigns labels, and writes Parquet and the pseudobulk. The parts
do not depend on the tiles, so the same screen gives the same bytes for any memory, scheduler and
number of workers. Both skip what an earlier run has finished.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from pertscale.errors import InputError
from pertscale.hashing import digest
from pertscale.io.atomic import read_json, remove, replace
from pertscale.io.matrix import MatrixReader
from pertscale.io.places import Place, Remote, absolute, place
from pertscale.io.publish import Layout, finished_folder
from pertscale.io.store import CHUNK_GENES, CHUNK_ROWS
from pertscale.memory import memory_bytes
from pertscale.runner import (
    ClientLike,
    everywhere,
    run,
    tasks_in_all,
    tasks_per_process,
    use_client,
)
from pertscale.schema import COUNTS, LABELS_DIR, MANIFEST_FILE, PSEUDOBULK_DIR
from pertscale.screen import Screen, check_unchanged, open_screen
from pertscale.stats._kernels.ranksum import STATISTICS_DTYPE, table_bytes
from pertscale.stats.controls import control_rows
from pertscale.stats.labels import LabelTable, read_labels
from pertscale.stats.options import TESTS, RankSumOptions
from pertscale.stats.parts import finish_tables, make_parts, release_memory, write_part
from pertscale.stats.pieces import write_index
from pertscale.stats.screen_wide import write_steps
from pertscale.stats.tile_task import TileTask, process_tile
from pertscale.tiles import Matrix, TilePlan, plan_tiles

#: Cells that a group needs to be tested against (SPEC B5).
MIN_CONTROLS = 2
#: Control cells that the density of a block of genes is taken from.
_SAMPLED_CONTROLS = CHUNK_ROWS
#: What is published on object storage.
_LAYOUT = Layout((LABELS_DIR, PSEUDOBULK_DIR), f"{LABELS_DIR}/{MANIFEST_FILE}", keep=False)


def rank_sum(
    screen: str | os.PathLike[str] | Screen,
    *,
    out: str | os.PathLike[str] | None = None,
    test: str = "mannwhitney",
    fdr: float = 0.01,
    fold_change: str = "geometric",
    min_cells: int = 2,
    memory: str | int = "1GB",
    client: ClientLike = None,
    quiet: bool = False,
) -> LabelTable:
    """Test every perturbation of every context against that context's controls, gene by gene.

    Two-sided asymptotic Wilcoxon-Mann-Whitney test on exact ranks (two cells tie if and only if
    ``count1 * total2 == count2 * total1``), Benjamini-Hochberg over the genes of a perturbation,
    direction from the difference of mean log1p expression. The same pass over the cells yields
    the pseudobulk.

    Parameters
    ----------
    screen : path, URL or Screen
        A screen store; one on object storage is read by the workers directly.
    out : path or URL, optional
        Folder for ``labels/`` and ``pseudobulk.zarr``; by default the store's name with the
        suffix ``.labels``. A finished table of the same screen and options is returned as it is;
        an interrupted one is continued.
    test : {'mannwhitney', 'scanpy', 'scanpy_tie'}
        Tie and continuity corrected as in SciPy's ``method='asymptotic'``, pdex and illico; or
        scanpy's two variants without continuity correction (SPEC B1).
    fdr : float
        Threshold on the adjusted p-value.
    fold_change : {'geometric', 'arithmetic'}
        Log2 ratio of ``expm1`` of the mean log1p expression (scanpy), or of the means of
        normalised counts (SPEC B3).
    min_cells : int
        Perturbations with fewer cells are listed as not tested (SPEC B5).
    memory : str or int
        What the tasks of one process may hold together. Never less than the sorted controls of
        16 genes and the largest perturbation need.
    client : Client, cluster, address or scheduler file, optional
        Where to run; by default Dask's current scheduler.
    quiet : bool
        Show no progress.

    Returns
    -------
    LabelTable

    Raises
    ------
    MemoryBudgetError
        If `memory` is too small for even the narrowest tile; the error names what would do.
    InputError
        If a context has fewer control cells than the test needs.
    """
    screen = open_screen(screen)
    options = RankSumOptions(test, fdr, fold_change, min_cells)
    output = absolute(out) if out is not None else place(screen.path).with_suffix(".labels")
    key = labels_key(screen, options)
    if _is_finished(output, key):
        return read_labels(output)
    if isinstance(output, Remote):
        with finished_folder(output, _LAYOUT, quiet=quiet) as local:
            rank_sum(
                screen, out=local, test=test, fdr=fdr, fold_change=fold_change,
                min_cells=min_cells, memory=memory, client=client, quiet=quiet,
            )  # fmt: skip
        return read_labels(output)
    folder = output
    _check_controls(screen)
    staging = folder / f".rank-sum-{key}"
    _remove_stale(folder, staging)
    with use_client(client) as resolved:
        plan = _plan(screen, memory_bytes(memory), resolved)
        tasks = [
            TileTask(
                screen.path,
                screen.fingerprint,
                str(staging / "tiles" / f"{tile.name}.bin"),
                tile,
                plan.window_rows,
                plan.window_groups,
                TESTS[options.test],
                screen.scale == COUNTS,
            )
            for tile in plan.tiles
        ]
        run(process_tile, tasks, label="rank-sum", client=resolved, quiet=quiet)
        write_index(staging, [(t.tile, t.piece) for t in tasks])
        write_steps(screen, staging, options, resolved, quiet=quiet)
        parts = make_parts(screen, staging, options)
        receipts = run(write_part, parts, label="labels", client=resolved, quiet=quiet)
        everywhere(release_memory, resolved)
    check_unchanged(screen)
    finish_tables(screen, staging, options, receipts, key)
    for name in (PSEUDOBULK_DIR, LABELS_DIR):  # the labels' manifest says that both are there
        replace(staging / name, folder / name)
    remove(staging)
    return read_labels(folder)


def labels_key(screen: Screen, options: RankSumOptions) -> str:
    """Hash of all that the label table depends on."""
    return digest("rank-sum", 2, screen.fingerprint, options.as_dict())


def _is_finished(folder: Place, key: str) -> bool:
    manifest = folder / LABELS_DIR / MANIFEST_FILE
    return manifest.exists() and read_json(manifest)["key"] == key


def _remove_stale(folder: Path, staging: Path) -> None:
    for other in folder.glob(".rank-sum-*"):
        if other != staging:
            remove(other)


def _check_controls(screen: Screen) -> None:
    for row in screen.groups[screen.groups["is_control"]].itertuples():
        if row.stop - row.start < MIN_CONTROLS:
            raise InputError(
                f"context {row.context!r} has {row.stop - row.start} control cells, the rank-sum "
                f"test needs {MIN_CONTROLS}; name further controls with control= when you ingest "
                f"({screen.path})"
            )


def _plan(screen: Screen, memory: int, client: Any) -> TilePlan:
    groups = screen.groups
    sizes = groups["stop"] - groups["start"]
    dtype = np.dtype(screen.info["dtype"])
    matrix = Matrix(
        n_genes=screen.n_genes,
        gene_chunk=CHUNK_GENES,
        row_chunk=CHUNK_ROWS,
        itemsize=dtype.itemsize,
        control_bytes=_control_bytes(screen, dtype.itemsize),
        statistics_bytes=STATISTICS_DTYPE.itemsize,
    )
    return plan_tiles(
        [list(sizes[groups["context"] == context]) for context in screen.contexts],
        matrix,
        memory_bytes=memory,
        n_parallel=tasks_per_process(client),
        n_threads=tasks_in_all(client),
    )


def _control_bytes(screen: Screen, itemsize: int) -> float:
    """Bytes per control cell and gene: the value, and its share of a sorted table."""
    density = _largest_density(screen)
    most = max(
        stop - start
        for start, stop in (control_rows(screen, c) for c in range(len(screen.contexts)))
    )
    return itemsize + density * table_bytes(int(most * density))


def _largest_density(screen: Screen) -> float:
    """Share of non-zero values in the densest block of genes, from some controls."""
    found = 0.0
    for g in range(0, screen.n_genes, CHUNK_GENES):
        stop = min(g + CHUNK_GENES, screen.n_genes)
        reader = MatrixReader(screen.path, gene_start=g, gene_stop=stop)
        for context in range(len(screen.contexts)):
            start, end = control_rows(screen, context)
            block = reader.read(start, min(end, start + _SAMPLED_CONTROLS))
            found = max(found, np.count_nonzero(block) / block.size)
    return found
