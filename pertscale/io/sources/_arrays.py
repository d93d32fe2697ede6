"""Matrices kept as arrays (HDF5, Zarr): compressed by row, compressed by column, dense.

The arrays only need ``shape``, ``dtype`` and slicing, which h5py and zarr share.
Structure is checked here (lengths, offsets, index ranges); the caller checks values.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from pertscale.errors import CorruptFileError, InputError
from pertscale.execution.buffers import Buffers
from pertscale.io.guards.damage import file_errors
from pertscale.io.guards.limits import checked_array
from pertscale.io.sources._base import Block, CsrBlock
from pertscale.io.sources._hdf5 import read_stretch
from pertscale.io.sources._kernels import compress_rows, sort_by_row

#: Offsets looked at together when rows are cut into blocks: 8 MB.
_OFFSETS_AT_ONCE = 1 << 20


class RowMatrix(Protocol):
    """A matrix that can be cut into blocks and read block by block."""

    shape: tuple[int, int]
    row_major: bool

    def blocks(self, block_bytes: int) -> list[Block]:
        """Partition the entries."""

    def read(self, block: Block, buffers: Buffers | None = None) -> CsrBlock:
        """Read one block."""


def rows_from_entries(
    rows: np.ndarray, genes: np.ndarray, data: np.ndarray, buffers: Buffers | None = None
) -> CsrBlock:
    """Sort single entries by row, keeping their order within a row; duplicates stay."""
    if len(rows) == 0:
        return CsrBlock(0, np.zeros(1, np.int64), genes, data)
    row_start = int(rows.min())
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows - row_start))]).astype(np.int64)
    take = (buffers or Buffers()).take
    by_row = take("genes by row", genes.shape, genes.dtype)
    data_by_row = take("data by row", data.shape, data.dtype)
    sort_by_row(rows, row_start, genes, data, indptr[:-1].copy(), by_row, data_by_row)
    return CsrBlock(row_start, indptr, by_row, data_by_row)


def check_codes(codes: np.ndarray, limit: int, where: str, what: str) -> None:
    """Raise where an index points outside the matrix."""
    if len(codes) and (int(codes.min()) < 0 or int(codes.max()) >= limit):
        bad = int(codes.min()) if int(codes.min()) < 0 else int(codes.max())
        raise CorruptFileError(
            f"{where} holds the {what} index {bad}, but the matrix has {limit} {what}s "
            f"(0 to {limit - 1}); the file is damaged: write it again"
        )


def _check_numbers(array: Any, where: str) -> None:
    if array.dtype.kind not in "biuf":
        raise InputError(f"{where} holds {array.dtype}, a matrix of counts holds numbers")


def computed(dtype: np.dtype) -> np.dtype:
    """Return the type that numbers are computed in: of this machine, and known to numba."""
    others = {"e": np.float32, "g": np.float64}
    return np.dtype(others.get(dtype.char, dtype.newbyteorder("=")))


class Compressed:
    """What compressed rows and compressed columns share: data, indices, indptr.

    Parameters
    ----------
    group
        Mapping with the arrays ``data``, ``indices`` and ``indptr``.
    shape
        (cells, genes).
    n_major
        Number of compressed rows or columns.
    where
        File and dataset, for messages.
    """

    def __init__(self, group: Any, *, shape: tuple[int, int], n_major: int, where: str) -> None:
        self.shape = shape
        self.where = where
        with file_errors(where):
            self.data, self.indices, self.indptr = (
                checked_array(group[name], f"{where}/{name}")
                for name in ("data", "indices", "indptr")
            )
        _check_numbers(self.data, where)
        for name, array in (("indices", self.indices), ("indptr", self.indptr)):
            if array.dtype.kind not in "iu" or array.ndim != 1:
                raise CorruptFileError(
                    f"{where}/{name} is {array.ndim}-dimensional {array.dtype}, not a list of "
                    "whole numbers; the file is damaged: write it again"
                )
        self._n_major = n_major
        self.n_entries = int(self.data.shape[0])
        if self.indices.shape != self.data.shape:
            raise CorruptFileError(
                f"{where}: 'data' has {self.data.shape[0]} entries but 'indices' has "
                f"{self.indices.shape[0]}; the file is incomplete: write it again"
            )
        if self.indptr.shape != (n_major + 1,):
            raise CorruptFileError(
                f"{where}/indptr has {self.indptr.shape[0]} offsets, the shape "
                f"{shape[0]} x {shape[1]} needs {n_major + 1}; the file is damaged: write it again"
            )

    @property
    def entry_bytes(self) -> int:
        """Stored bytes of one entry: value and index."""
        return int(self.data.dtype.itemsize + self.indices.dtype.itemsize)

    def offsets(self, start: int, stop: int) -> np.ndarray:
        """Offsets ``start`` to ``stop`` inclusive, checked to grow within the stored data."""
        with file_errors(f"{self.where}/indptr, rows {start} to {stop}"):
            found = np.asarray(self.indptr[start : stop + 1]).astype(np.int64)
        falls = np.flatnonzero(np.diff(found) < 0)
        if len(falls) or found[0] < 0 or found[-1] > self.n_entries:
            row = start + (int(falls[0]) if len(falls) else len(found) - 1)
            raise CorruptFileError(
                f"{self.where}/indptr is not a growing list of offsets into {self.n_entries} "
                f"entries (at row {row}); the file is damaged: write it again"
            )
        return found

    def entries(
        self, start: int, stop: int, span: str, buffers: Buffers
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return indices and values of the entries `start` to `stop`."""
        found = []
        for name, array in (("indices", self.indices), ("data", self.data)):
            values = buffers.take(name, (stop - start,), computed(array.dtype))
            with file_errors(f"{self.where}/{name}, {span}"):
                read_stretch(array, start, values)
            found.append(values)
        return found[0], found[1]

    def check_ends(self, first: int, last: int) -> None:
        """Raise unless the offsets run from 0 to the number of entries."""
        if first != 0 or last != self.n_entries:
            raise CorruptFileError(
                f"{self.where}/indptr runs from {first} to {last}, but {self.n_entries} entries "
                "are stored; the file is incomplete: write it again"
            )


class CompressedRows(Compressed):
    """CSR: the entries of a cell stand together."""

    row_major = True

    def __init__(self, group: Any, *, shape: tuple[int, int], where: str) -> None:
        super().__init__(group, shape=shape, n_major=shape[0], where=where)

    def blocks(self, block_bytes: int) -> list[Block]:
        """Cut at rows; offsets are looked at a million at a time."""
        n_rows = self.shape[0]
        if n_rows == 0:
            return []
        entries = max(1, block_bytes // self.entry_bytes)
        most_rows = max(1, block_bytes // 8)
        found: list[Block] = []
        first = last = 0
        for start in range(0, n_rows, _OFFSETS_AT_ONCE):
            offsets = self.offsets(start, min(start + _OFFSETS_AT_ONCE, n_rows))
            first = int(offsets[0]) if start == 0 else first
            last = int(offsets[-1])
            found.extend(_cut_rows(offsets, start, entries, most_rows))
        self.check_ends(first, last)
        return found

    def read(self, block: Block, buffers: Buffers | None = None) -> CsrBlock:
        """Read whole rows; about the planned bytes."""
        offsets = self.offsets(block.start, block.stop)
        span = f"rows {block.start} to {block.stop}"
        indices, data = self.entries(int(offsets[0]), int(offsets[-1]), span, buffers or Buffers())
        check_codes(indices, self.shape[1], f"{self.where}/indices, {span},", "gene")
        return CsrBlock(block.start, offsets - offsets[0], indices, data)


def _cut_rows(offsets: np.ndarray, row: int, entries: int, most_rows: int) -> Iterator[Block]:
    """Longest runs of rows with at most `entries` entries; a larger row stands alone."""
    at, n_rows = 0, len(offsets) - 1
    while at < n_rows:
        reach = int(np.searchsorted(offsets, offsets[at] + entries, side="right")) - 1
        stop = min(max(reach, at + 1), at + most_rows, n_rows)
        yield Block(row + at, row + stop, row + at, stop - at, int(offsets[stop] - offsets[at]))
        at = stop


class CompressedColumns(Compressed):
    """CSC: the entries of a gene stand together, so a block has entries of all cells."""

    row_major = False

    def __init__(self, group: Any, *, shape: tuple[int, int], where: str) -> None:
        super().__init__(group, shape=shape, n_major=shape[1], where=where)

    def blocks(self, block_bytes: int) -> list[Block]:
        """Cut by stored entries, within a gene too: one gene of many cells stays bounded."""
        offsets = self.offsets(0, self.shape[1])
        self.check_ends(int(offsets[0]), int(offsets[-1]))
        step = max(1, block_bytes // self.entry_bytes)
        return [
            Block(
                start,
                min(start + step, self.n_entries),
                0,
                self.shape[0],
                min(step, self.n_entries - start),
            )
            for start in range(0, self.n_entries, step)
        ]

    def read(self, block: Block, buffers: Buffers | None = None) -> CsrBlock:
        """Read entries and sort them by cell."""
        span = f"entries {block.start} to {block.stop}"
        buffers = buffers or Buffers()
        rows, data = self.entries(block.start, block.stop, span, buffers)
        check_codes(rows, self.shape[0], f"{self.where}/indices, {span},", "cell")
        offsets = np.clip(self.offsets(0, self.shape[1]), block.start, block.stop)
        genes = np.repeat(np.arange(self.shape[1], dtype=np.int32), np.diff(offsets))
        return rows_from_entries(rows, genes, data, buffers)


class DenseRows:
    """Dense array of (cell, gene); zeros are left out, NaN stays."""

    row_major = True

    def __init__(self, array: Any, *, where: str) -> None:
        if len(array.shape) != 2:
            raise CorruptFileError(
                f"{where} has {len(array.shape)} dimensions, a matrix of cells by genes has 2"
            )
        _check_numbers(array, where)
        self.array = array
        self.shape = (int(array.shape[0]), int(array.shape[1]))
        self.where = where

    def blocks(self, block_bytes: int) -> list[Block]:
        """Whole chunks of rows, unless a row of chunks is over four times `block_bytes`."""
        row_bytes = max(1, self.shape[1] * int(self.array.dtype.itemsize))
        step = max(1, block_bytes // row_bytes)
        chunk = self.array.chunks[0] if self.array.chunks else 1
        if step >= chunk:
            step -= step % chunk
        elif chunk * row_bytes <= 4 * block_bytes:
            step = chunk
        return [
            Block(start, min(start + step, self.shape[0]), start, min(step, self.shape[0] - start))
            for start in range(0, self.shape[0], step)
        ]

    def read(self, block: Block, buffers: Buffers | None = None) -> CsrBlock:
        """Read whole rows and keep what is not zero."""
        buffers = buffers or Buffers()
        values = buffers.take("dense", (block.n_rows, self.shape[1]), computed(self.array.dtype))
        with file_errors(f"{self.where}, rows {block.start} to {block.stop}"):
            read_stretch(self.array, block.start, values)
        return dense_block(values, block.start, buffers)


def dense_block(values: np.ndarray, row_start: int, buffers: Buffers | None = None) -> CsrBlock:
    """Entries of dense rows that are not zero; NaN is not zero."""
    dtype = np.dtype(np.float32) if values.dtype.kind == "b" else computed(values.dtype)
    values = values.astype(dtype, copy=False)
    take = (buffers or Buffers()).take
    indptr = np.empty(len(values) + 1, np.int64)
    indices = take("indices", (values.size + 1,), np.int32)
    data = take("data", (values.size + 1,), values.dtype)
    compress_rows(values, indptr, indices, data)
    return CsrBlock(row_start, indptr, indices[: indptr[-1]], data[: indptr[-1]])
