"""Tests of controls against the other controls: of one tile, in the same pass as all others.

Beside the statistics of the first tile of each block of genes there is a file with the z of these
tests, float32 (tests of the context, genes of the tile).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pertscale.errors import CorruptFileError
from pertscale.execution.buffers import Buffers
from pertscale.stats.differential._kernels import KERNELS
from pertscale.stats.differential._kernels.kernel import PreparedControls
from pertscale.stats.differential.null_cells import NullCells
from pertscale.stats.differential.tiles import Tile
from pertscale.storage.atomic import atomic_path

#: Suffix of the file beside that of a tile.
SUFFIX = ".nulls"
DTYPE = np.dtype(np.float32)
#: Scratch per control: its rank.
CONTROL_BYTES = 8


class NullTests:
    """Tests controls of a block of genes against the other controls.

    Parameters
    ----------
    nulls : NullCells
    kernel : str
        Name in ``KERNELS``.
    totals : ndarray (cells,), float64
        Of the screen's cells.
    is_counts : bool
    variant : int
        Code of the statistic, as kernels take it.
    """

    def __init__(
        self, nulls: NullCells, *, kernel: str, totals: np.ndarray, is_counts: bool, variant: int
    ) -> None:
        self._nulls, self._kernel, self._totals = nulls, KERNELS[kernel], totals
        self._is_counts, self._variant = is_counts, variant
        #: What the tests depend on, beside the screen.
        self.key = nulls.min_cells, variant

    def test(
        self,
        block: np.ndarray,
        start: int,
        context: int,
        controls: PreparedControls,
        buffers: Buffers,
    ) -> np.ndarray:
        """Return z (tests, genes), in memory of `buffers`.

        `controls` were prepared from the block, (genes, cells), whose first cell is row `start`.
        """
        bounds, chosen = self._nulls.cells(context)
        z = buffers.take("nulls", (len(bounds) - 1, len(block)), DTYPE)
        self._kernel.test_chosen(
            block,
            self._totals[start : start + block.shape[1]],
            bounds,
            chosen,
            controls,
            is_counts=self._is_counts,
            variant=self._variant,
            most_cells=block.shape[1],
            z=z,
        )
        return z


def has_nulls(tile: Tile) -> bool:
    """Whether a tile has the tests of its block of genes."""
    return tile.first == 0


def write_null_tests(path: str, z: np.ndarray) -> None:
    """Write the file beside a tile's."""
    with atomic_path(path) as temporary, temporary.open("wb") as opened:
        opened.write(z.tobytes())


def nulls_complete(path: str, tile: Tile, nulls: NullCells) -> bool:
    """Whether the file of a tile is there, in full length, if it has one."""
    if not has_nulls(tile):
        return True
    if not (nulls.is_written and Path(path).is_file()):
        return False
    first, last = nulls.span(tile.context)
    return Path(path).stat().st_size == (last - first) * tile.shape[1] * DTYPE.itemsize


def read_null_rows(path: str, tile: Tile, first: int, last: int) -> np.ndarray:
    """Return the tests ``first:last`` of a tile's context, (tests, genes)."""
    shape = last - first, tile.shape[1]
    with Path(path).open("rb") as file:
        file.seek(first * shape[1] * DTYPE.itemsize)
        values = np.fromfile(file, DTYPE, shape[0] * shape[1])
    if values.size != shape[0] * shape[1]:
        raise CorruptFileError(f"{path} is shorter than the tests of its tile")
    return values.reshape(shape)
