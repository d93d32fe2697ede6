"""Compare what a file declares with what it holds, before memory is reserved for it.

A few bytes can promise a matrix of 10¹² rows, and a zip of a megabyte unpack to a terabyte. Up to
:data:`FREE_BYTES` a promise is taken as it is; beyond, it has to be of a size that the stored bytes
can come to. No array is read whose codecs would run a program.
"""

from __future__ import annotations

import gzip
import io
import math
import os
import resource
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import psutil
import pyarrow.parquet as pq

from pertscale import display
from pertscale.errors import CorruptFileError, InputError
from pertscale.execution.memory import machine_limit

#: Declared bytes up to which nothing is checked: many zeros are stored as next to nothing.
FREE_BYTES: Final = 1 << 30
#: Above that, bytes that a stored byte may unpack to. Data reach some tens, a gigabyte of zeros
#: 1000.
MOST_RATIO: Final = 200
#: Share of the free memory that a dense matrix may take: it is copied at least once.
DENSE_SHARE: Final = 0.5
#: Bytes of a chunk, which is decoded as a whole; HDF5 has the same limit.
MOST_CHUNK_BYTES: Final = 1 << 32
#: With more chunks than this each has to have some size, as each is looked up by itself.
_MANY_CHUNKS: Final = 1_000_000
_SMALL_CHUNK_BYTES: Final = 1024
#: Bytes of a name in memory while names are read.
_NAME_BYTES: Final = 70
#: Bytes of a value of a table in memory.
_VALUE_BYTES: Final = 8
#: Tables and arrays that are read as a whole are in memory this many times while they are.
COPIES: Final = 4


def check_declared(declared: int, stored: int, where: str, *, copies: int = 1) -> None:
    """Raise where `declared` bytes can't come out of `stored` ones.

    Parameters
    ----------
    declared, stored
        Bytes in memory, and in the file.
    where
        File and dataset, for messages.
    copies
        How many of them are in memory at a time: the limit below which nothing is checked is
        divided by it.

    Raises
    ------
    CorruptFileError
        The message says what is declared and what is there.
    """
    if declared * copies > FREE_BYTES and declared > stored * MOST_RATIO:
        raise CorruptFileError(
            f"{where} declares {display.n_bytes(declared)}, but {display.n_bytes(stored)} are "
            "stored; the file is incomplete, damaged or forged: copy, download or write it again"
        )


def check_memory(declared: int, where: str) -> None:
    """Raise where something that is read as a whole is larger than this machine's memory."""
    there = machine_limit()
    if declared > there:
        raise CorruptFileError(
            f"{where} declares {display.n_bytes(declared)}, this machine has "
            f"{display.n_bytes(there)} of memory; the file is damaged or forged, or it needs a "
            "larger machine"
        )


def check_dense(shape: Sequence[int], dtype: Any, where: str) -> None:
    """Raise where what is stored sparse, or as a table of pairs, does not fit into memory in full.

    Called before the memory is reserved.

    Parameters
    ----------
    shape
        Of the dense array.
    dtype
        Of its values.
    where
        File and dataset, for messages.

    Raises
    ------
    InputError
        The message says what is needed and what is there.
    """
    needed = math.prod(shape) * np.dtype(dtype).itemsize
    if needed <= FREE_BYTES:
        return
    there = _free_bytes()
    if needed > DENSE_SHARE * there:
        size = " x ".join(f"{n:,}" for n in shape)
        raise InputError(
            f"{where}: {size} values take {display.n_bytes(needed)} with their zeros and missing "
            f"pairs written out, but of {display.n_bytes(there)} of free memory only "
            f"{DENSE_SHARE:.0%} may be used; pass fewer rows or columns, or use a larger machine"
        )


def _free_bytes() -> int:
    """Return how much memory this process can still get."""
    limits = (resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA))
    set_ = [limit for limit in limits if limit != resource.RLIM_INFINITY]
    return min([machine_limit(), psutil.virtual_memory().available, *set_])


# --- arrays of HDF5 and Zarr --------------------------------------------------------------------


def checked_array(array: Any, where: str, *, whole: bool = True) -> Any:
    """Return an array of h5py or zarr, after a look at its codecs, shape and chunks.

    Parameters
    ----------
    array
        h5py dataset or zarr array.
    where
        File and dataset, for messages.
    whole
        Whether it will be read as a whole, or all of it is stored; a dense matrix is read in
        parts, and zeros need not be stored.

    Raises
    ------
    InputError
        Reading it would run a program, or read another file.
    CorruptFileError
        Its sizes can't be true.
    """
    _check_codecs(array, where)
    declared = math.prod(array.shape) * array.dtype.itemsize
    if whole and declared > FREE_BYTES:
        check_declared(declared, _stored_bytes(array), _shaped(array, where))
        check_memory(declared, _shaped(array, where))
    chunks = getattr(array, "chunks", None) or ()
    n_bytes = math.prod(chunks) * array.dtype.itemsize
    n_chunks = math.prod(-(-n // max(1, c)) for n, c in zip(array.shape, chunks, strict=False))
    small = n_chunks > _MANY_CHUNKS and n_bytes < _SMALL_CHUNK_BYTES
    if n_bytes > MOST_CHUNK_BYTES or small:
        raise CorruptFileError(
            f"{_shaped(array, where)} is declared to have {n_chunks:,} chunks of "
            f"{display.n_bytes(n_bytes)}; pertscale reads chunks of up to "
            f"{display.n_bytes(MOST_CHUNK_BYTES)}, and not more than {_MANY_CHUNKS:,} of less than "
            f"{_SMALL_CHUNK_BYTES} bytes: write the file with others"
        )
    return array


def check_names(array: Any, where: str) -> None:
    """Raise where there can't be as many names as an array of h5py or zarr declares.

    Names take many times the memory of their bytes in the file, so fewer are trusted.
    """
    n_bytes = _NAME_BYTES * math.prod(array.shape)
    if n_bytes > FREE_BYTES:
        where = f"{where}: {math.prod(array.shape):,} names"
        check_declared(n_bytes, _stored_bytes(array), where)
        check_memory(n_bytes, where)


def checked_node(node: Any, where: str) -> Any:
    """Return a node, array or group, after a look at all arrays in it."""
    if hasattr(node, "dtype"):
        return checked_array(node, where)
    for name in node:
        checked_node(node[name], f"{where}/{name}")
    return node


def _shaped(array: Any, where: str) -> str:
    return f"{where}: an array of {' x '.join(f'{n:,}' for n in array.shape)} {array.dtype}"


def _stored_bytes(array: Any) -> int:
    if hasattr(array, "nbytes_stored"):
        return int(array.nbytes_stored())
    return min(int(array.id.get_storage_size()), int(array.file.id.get_filesize()))


def _check_codecs(array: Any, where: str) -> None:
    if getattr(array, "external", None):
        raise InputError(
            f"{where} keeps its values in another file, {array.external[0][0]!r}, which is not "
            "read; write it with its values inside"
        )
    for name in codec_names(getattr(array, "metadata", None)):
        if "pickle" in name.lower():
            raise InputError(
                f"{where} is stored as pickles (codec {name!r}), which are programs and not read; "
                "write it with another codec, text as vlen-utf8"
            )


def codec_names(metadata: Any) -> list[str]:
    """Return the names of a Zarr array's codecs, of either version, those inside of shards too."""
    if metadata is None:
        return []
    if hasattr(metadata, "codecs"):
        return _named([codec.to_dict() for codec in metadata.codecs])
    return [codec.codec_id for codec in (*(metadata.filters or ()), metadata.compressor) if codec]


def _named(codecs: list[Any]) -> list[str]:
    names = []
    for codec in codecs:
        inner = codec.get("configuration") or {}
        nested = [*inner.get("codecs", ()), *inner.get("index_codecs", ())]
        dicts = [c if isinstance(c, dict) else c.to_dict() for c in nested]
        names += [str(codec["name"]), *_named(dicts)]
    return names


# --- packed files ---------------------------------------------------------------------------------


def check_parquet(path: str | os.PathLike[str]) -> None:
    """Raise where a Parquet file declares more rows than it can have."""
    path = Path(path)
    if not path.is_file():
        return
    with pq.ParquetFile(path) as file:
        rows, columns = file.metadata.num_rows, file.metadata.num_columns
        groups = (file.metadata.row_group(i) for i in range(file.metadata.num_row_groups))
        unpacked = sum(group.total_byte_size for group in groups)
    where = f"{path}: a table of {rows:,} rows and {columns:,} columns"
    declared = max(_VALUE_BYTES * rows * max(1, columns), unpacked)
    check_declared(declared, path.stat().st_size, where, copies=COPIES)
    check_memory(declared, where)


def check_npz(path: str | os.PathLike[str]) -> None:
    """Raise where an .npz declares arrays that it does not hold; nothing is unpacked.

    Raises
    ------
    zipfile.BadZipFile, ValueError
        It is not a zip of arrays; raised as by :func:`numpy.load`.
    """
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            where = f"{path}, {entry.filename!r}"
            check_declared(entry.file_size, entry.compress_size, where, copies=COPIES)
            check_memory(entry.file_size, where)
            with archive.open(entry) as file:
                _check_npy(file, entry.file_size, where)


def _check_npy(file: Any, n_bytes: int, where: str) -> None:
    """Compare the shape in the head of an array with its bytes."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0
    shape, _, dtype = (read if version == (1, 0) else np.lib.format.read_array_header_2_0)(file)
    n_values: int = math.prod(shape)
    if dtype.itemsize == 0 and n_values:  # any number of them takes no bytes
        raise CorruptFileError(
            f"{where} declares {n_values:,} values of {dtype.str!r}, which has no size; "
            "the file is damaged or forged: write it again"
        )
    declared = n_values * dtype.itemsize
    if not dtype.hasobject and (declared != n_bytes - file.tell() or min(shape, default=0) < 0):
        raise CorruptFileError(
            f"{where} declares an array of {' x '.join(map(str, shape))} {dtype}, "
            f"{display.n_bytes(declared)}, but holds {display.n_bytes(n_bytes - file.tell())}; the "
            "file is damaged or forged: write it again"
        )


def open_gzip(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a gzipped file for reading bytes; it raises where it unpacks to an absurd size."""
    return io.BufferedReader(_Unpacked(Path(path)), 1 << 20)  # type: ignore[return-value]


class _Unpacked(io.RawIOBase):
    """The content of a gzipped file, counted while it is read."""

    def __init__(self, path: Path) -> None:
        self._path, self._size = path, path.stat().st_size
        self._file = gzip.open(path, "rb")  # noqa: SIM115  (closed below)
        self._read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        n = self._file.readinto(buffer)
        self._read += n
        check_declared(self._read, self._size, f"{self._path} unpacks to more than it can hold: it")
        return n

    def close(self) -> None:
        self._file.close()
        super().close()
