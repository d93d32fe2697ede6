"""Reading and writing the matrix of a store, block by block."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import zarr
from dask.base import normalize_token
from numcodecs import blosc

from pertscale.errors import CorruptFileError, PertscaleError
from pertscale.execution.buffers import Buffers
from pertscale.io.guards.damage import file_errors
from pertscale.io.guards.limits import checked_array
from pertscale.io.store.layout import (
    ALL_CHUNKS,
    CHECKSUM,
    CHECKSUM_BYTES,
    CHUNK_GENES,
    CHUNK_ROWS,
    COMPRESSION,
    REMEDY,
    ROOT_FILE,
    has_checksums,
    missing_chunk_error,
    open_matrix,
)
from pertscale.schema import MATRIX, TARGET_TOTAL
from pertscale.storage.locations import Remote, locate
from pertscale.storage.object_storage import storage_errors


class MatrixReader:
    """Reads blocks of the matrix, gene-major; opened in the task that uses it.

    The last chunk is kept, so that reading a run of rows window by window decodes every chunk
    once. Memory: one chunk, and the block that is asked for.

    Parameters
    ----------
    path : str
        Screen store, or its URL: then a chunk is one request, and the next ones are fetched while
        it is decoded.
    gene_start, gene_stop : int
        Genes to read, inside one column of chunks.
    buffers : Buffers, optional
        Where the memory comes from: a block is overwritten by the next one that is read.
    """

    def __init__(
        self, path: str, *, gene_start: int, gene_stop: int, buffers: Buffers | None = None
    ) -> None:
        self.path = path
        self._store = locate(path)
        self._array = checked_array(open_matrix(path), f"{path}, {MATRIX!r}", whole=False)
        self._column, first = divmod(gene_start, CHUNK_GENES)
        self._genes = slice(first, first + gene_stop - gene_start)
        self._checked = has_checksums(self._array)
        self._decode_chunk = self._decode_file if _is_plain(self._array) else self._decode_any
        self._buffers = buffers or Buffers()
        self._chunk = self._buffers.take("chunk", (CHUNK_GENES, CHUNK_ROWS), self._array.dtype)
        self._chunk_row = -1
        self._ahead = _Ahead(self._store / MATRIX) if isinstance(self._store, Remote) else None
        self.bytes_read = 0

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return rows ``start:stop`` as a C-contiguous array (genes, rows)."""
        n_genes = self._genes.stop - self._genes.start
        block = self._buffers.take("block", (n_genes, stop - start), self._array.dtype)
        rows = range(start // CHUNK_ROWS, -(-stop // CHUNK_ROWS))
        if self._ahead is not None:
            self._ahead.wanted = [self._key(row) for row in rows if row != self._chunk_row]
        for row in rows:
            if row != self._chunk_row:
                self._chunk_row = -1  # as long as the chunk is not complete
                with _matrix_errors(f"{self.path}/{MATRIX}/{self._key(row)}"):
                    self._decode_chunk(row)
                self._chunk_row = row
                self.bytes_read += self._chunk.nbytes
            at = row * CHUNK_ROWS
            lo, hi = max(start, at), min(stop, at + CHUNK_ROWS)
            block[:, lo - start : hi - start] = self._chunk[self._genes, lo - at : hi - at]
        return block

    def _decode_file(self, row: int) -> None:
        """Decode a chunk that is a file of its own, without the copies of the general path."""
        try:
            data: Any = self._bytes_of(self._key(row))
        except FileNotFoundError:
            away = not (self._store / ROOT_FILE).exists()
            raise missing_chunk_error(self.path, f"{MATRIX}/{self._key(row)}", away=away) from None
        if self._checked:
            data = _without_checksum(data)
        n_bytes = int.from_bytes(bytes(data[4:8]), "little")  # of Blosc's header
        if n_bytes != self._chunk.nbytes:
            raise ValueError(f"it holds {n_bytes} bytes instead of {self._chunk.nbytes}")
        blosc.decompress(data, self._chunk)

    def _key(self, row: int) -> str:
        return str(self._array.metadata.encode_chunk_key((row, self._column)))

    def _bytes_of(self, key: str) -> bytes:
        if self._ahead is not None:
            return self._ahead.take(key)
        return (self._store / MATRIX / key).read_bytes()

    def _decode_any(self, row: int) -> None:
        """Decode a chunk of any array, shards among them, through zarr-python."""
        rows = slice(row * CHUNK_ROWS, (row + 1) * CHUNK_ROWS)
        genes = slice(self._column * CHUNK_GENES, (self._column + 1) * CHUNK_GENES)
        with storage_errors(self.path):
            values = np.asarray(self._array[rows, genes]).T
        self._chunk[: values.shape[0], : values.shape[1]] = values


class _Ahead:
    """Fetches the objects that will be asked for next, a few at the same time.

    A request takes as long as decoding some twenty chunks: one after another, the processor would
    mostly wait.
    """

    #: Requests under way; each is a chunk, compressed.
    MOST = 8

    def __init__(self, folder: Remote) -> None:
        self._folder = folder
        self._found: dict[str, Any] = {}
        self.wanted: list[str] = []

    def take(self, key: str) -> bytes:
        """Return an object; FileNotFoundError if there is none."""
        if key not in self._found:
            at = self.wanted.index(key)
            keys = self.wanted[at : at + self.MOST]
            names = [(self._folder / k).key for k in keys]
            with storage_errors(str(self._folder / key)):
                fs = self._folder.fs
                if len(names) == 1:
                    return bytes(fs.cat_file(names[0]))
                found = fs.cat(names, on_error="return")
            self._found = {k: found[name] for k, name in zip(keys, names, strict=True)}
        data = self._found.pop(key)
        if isinstance(data, BaseException):
            with storage_errors(str(self._folder / key)):
                raise data
        return bytes(data)


def _is_plain(array: Any) -> bool:
    """Whether a chunk is a file with one Blosc frame of gene-major values of this machine."""
    codecs = [codec.to_dict() for codec in array.metadata.codecs]
    return (
        [codec["name"] for codec in codecs[:3]] == ["transpose", "bytes", "blosc"]
        and [codec["name"] for codec in codecs[3:]] in ([], [CHECKSUM])
        and list(codecs[0]["configuration"]["order"]) == [1, 0]
        and codecs[1].get("configuration", {}).get("endian", sys.byteorder) == sys.byteorder
        and array.chunks == (CHUNK_ROWS, CHUNK_GENES)
    )


class MatrixWriter:
    """Writes the matrix of a store that is being made, a strip of genes of some rows at a time.

    A chunk that is a file of its own is encoded here: zarr-python, which gives the same bytes,
    turns it over twice, and that takes as long as the codec.

    Parameters
    ----------
    path : Path
        The store, with the matrix that ``create_matrix`` made.
    """

    def __init__(self, path: Path) -> None:
        self._folder = path / MATRIX
        array: Any = zarr.open_array(self._folder, mode="r+")
        # all of them: a chunk that is missing is then one that was lost
        self._array = array.with_config(ALL_CHUNKS)
        self._is_plain = _is_plain(array) and has_checksums(array)

    def write(self, values: np.ndarray, row: int, gene: int) -> None:
        """Write a strip (genes of a chunk, rows of a shard), C-contiguous, from a row and gene on.

        What lies beyond the matrix has to be 0.
        """
        if self._is_plain:
            self._encode(values, (row // CHUNK_ROWS, gene // CHUNK_GENES))
            return
        n_rows, n_genes = self._array.shape
        rows = slice(row, min(row + values.shape[1], n_rows))
        genes = slice(gene, min(gene + values.shape[0], n_genes))
        self._array[rows, genes] = values[: genes.stop - gene, : rows.stop - row].T

    def _encode(self, chunk: np.ndarray, at: tuple[int, int]) -> None:
        file = self._folder / str(self._array.metadata.encode_chunk_key(at))
        file.parent.mkdir(parents=True, exist_ok=True)
        name, level = COMPRESSION["cname"].encode(), COMPRESSION["clevel"]
        data = blosc.compress(chunk, name, level, blosc.BITSHUFFLE)
        checksum = google_crc32c.value(data).to_bytes(CHECKSUM_BYTES, "little")
        with file.open("wb") as opened:
            opened.write(data)
            opened.write(checksum)


class GuardedArray:
    """A Zarr array for Dask, whose errors of damaged chunks say where and what to do."""

    def __init__(self, array: Any, where: str) -> None:
        self._array, self._where = array, where
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim
        self.chunks = array.chunks

    def __getitem__(self, where: Any) -> Any:
        with storage_errors(self._where), file_errors(self._where, remedy=REMEDY):
            return self._array[where]

    def __dask_tokenize__(self) -> Any:
        return normalize_token(self._array)


def normalise(counts: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Return log1p of counts per 10,000 (method A1); a cell without counts stays zero.

    `totals` are the cells', in a shape that goes with that of `counts`.
    """
    divisor = np.where(totals > 0, totals, 1.0)
    return np.log1p(counts * (TARGET_TOTAL / divisor)).astype(np.float32)


def _without_checksum(data: bytes) -> Any:
    """Return a chunk without the checksum at its end; ValueError if that is another one."""
    content = np.frombuffer(data, np.uint8)[:-CHECKSUM_BYTES]  # no copy
    if google_crc32c.value(content) != int.from_bytes(data[-CHECKSUM_BYTES:], "little"):
        raise ValueError("its checksum is another one")
    return content


@contextmanager
def _matrix_errors(chunk: str) -> Iterator[None]:
    """Turn the codecs' exceptions on damaged bytes into an error that names the chunk."""
    try:
        yield
    except PertscaleError:
        raise
    except (RuntimeError, ValueError, OSError) as error:
        raise CorruptFileError(
            f"{chunk}: this chunk of the matrix can't be decoded ({error}); the store is damaged, "
            f"{REMEDY}"
        ) from error
