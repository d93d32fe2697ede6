"""Scratch files between the two passes of ingest: entries of one source block, sorted by shard.

A file holds the entries of one block of the source, grouped by the shard of the store that they
belong to, so that the second pass reads one stretch per file and shard. One block is one file,
renamed into place when it is complete: that makes the first pass parallel and restartable.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from pertscale.errors import CorruptFileError
from pertscale.io.atomic import atomic_path

_MAGIC = b"pertscale-scratch-1\0"


@dataclass(frozen=True)
class Segment:
    """Entries of one block that belong to one shard, row by row.

    Attributes
    ----------
    rows : ndarray (rows,), uint32
        Row inside the shard.
    lengths : ndarray (rows,), uint32
        Entries of each row.
    genes : ndarray (entries,), uint16 or uint32
    values : ndarray (entries,)
    """

    rows: np.ndarray
    lengths: np.ndarray
    genes: np.ndarray
    values: np.ndarray


def gene_dtype(n_genes: int) -> np.dtype:
    """Smallest unsigned type for a gene's number."""
    return np.dtype(np.uint16 if n_genes <= 65_536 else np.uint32)


def write_block(path: Path, *, row_bounds: np.ndarray, block: Segment) -> None:
    """Write a block's entries.

    Parameters
    ----------
    path : Path
    row_bounds : ndarray (shards + 1,), int64
        The rows of shard s are ``row_bounds[s]:row_bounds[s + 1]`` of `block`.
    block : Segment
        All rows of the block, sorted by shard.
    """
    entry_ends = np.concatenate([[0], np.cumsum(block.lengths, dtype=np.int64)])
    bounds = np.stack([row_bounds, entry_ends[row_bounds]]).astype("<i8")
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(_MAGIC)
        file.write(np.array([bounds.shape[1]], "<i8").tobytes())
        file.write(bounds.tobytes())
        for array in (block.rows, block.lengths, block.genes, block.values):
            np.ascontiguousarray(array).tofile(file)


def read_segment(path: Path, shard: int, *, genes: np.dtype, values: np.dtype) -> Segment:
    """Read the entries of one shard from a block's file."""
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise CorruptFileError(f"{path} is not a scratch file of pertscale; delete its folder")
        n_bounds = int(_array(file, np.dtype("<i8"), 1)[0])
        bounds = _array(file, np.dtype("<i8"), 2 * n_bounds).reshape(2, n_bounds)
        start = file.tell()
        (r0, e0), (r1, e1) = bounds[:, shard], bounds[:, shard + 1]
        n_rows, n_entries = bounds[:, -1]
        offsets = np.cumsum([start, 4 * n_rows, 4 * n_rows, genes.itemsize * n_entries])
        return Segment(
            rows=_stretch(file, np.dtype(np.uint32), offsets[0], r0, r1),
            lengths=_stretch(file, np.dtype(np.uint32), offsets[1], r0, r1),
            genes=_stretch(file, genes, offsets[2], e0, e1),
            values=_stretch(file, values, offsets[3], e0, e1),
        )


def _stretch(file: BinaryIO, dtype: np.dtype, offset: int, first: int, last: int) -> np.ndarray:
    file.seek(int(offset) + int(first) * dtype.itemsize, os.SEEK_SET)
    return _array(file, dtype, int(last) - int(first))


def _array(file: BinaryIO, dtype: np.dtype, count: int) -> np.ndarray:
    values = np.fromfile(file, dtype, count)
    if len(values) != count:
        raise CorruptFileError(f"{file.name} is truncated; delete its folder and ingest again")
    return values
