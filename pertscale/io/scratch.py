"""Scratch files between the two passes of ingest: entries of one source block, by bucket.

A bucket is a strip of genes of one shard of rows (:mod:`pertscale.io._kernels`). A file holds the
entries of one block of the source, all strips of the first shard, then those of the next, so the
second pass reads one stretch per file and shard. One block is one file, renamed into place when it
is complete: that makes the first pass parallel and restartable.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np

from pertscale.errors import CorruptFileError
from pertscale.io.atomic import atomic_path

_MAGIC = b"pertscale-scratch-2\0"
_BOUND = np.dtype("<i8")
_HEAD_BYTES = len(_MAGIC) + 2 * _BOUND.itemsize
#: Position of an entry inside its bucket.
POSITION = np.dtype("<u4")


def write_block(
    path: Path, *, bounds: np.ndarray, positions: np.ndarray, values: np.ndarray
) -> None:
    """Write a block's entries.

    Parameters
    ----------
    path : Path
    bounds : ndarray (buckets + 1,)
        The entries of bucket b are ``bounds[b]:bounds[b + 1]``.
    positions : ndarray (entries,) uint32
    values : ndarray (entries,)
        In the dtype of the store.
    """
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(_MAGIC)
        np.array([len(bounds), len(positions)], _BOUND).tofile(file)
        bounds.astype(_BOUND).tofile(file)
        positions.astype(POSITION, copy=False).tofile(file)
        values.tofile(file)


def read_bounds(path: Path, first: int, n_buckets: int) -> np.ndarray:
    """Return the bounds of some buckets of a block, (n_buckets + 1,) int64."""
    with path.open("rb") as file:
        _read_head(file)
        return _read(file, _BOUND, _HEAD_BYTES + _BOUND.itemsize * first, n_buckets + 1)


def read_entries(
    path: Path, start: int, stop: int, dtype: np.dtype
) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions and values of the entries ``start:stop`` of a block."""
    with path.open("rb") as file:
        n_bounds, n_entries = _read_head(file)
        at = _HEAD_BYTES + _BOUND.itemsize * n_bounds
        after = at + POSITION.itemsize * n_entries
        return (
            _read(file, POSITION, at + POSITION.itemsize * start, stop - start),
            _read(file, dtype, after + dtype.itemsize * start, stop - start),
        )


def _read_head(file: BinaryIO) -> tuple[int, int]:
    """Return the numbers of bounds and entries."""
    if file.read(len(_MAGIC)) != _MAGIC:
        raise CorruptFileError(f"{file.name} is not a scratch file of pertscale; delete its folder")
    n_bounds, n_entries = _read(file, _BOUND, len(_MAGIC), 2)
    return int(n_bounds), int(n_entries)


def _read(file: BinaryIO, dtype: np.dtype, offset: int, count: int) -> np.ndarray:
    file.seek(offset)
    values = np.fromfile(file, dtype, count)
    if len(values) != count:
        raise CorruptFileError(f"{file.name} is truncated; delete its folder and ingest again")
    return values
