"""One tile of the rank-sum map, as a task."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from pertscale.errors import CorruptFileError
from pertscale.execution.buffers import BufferPool, Buffers
from pertscale.io.store.matrix import MatrixReader
from pertscale.screen import Screen, check_unchanged, opened_screen
from pertscale.stats.differential._kernels import KERNELS
from pertscale.stats.differential._kernels.kernel import STATISTICS_DTYPE
from pertscale.stats.differential.control_cache import ControlCache, Controls
from pertscale.stats.differential.half_cells import Halves, opened_halves
from pertscale.stats.differential.half_tiles import SUFFIX, HalfTests, Window, half_dtype
from pertscale.stats.differential.null_cells import NullCells, opened_nulls
from pertscale.stats.differential.null_tiles import SUFFIX as NULLS_SUFFIX
from pertscale.stats.differential.null_tiles import (
    NullTests,
    has_nulls,
    nulls_complete,
    write_null_tests,
)
from pertscale.stats.differential.tile_statistics import is_complete, write_rows
from pertscale.stats.differential.tiles import Tile, windows
from pertscale.storage.atomic import atomic_path


@dataclass(frozen=True, kw_only=True)
class TileTask:
    """Descriptor of one tile: everything a worker needs to do it.

    Attributes
    ----------
    store, fingerprint : str
        The screen.
    statistics_file : str
        What is written; see :mod:`pertscale.stats.differential.tile_statistics`.
    tile : Tile
    window_rows, window_groups : int
        Cells and perturbations that are tested at once, at most.
    kernel : str
        Name in ``KERNELS``.
    variant : int
        Code of the statistic, as kernels take it.
    is_counts : bool
    halves : Halves, optional
        Halves of the cells, which are summed and tested in the same pass.
    nulls : NullCells, optional
        Controls that are tested against the others in the same pass.
    arithmetic : bool
        Whether fold changes are of means of normalised counts.
    """

    store: str
    fingerprint: str
    statistics_file: str
    tile: Tile
    window_rows: int
    window_groups: int
    kernel: str
    variant: int
    is_counts: bool
    halves: Halves | None
    nulls: NullCells | None
    arithmetic: bool

    @property
    def is_done(self) -> bool:
        """Whether what is written is there."""
        if not is_complete(self.statistics_file, self.tile):
            return False
        if self.nulls is not None and not nulls_complete(
            self.nulls_file, self.tile, opened_nulls(self.nulls)
        ):
            return False
        return self.halves is None or is_complete(
            self.halves_file, self.tile, half_dtype(self.halves.n_seeds)
        )

    @property
    def halves_file(self) -> str:
        """What is written of the halves."""
        return self.statistics_file + SUFFIX

    @property
    def nulls_file(self) -> str:
        """What is written of controls against controls, by the first tile of a block of genes."""
        return self.statistics_file + NULLS_SUFFIX

    @property
    def name(self) -> str:
        """Name in the log."""
        return self.tile.name

    def describe(self) -> str:
        """Say which perturbations and genes these are."""
        screen, tile = opened_screen(self.store, self.fingerprint), self.tile
        context = screen.contexts[tile.context]
        names = list(screen.context_groups(context)["perturbation"])[1 + tile.first : 1 + tile.last]
        shown = ", ".join(names[:5]) + (f" … {names[-1]}" if len(names) > 5 else "")
        return (
            f"tile {tile.name} (context {context}, {len(names)} perturbations: {shown}; genes "
            f"{tile.gene_start} to {tile.gene_stop})"
        )


def process_tile(task: TileTask) -> dict[str, Any]:
    """Test the perturbations of a tile on its genes, unless that is done."""
    if task.is_done:
        return {"tile": task.tile.name, "bytes_read": 0}
    screen = opened_screen(task.store, task.fingerprint)
    try:
        return _test_tile(task, screen)
    except CorruptFileError:
        check_unchanged(screen)  # chunks of another store are not damaged
        raise


def _test_tile(task: TileTask, screen: Screen) -> dict[str, Any]:
    """Write the controls' sums, then the results of one window of perturbations after the other."""
    tile, halves = task.tile, _half_tests(task, screen)
    with _buffers.borrow() as buffers, ExitStack() as stack:
        reader = MatrixReader(
            task.store, gene_start=tile.gene_start, gene_stop=tile.gene_stop, buffers=buffers
        )
        prepared = _controls.prepared(
            screen,
            tile,
            reader,
            kernel=task.kernel,
            is_counts=task.is_counts,
            halves=halves,
            nulls=_null_tests(task, screen),
            scratch=buffers,
        )
        controls = stack.enter_context(prepared)
        if controls.nulls is not None and has_nulls(tile):
            write_null_tests(task.nulls_file, controls.nulls)
        rows = {task.statistics_file: controls.whole.statistics[None]}
        if controls.halves is not None:
            rows[task.halves_file] = controls.halves.row
        files = {path: _opened(path, stack) for path in rows}
        for path, file in files.items():
            write_rows(file, tile, 0, rows[path], buffers)
        for window in _windows(task, screen):
            block = reader.read(window.start, window.stop)
            found = _tested(task, screen, controls, halves, buffers, block, window)
            for path, file in files.items():
                write_rows(file, tile, 1 + window.first, found[path], buffers)
        check_unchanged(screen)
    return {"tile": tile.name, "bytes_read": reader.bytes_read}


def _opened(path: str, stack: ExitStack) -> BinaryIO:
    """Open a file that gets its name when all is written."""
    return stack.enter_context(stack.enter_context(atomic_path(path)).open("wb"))


def _half_tests(task: TileTask, screen: Screen) -> HalfTests | None:
    if task.halves is None:
        return None
    return HalfTests(
        opened_halves(task.halves),
        kernel=task.kernel,
        totals=screen.totals,
        is_counts=task.is_counts,
        variant=task.variant,
        arithmetic=task.arithmetic,
    )


def _null_tests(task: TileTask, screen: Screen) -> NullTests | None:
    if task.nulls is None:
        return None
    return NullTests(
        opened_nulls(task.nulls),
        kernel=task.kernel,
        totals=screen.totals,
        is_counts=task.is_counts,
        variant=task.variant,
    )


def _windows(task: TileTask, screen: Screen) -> Iterator[Window]:
    """Yield the perturbations of a tile that are tested at once."""
    tile = task.tile
    groups = screen.context_groups(screen.contexts[tile.context])
    n_control, *sizes = screen.group_sizes[groups.index]
    tested = groups.iloc[1 + tile.first : 1 + tile.last]
    starts, stops = (tested[edge].to_numpy(np.int64) for edge in ("start", "stop"))
    for first, last in windows(starts, stops, task.window_rows, task.window_groups):
        start, stop = int(starts[first]), int(stops[last - 1])
        yield Window(
            first=first,
            start=start,
            stop=stop,
            groups=tested.index[first:last].to_numpy(),
            bounds=np.append(starts[first:last], stop) - start,
            most_cells=int(n_control + max(sizes)),
        )


def _tested(
    task: TileTask,
    screen: Screen,
    controls: Controls,
    halves: HalfTests | None,
    buffers: Buffers,
    block: np.ndarray,
    window: Window,
) -> dict[str, np.ndarray]:
    """Test a window of a block; return the rows, (perturbations, genes), of each file."""
    out = buffers.take("out", (len(window.groups), len(block)), STATISTICS_DTYPE)
    if halves is not None and controls.halves is not None:
        rows = halves.test(controls.whole, controls.halves, buffers, block, window, out)
        return {task.statistics_file: out, task.halves_file: rows}
    KERNELS[task.kernel].test(
        block,
        screen.totals[window.start : window.stop],
        window.bounds,
        controls.whole,
        is_counts=task.is_counts,
        variant=task.variant,
        most_cells=window.most_cells,
        out=out,
    )
    return {task.statistics_file: out}


#: Of this process: memory for tiles, and the controls that its tasks share.
_buffers = BufferPool()
_controls = ControlCache()


def release_memory() -> None:
    """Free what tiles of this process kept for the next one."""
    _buffers.clear()
    _controls.clear()
