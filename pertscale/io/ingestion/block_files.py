"""Scratch files between the two passes of ingest: one per block of the source.

A file holds the words (:mod:`pertscale.io.ingestion._kernels`) of the block's rows, sorted by
shard, strip and row, so the second pass reads one slice of words per file and task. Before the
words stand, for every shard, where its rows and words begin; then the rows, and the number of words
of each row in each strip that the block has entries of. One block is one file, renamed into place
when it is complete: that makes the first pass parallel and restartable. About two bytes per count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

import numpy as np

from pertscale.errors import CorruptFileError
from pertscale.execution.buffers import Buffers
from pertscale.storage.atomic import atomic_path

_MAGIC = b"pertscale-scratch-3\0"
_BOUND = np.dtype("<i8")
_HEAD = 4  # shards, rows, first strip, strips
_ROW = np.dtype("<u4")
_WORD = np.dtype("<u2")


def write_block(
    path: Path,
    *,
    row_bounds: np.ndarray,
    rows: np.ndarray,
    first_strip: int,
    counts: np.ndarray,
    words: np.ndarray,
) -> None:
    """Write the words of a block.

    Parameters
    ----------
    path : Path
    row_bounds : ndarray (shards + 1,)
        The rows of shard s are ``rows[row_bounds[s]:row_bounds[s + 1]]``.
    rows : ndarray (rows,)
        Row inside of its shard.
    first_strip : int
        Strip that the first column of `counts` belongs to.
    counts : ndarray (rows, strips), uint16
        Words of each row in each strip.
    words : ndarray, uint16
    """
    per_row = np.concatenate([[0], np.cumsum(counts.sum(axis=1, dtype=np.int64))])
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(_MAGIC)
        head = [len(row_bounds) - 1, len(rows), first_strip, counts.shape[1]]
        for values, dtype in (
            (head, _BOUND),
            (np.stack([row_bounds, per_row[row_bounds]], axis=1), _BOUND),
            (rows, _ROW),
            (counts, _WORD),
            (words, _WORD),
        ):  # not `tofile`, which forgets why a write failed
            file.write(np.ascontiguousarray(values, dtype).data)


@dataclass(frozen=True)
class BlockSlices:
    """What the blocks hold for some consecutive shards, one block after the other.

    Attributes
    ----------
    blocks : ndarray (blocks, 4), int64
        Where the rows, counts and words of each block begin; its first strip.
    row_bounds : ndarray (blocks, shards + 2), int64
        Rows of the block that belong to each shard, from 0 on; then the number of its strips.
    rows, counts, words : ndarray
    """

    blocks: np.ndarray
    row_bounds: np.ndarray
    rows: np.ndarray
    counts: np.ndarray
    words: np.ndarray


def read_slices(paths: Sequence[Path], first: int, last: int, buffers: Buffers) -> BlockSlices:
    """Read what belongs to the shards ``first:last`` from all blocks.

    Memory: that, from `buffers`.
    """
    heads = [_read_bounds(path, first, last) for path in paths]
    bounds = np.stack([bound for _, bound in heads])  # (blocks, shards + 1, 2)
    shape = np.array([head for head, _ in heads])  # (blocks, 4)
    n_rows, n_words = np.moveaxis(bounds[:, -1] - bounds[:, 0], 1, 0)
    n_counts = n_rows * shape[:, 3]
    starts = [np.concatenate([[0], np.cumsum(n)]) for n in (n_rows, n_counts, n_words)]
    sizes = {"rows": _ROW, "counts": _WORD, "words": _WORD}
    arrays = {
        name: buffers.take(name, (int(at[-1]),), dtype)
        for at, (name, dtype) in zip(starts, sizes.items(), strict=True)
    }
    for b, path in enumerate(paths):
        if n_rows[b]:
            into = [
                values[int(at[b]) : int(at[b + 1])]
                for at, values in zip(starts, arrays.values(), strict=True)
            ]
            _read_into(path, shape[b], bounds[b, 0], into)
    blocks = np.stack([*(at[:-1] for at in starts), shape[:, 2]], axis=1)
    row_bounds = np.concatenate([bounds[:, :, 0] - bounds[:, :1, 0], shape[:, 3:]], axis=1)
    return BlockSlices(blocks, row_bounds, **arrays)


def _read_bounds(path: Path, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the head of a file, and where the rows and words of some shards begin and end."""
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise CorruptFileError(
                f"{path} is not a scratch file of this pertscale; delete its folder"
            )
        head = _fill(file, np.empty(_HEAD, _BOUND))
        file.seek(2 * _BOUND.itemsize * first, 1)
        return head, _fill(file, np.empty((last - first + 1, 2), _BOUND))


def _read_into(path: Path, head: np.ndarray, begin: np.ndarray, into: Sequence[np.ndarray]) -> None:
    """Read rows, counts and words from where a shard begins."""
    n_shards, n_rows, _, n_strips = (int(n) for n in head)
    first_row, first_word = (int(n) for n in begin)
    at_rows = len(_MAGIC) + _BOUND.itemsize * (_HEAD + 2 * (n_shards + 1))
    at_counts = at_rows + _ROW.itemsize * n_rows
    at_words = at_counts + _WORD.itemsize * n_rows * n_strips
    offsets = (
        at_rows + _ROW.itemsize * first_row,
        at_counts + _WORD.itemsize * first_row * n_strips,
        at_words + _WORD.itemsize * first_word,
    )
    with path.open("rb") as file:
        for offset, values in zip(offsets, into, strict=True):
            file.seek(offset)
            _fill(file, values)


def _fill(file: BufferedReader, values: np.ndarray) -> np.ndarray:
    if file.readinto(values.data.cast("B")) != values.nbytes:
        raise CorruptFileError(f"{file.name} is truncated; delete its folder and ingest again")
    return values
