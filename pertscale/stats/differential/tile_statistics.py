"""The statistics of one tile on disk, between the test and the label table.

One file per tile, without a header: the fields of a structured type one after the other, each an
array (1 + perturbations, genes) whose row 0 belongs to the controls. Fields are apart, so that a
reader of p-values reads only those, and some rows of a field are one stretch.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np

from pertscale.errors import CorruptFileError
from pertscale.execution.buffers import Buffers
from pertscale.stats.differential._kernels.kernel import STATISTICS_DTYPE
from pertscale.stats.differential.tiles import Tile
from pertscale.storage.atomic import read_json, write_json


def write_rows(
    file: BinaryIO, tile: Tile, first_row: int, statistics: np.ndarray, buffers: Buffers
) -> None:
    """Write some rows of a tile's statistics to a file that is open for it."""
    for field, (dtype, offset) in _fields(tile, statistics.dtype).items():
        values = buffers.take("field", statistics.shape, dtype)
        np.copyto(values, statistics[field])
        file.seek(offset + first_row * tile.shape[1] * dtype.itemsize)
        file.write(values.data)


def is_complete(
    path: str | os.PathLike[str], tile: Tile, dtype: np.dtype = STATISTICS_DTYPE
) -> bool:
    """Whether the statistics of a tile are there, and the file has its full length."""
    file = Path(path)
    itemsize = sum(one.itemsize for one, _ in _fields(tile, dtype).values())
    return file.is_file() and file.stat().st_size == itemsize * tile.shape[0] * tile.shape[1]


def open_statistics(path: str | os.PathLike[str], tile: Tile) -> dict[str, np.ndarray]:
    """Map a tile into memory: each field as a read-only array (1 + perturbations, genes)."""
    raw = np.memmap(Path(path), np.uint8, mode="r")
    statistics = {}
    for field, (dtype, offset) in _fields(tile, STATISTICS_DTYPE).items():
        size = tile.shape[0] * tile.shape[1] * dtype.itemsize
        statistics[field] = np.asarray(raw[offset : offset + size]).view(dtype).reshape(tile.shape)
    return statistics


class StatisticsFile:
    """A tile's file, open for the rows of some perturbations.

    They are read, not mapped: a part of the label table needs a few rows of every tile, and each
    page that is mapped anew costs more than its copy.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        tile: Tile,
        buffers: Buffers,
        dtype: np.dtype = STATISTICS_DTYPE,
    ) -> None:
        self._file = FileIO(path)
        self._tile, self._fields, self._buffers = tile, _fields(tile, dtype), buffers

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def rows(self, field: str, first: int, last: int) -> np.ndarray:
        """Return rows of a field (last - first, genes), in memory that the next call overwrites."""
        dtype, offset = self._fields[field]
        genes = self._tile.shape[1]
        values = self._buffers.take("rows", (last - first, genes), dtype)
        self._file.seek(offset + first * genes * dtype.itemsize)
        if self._file.readinto(values.reshape(-1).view(np.uint8).data) != values.nbytes:
            raise CorruptFileError(f"{self._file.name} is shorter than the statistics of its tile")
        return values


@dataclass(frozen=True)
class ContextStatistics:
    """The statistics of a context, in the files of its tiles.

    Attributes
    ----------
    index : sequence of (Tile, str)
        All tiles of the run, and their files.
    context : int
    first_group : int
        Row of ``Screen.groups`` of the context's controls.
    n_genes : int
    """

    index: Sequence[tuple[Tile, str]]
    context: int
    first_group: int
    n_genes: int

    def rows(
        self,
        groups: slice,
        names: Sequence[str],
        buffers: Buffers,
        *,
        dtype: np.dtype = STATISTICS_DTYPE,
        suffix: str = "",
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Return statistics of some groups, (groups, genes), and of the controls, (genes,).

        Parameters
        ----------
        groups : slice
            Rows of ``Screen.groups``, of this context.
        names : sequence of str
            Fields of `dtype`.
        buffers : Buffers
        dtype : dtype
            Of what the files hold.
        suffix : str
            Of their names, after those of the index.
        """
        # rows of the context's tiles put together: 0 are the controls
        start, stop = groups.start - self.first_group, groups.stop - self.first_group
        fields = {name: dtype[name] for name in names}
        shape = (stop - start, self.n_genes)
        collected = {name: buffers.take(name, shape, one) for name, one in fields.items()}
        control = {name: np.zeros(self.n_genes, one) for name, one in fields.items()}
        for tile, path in self.index:
            lo, hi = max(start, 1 + tile.first), min(stop, 1 + tile.last)
            if tile.context != self.context or (lo >= hi and tile.first > 0):
                continue
            genes = slice(tile.gene_start, tile.gene_stop)
            with StatisticsFile(path + suffix, tile, buffers, dtype) as of_tile:
                for name in names:
                    control[name][genes] = of_tile.rows(name, 0, 1)
                    if lo < hi:
                        rows = of_tile.rows(name, lo - tile.first, hi - tile.first)
                        collected[name][lo - start : hi - start, genes] = rows
        if start == 0:
            for name, values in control.items():
                collected[name][0] = values
        return collected, control


def _fields(tile: Tile, dtype: np.dtype) -> dict[str, tuple[np.dtype, int]]:
    """Type of each field, and where its array begins in the file."""
    rows, genes = tile.shape
    fields: dict[str, tuple[np.dtype, int]] = {}
    at = 0
    for field in dtype.names or ():
        fields[field] = (dtype[field], at)
        at += rows * genes * dtype[field].itemsize
    return fields


def write_index(staging: Path, files: Sequence[tuple[Tile, str]]) -> None:
    """Write down where the statistics of each tile are, for the tasks that read them."""
    write_json(
        staging / _INDEX,
        [[t.context, t.first, t.last, t.gene_start, t.gene_stop, path] for t, path in files],
    )


def read_index(staging: str) -> list[tuple[Tile, str]]:
    """Return the tiles and the files of their statistics."""
    return [(Tile(*where), path) for *where, path in read_json(Path(staging, _INDEX))]


_INDEX = "pieces.json"
