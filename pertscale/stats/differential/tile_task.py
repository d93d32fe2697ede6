"""One tile of the rank-sum map, as a task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pertscale.errors import CorruptFileError
from pertscale.execution.buffers import BufferPool
from pertscale.io.store.matrix import MatrixReader
from pertscale.screen import Screen, check_unchanged, opened_screen
from pertscale.stats.differential._kernels import KERNELS
from pertscale.stats.differential._kernels.kernel import STATISTICS_DTYPE
from pertscale.stats.differential.control_cache import ControlCache
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
    if is_complete(task.statistics_file, task.tile):
        return {"tile": task.tile.name, "bytes_read": 0}
    screen = opened_screen(task.store, task.fingerprint)
    try:
        return _test_tile(task, screen)
    except CorruptFileError:
        check_unchanged(screen)  # chunks of another store are not damaged
        raise


def _test_tile(task: TileTask, screen: Screen) -> dict[str, Any]:
    """Write the controls' sums, then the results of one window of perturbations after the other."""
    tile = task.tile
    groups = screen.context_groups(screen.contexts[tile.context])
    sizes = screen.group_sizes[groups.index].to_numpy()
    starts = groups["start"].to_numpy()[1 + tile.first : 1 + tile.last]
    stops = groups["stop"].to_numpy()[1 + tile.first : 1 + tile.last]
    kernel = KERNELS[task.kernel]
    with _buffers.borrow() as buffers, atomic_path(task.statistics_file) as temporary:
        reader = MatrixReader(
            task.store, gene_start=tile.gene_start, gene_stop=tile.gene_stop, buffers=buffers
        )
        with (
            _controls.prepared(
                screen, tile, reader, kernel=task.kernel, is_counts=task.is_counts
            ) as controls,
            temporary.open("wb") as file,
        ):
            write_rows(file, tile, 0, controls.statistics[None], buffers)
            for first, last in windows(starts, stops, task.window_rows, task.window_groups):
                lo, hi = int(starts[first]), int(stops[last - 1])
                out = buffers.take("out", (last - first, tile.shape[1]), STATISTICS_DTYPE)
                kernel.test(
                    reader.read(lo, hi),
                    screen.totals[lo:hi],
                    np.append(starts[first:last], hi).astype(np.int64) - lo,
                    controls,
                    is_counts=task.is_counts,
                    variant=task.variant,
                    most_cells=int(sizes[0] + sizes[1:].max()),
                    out=out,
                )
                write_rows(file, tile, 1 + first, out, buffers)
        check_unchanged(screen)
    return {"tile": tile.name, "bytes_read": reader.bytes_read}


#: Of this process: memory for tiles, and the controls that its tasks share.
_buffers = BufferPool()
_controls = ControlCache()


def release_memory() -> None:
    """Free what tiles of this process kept for the next one."""
    _buffers.clear()
    _controls.clear()
