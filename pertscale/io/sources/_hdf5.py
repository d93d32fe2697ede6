"""HDF5 files: recognising them, and reading parts of arrays into existing memory.

HDF5 decompresses under a lock that all threads share. Chunks that are gzipped, with or without
byte shuffling, are therefore fetched as they are and inflated here, in as many threads as read.
"""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from pertscale.errors import CorruptFileError
from pertscale.io.guards.damage import file_errors
from pertscale.io.guards.first_look import look_first
from pertscale.io.guards.hdf5 import open_hdf5

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_ENDINGS = (".h5ad", ".h5", ".hdf5")
_DEFLATE, _SHUFFLE = 1, 2  # HDF5's numbers of these filters


def is_hdf5(path: Path) -> bool:
    """Whether a path is an HDF5 file, which is then walked through for the first time.

    Raises
    ------
    CorruptFileError
        Its name says so, and it is not; or HDF5 does not return from it.
    """
    if not path.is_file():
        return False
    with file_errors(str(path)), path.open("rb") as file:
        signature = file.read(len(_SIGNATURE))
    if signature == _SIGNATURE:
        look_first(path)
        return True
    if path.suffix.lower() in _ENDINGS:
        raise CorruptFileError(
            f"{path} is not an HDF5 file, though its name says so (it starts with "
            f"{signature!r}); copy or download it again"
        )
    return False


def top_names(path: Path) -> list[str]:
    """Return the names of what an HDF5 file holds."""
    with open_hdf5(str(path)) as file, file_errors(str(path)):
        return list(file)


def read_stretch(array: Any, start: int, out: np.ndarray) -> None:
    """Read ``array[start : start + len(out)]`` into `out`, of the same dtype.

    Raises
    ------
    ValueError
        If the array ends before.
    """
    stop = start + len(out)
    if stop > array.shape[0]:
        raise ValueError(f"{array.shape[0]} rows are stored, {stop} are needed")
    if not len(out):
        return
    if not hasattr(array, "read_direct"):
        out[:] = array[start:stop]
    elif _is_gzipped(array):
        _inflate(array, start, stop, out)
    else:
        array.read_direct(out, np.s_[start:stop])


def _is_gzipped(dataset: Any) -> bool:
    """Whether all chunks are there, hold whole rows, and are only shuffled and gzipped."""
    if dataset.compression != "gzip" or dataset.chunks[1:] != dataset.shape[1:]:
        return False
    filters = dataset.id.get_create_plist()
    kinds = [filters.get_filter(i)[0] for i in range(filters.get_nfilters())]
    n_chunks = -(-dataset.shape[0] // dataset.chunks[0])
    return kinds in ([_DEFLATE], [_SHUFFLE, _DEFLATE]) and dataset.id.get_num_chunks() == n_chunks


def _inflate(dataset: Any, start: int, stop: int, out: np.ndarray) -> None:
    rows, dtype = dataset.chunks[0], dataset.dtype
    row_bytes = math.prod(dataset.shape[1:]) * dtype.itemsize
    for first in range(start - start % rows, stop, rows):
        lo, hi = max(start, first), min(stop, first + rows)
        skipped, stored = dataset.id.read_direct_chunk((first, *(0 for _ in dataset.shape[1:])))
        if skipped:  # HDF5 leaves a filter out where it would make a chunk larger
            dataset.read_direct(out, np.s_[lo:hi], np.s_[lo - start : hi - start])
            continue
        raw = np.frombuffer(_unpacked(stored, rows * row_bytes), np.uint8)
        if dataset.shuffle:
            raw = np.ascontiguousarray(raw.reshape(dtype.itemsize, -1).T)
        chunk = raw.reshape(-1).view(dtype).reshape(rows, *dataset.shape[1:])
        out[lo - start : hi - start] = chunk[lo - first : hi - first]


def _unpacked(packed: bytes, n_bytes: int) -> bytes:
    """Unpack a chunk of a known size; one that claims to be larger gets no more memory."""
    unpack = zlib.decompressobj()
    raw = unpack.decompress(packed, n_bytes)
    rest = unpack.unconsumed_tail
    if len(raw) < n_bytes or (rest and unpack.decompress(rest, 1)):
        raise ValueError(f"a chunk does not unpack to the {n_bytes:,} bytes that it should have")
    return raw
