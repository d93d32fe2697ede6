"""Differential-expression labels and pseudobulks: a map over perturbation chunks (SPEC A3, B).

Two maps on the current Dask scheduler. The first tests tiles (perturbations x a block of genes)
and writes each one's statistics; the second, over fixed parts of the label table, adjusts the
p-values of whole perturbations, assigns labels, and writes Parquet and the pseudobulk. The parts
do not depend on the tiles, so the same screen gives the same bytes for any memory, scheduler and
number of workers. Both skip what an earlier run has finished.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pertscale.errors import InputError
from pertscale.hashing import digest
from pertscale.io.atomic import atomic_path, read_json, remove, replace
from pertscale.io.store import CHUNK_GENES, CHUNK_ROWS, MatrixReader
from pertscale.memory import memory_bytes
from pertscale.runner import ClientLike, run, tasks_per_process, use_client
from pertscale.schema import COUNTS, LABELS_DIR, MANIFEST_FILE, PSEUDOBULK_DIR
from pertscale.screen import Screen, open_screen
from pertscale.stats._kernels.ranksum import (
    STATISTICS_DTYPE,
    ControlTable,
    control_tables,
)
from pertscale.stats._kernels.ranksum import (
    rank_sum as rank_sum_kernel,
)
from pertscale.stats.labels import LabelTable, read_labels
from pertscale.stats.options import TESTS, RankSumOptions
from pertscale.stats.parts import Part, finish_tables, part_groups, prepare_tables, write_part
from pertscale.tiles import Tile, TilePlan, plan_tiles, windows

#: Cells that a group needs to be tested against (SPEC B5).
MIN_CONTROLS = 2


@dataclass(frozen=True)
class TileTask:
    """Descriptor of one tile: everything a worker needs to do it."""

    store: str
    fingerprint: str
    piece: str
    tile: Tile
    window_rows: int
    variant: int
    is_counts: bool


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
    screen : path or Screen
        A screen store.
    out : path, optional
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
    folder = Path(out) if out is not None else Path(screen.path).with_suffix(".labels")
    folder = folder.absolute()  # workers may have another working directory
    key = labels_key(screen, options)
    if _is_finished(folder, key):
        return read_labels(folder)
    _check_controls(screen)
    staging = folder / f".rank-sum-{key}"
    _remove_stale(folder, staging)
    with use_client(client) as resolved:
        plan = _plan(screen, memory_bytes(memory), tasks_per_process(resolved))
        tasks = [
            TileTask(
                screen.path,
                screen.fingerprint,
                str(staging / "tiles" / f"{tile.name}.npy"),
                tile,
                plan.window_rows,
                TESTS[options.test],
                screen.scale == COUNTS,
            )
            for tile in plan.tiles
        ]
        run(process_tile, tasks, label="rank-sum", client=resolved, quiet=quiet)
        pieces = [(t.tile, t.piece) for t in tasks]
        prepare_tables(screen, staging, pieces, options)
        parts = [
            Part(screen.path, str(staging), index, first, last, options)
            for index, (first, last) in enumerate(part_groups(screen))
        ]
        receipts = run(write_part, parts, label="labels", client=resolved, quiet=quiet)
    finish_tables(screen, staging, options, receipts, key)
    for name in (PSEUDOBULK_DIR, LABELS_DIR):  # the labels' manifest says that both are there
        replace(staging / name, folder / name)
    remove(staging)
    return read_labels(folder)


def labels_key(screen: Screen, options: RankSumOptions) -> str:
    """Hash of all that the label table depends on."""
    return digest("rank-sum", 1, screen.fingerprint, options.as_dict())


def _is_finished(folder: Path, key: str) -> bool:
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


def _plan(screen: Screen, memory_bytes: int, parallel: int) -> TilePlan:
    sizes = screen.groups["stop"] - screen.groups["start"]
    itemsize = 4 if screen.scale != COUNTS else np.dtype(screen.info["dtype"]).itemsize
    return plan_tiles(
        [list(sizes[screen.groups["context"] == context]) for context in screen.contexts],
        n_genes=screen.n_genes,
        gene_chunk=CHUNK_GENES,
        row_chunk=CHUNK_ROWS,
        itemsize=itemsize,
        statistics_bytes=STATISTICS_DTYPE.itemsize,
        memory_bytes=memory_bytes,
        n_parallel=parallel,
    )


# --- one tile ---------------------------------------------------------------------------------


def process_tile(task: TileTask) -> dict[str, Any]:
    """Test the perturbations of a tile on its genes; write row 0 = controls, then perturbations."""
    piece = Path(task.piece)
    if piece.exists():
        return {"tile": task.tile.name, "bytes_read": 0}
    screen = _opened(task.store, task.fingerprint)
    tile = task.tile
    groups = screen.context_groups(screen.contexts[tile.context])
    starts = groups["start"].to_numpy()[1 + tile.first : 1 + tile.last]
    stops = groups["stop"].to_numpy()[1 + tile.first : 1 + tile.last]
    control, control_bytes = _controls.get(task, screen, int(groups["stop"].iloc[0]))
    out = np.zeros((1 + tile.last - tile.first, tile.gene_stop - tile.gene_start), STATISTICS_DTYPE)
    out[0] = control.statistics
    reader = MatrixReader(task.store, gene_start=tile.gene_start, gene_stop=tile.gene_stop)
    for first, last in windows(starts, stops, task.window_rows):
        lo, hi = int(starts[first]), int(stops[last - 1])
        rank_sum_kernel(
            reader.read(lo, hi),
            screen.totals[lo:hi],
            np.append(starts[first:last], hi).astype(np.int64) - lo,
            control,
            is_counts=task.is_counts,
            variant=task.variant,
            out=out[1 + first : 1 + last],
        )
    with atomic_path(piece) as temporary, temporary.open("wb") as file:
        np.save(file, out)
    return {"tile": tile.name, "bytes_read": reader.bytes_read + control_bytes}


class _ControlCache:
    """Sorted controls of the last gene block, one copy per process however many threads ask.

    The first task that needs a block builds it while the others wait for that block only. Tasks
    that still work on an earlier block keep it alive themselves.
    """

    def __init__(self, capacity: int = 1) -> None:
        self._capacity = capacity
        self._tables: OrderedDict[tuple[Any, ...], ControlTable] = OrderedDict()
        self._building: dict[tuple[Any, ...], threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, task: TileTask, screen: Screen, stop: int) -> tuple[ControlTable, int]:
        """Return the table of the tile's context and genes, and the bytes read to build it."""
        tile = task.tile
        key = (task.store, task.fingerprint, tile.context, tile.gene_start, tile.gene_stop)
        with self._lock:
            if key in self._tables:
                self._tables.move_to_end(key)
                return self._tables[key], 0
            building = self._building.setdefault(key, threading.Lock())
        with building:
            with self._lock:
                if key in self._tables:
                    return self._tables[key], 0
            start = int(screen.context_groups(screen.contexts[tile.context])["start"].iloc[0])
            reader = MatrixReader(task.store, gene_start=tile.gene_start, gene_stop=tile.gene_stop)
            table = control_tables(
                reader.read(start, stop), screen.totals[start:stop], is_counts=task.is_counts
            )
            with self._lock:
                self._tables[key] = table
                self._building.pop(key, None)
                while len(self._tables) > self._capacity:
                    self._tables.popitem(last=False)
            return table, reader.bytes_read


_controls = _ControlCache()
_screens: OrderedDict[tuple[str, str], Screen] = OrderedDict()
_screens_lock = threading.Lock()


def _opened(path: str, fingerprint: str) -> Screen:
    """Open a screen once per process; its totals are shared by all tiles."""
    with _screens_lock:
        if (path, fingerprint) not in _screens:
            _screens[path, fingerprint] = open_screen(path)
            while len(_screens) > 2:
                _screens.popitem(last=False)
        return _screens[path, fingerprint]
