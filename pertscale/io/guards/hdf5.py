"""HDF5 files from outside, checked as a whole.

HDF5 reads what was never written as zeros, and follows links and virtual datasets into files that
nobody named. Both are checked once, where a file is passed and after `first_look`; later readers,
also in workers, need not check again.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import h5py

from pertscale.errors import CorruptFileError, InputError
from pertscale.io.guards import limits
from pertscale.io.guards.damage import file_errors

#: Soft links that are followed one after the other; HDF5 has the same limit.
_MOST_LINKS: Final = 16
#: The most bytes that deflate makes of one.
_DEFLATE_RATIO: Final = 1032
_AGAIN = "copy, download or write the file again"


def open_hdf5(path: str) -> h5py.File:
    """Open for reading without file locks, which shared file systems often refuse."""
    with file_errors(path):
        return h5py.File(path, "r", locking=False)


def check_own(file: h5py.File, keys: Iterable[str], path: str) -> None:
    """Raise unless all that lies below some keys is in this file, whole.

    Parameters
    ----------
    file
        The open file.
    keys
        Groups and datasets that will be read; those that are not there are left to the reader.
    path
        Of the file, for messages.

    Raises
    ------
    InputError
        A link, a virtual dataset or external storage leads to another file.
    CorruptFileError
        Chunks were never written, or unpack to more than they should.
    """
    with file_errors(path):
        for key in keys:
            for name, dataset in _datasets(file, key, path):
                _check_dataset(dataset, f"{path}, {name!r}")


def names_in(group: h5py.Group) -> list[str]:
    """Return the names in a group that are not links to other files."""
    return [n for n in group if not isinstance(group.get(n, getlink=True), h5py.ExternalLink)]


def _datasets(file: h5py.File, key: str, path: str) -> Iterator[tuple[str, h5py.Dataset]]:
    """Yield the datasets at and below a key, each once."""
    top = _node_at(file, key, path)
    waiting, seen = [(key, top)] if top is not None else [], set()
    while waiting:
        name, node = waiting.pop()
        if node.id in seen:
            continue
        seen.add(node.id)
        if isinstance(node, h5py.Dataset):
            yield name, node
        elif isinstance(node, h5py.Group):
            for inner in node:
                child = _node_at(node, inner, path)
                if child is not None:
                    waiting.append((f"{name}/{inner}", child))


def _node_at(group: h5py.Group, key: str, path: str, n_links: int = 0) -> Any:
    """Return what a key leads to inside of the file; None where there is nothing."""
    node: Any = group.file["/"] if key.startswith("/") else group
    for part in filter(None, key.split("/")):
        link = node.get(part, getlink=True) if isinstance(node, h5py.Group) else None
        if isinstance(link, h5py.ExternalLink):
            raise InputError(
                f"{path}: {node.name.rstrip('/')}/{part} is a link to another file, "
                f"{link.filename!r} ({link.path}), which was not named and is not read; "
                f"{_copy_in(path)}"
            )
        if isinstance(link, h5py.SoftLink):
            if n_links == _MOST_LINKS:
                raise CorruptFileError(f"{path}: {key!r} is a link that leads to itself")
            node = _node_at(node, link.path, path, n_links + 1)
        else:
            node = node[part] if link is not None else None
        if node is None:
            return None
    return node


def _copy_in(path: str) -> str:
    return (
        "write a file that holds everything itself, such as with anndata.read_h5ad"
        f"({Path(path).name!r}).write_h5ad(…), or h5repack"
    )


def _check_dataset(dataset: h5py.Dataset, where: str) -> None:
    if dataset.is_virtual:
        sources = sorted({source.file_name for source in dataset.virtual_sources()})
        raise InputError(
            f"{where} is a virtual dataset: its values are in {', '.join(map(repr, sources[:3]))}, "
            f"which was not named and is not read; {_copy_in(dataset.file.filename)}"
        )
    limits.checked_array(dataset, where, whole=False)  # external storage, sizes of chunks
    if not dataset.size or not dataset.dtype.itemsize:
        return
    if dataset.chunks is None:
        if not dataset.id.get_storage_size():
            raise _missing(where, "its values were never written")
        return
    wanted = math.prod(-(-n // c) for n, c in zip(dataset.shape, dataset.chunks, strict=True))
    stored = dataset.id.get_num_chunks()
    if stored < wanted:
        raise _missing(where, f"{stored:,} of {wanted:,} chunks are stored")
    if dataset.compression == "gzip":
        _check_packed(dataset, where)


def _missing(where: str, what: str) -> CorruptFileError:
    return CorruptFileError(
        f"{where}: {what}, and HDF5 would read the rest as zeros; the file is incomplete: {_AGAIN}"
    )


def _check_packed(dataset: h5py.Dataset, where: str) -> None:
    """Raise where a gzipped chunk unpacks to more than a chunk; HDF5 would make room for all."""
    declared = math.prod(dataset.chunks) * dataset.dtype.itemsize
    most = declared + (declared >> 8) + 1024  # incompressible data grows a little
    doubted = []

    def look(chunk: Any) -> None:
        if chunk.size > most or chunk.size * _DEFLATE_RATIO > limits.FREE_BYTES:
            doubted.append(chunk.chunk_offset)

    dataset.id.chunk_iter(look)
    for offset in doubted:
        skipped, packed = dataset.id.read_direct_chunk(offset)
        if not skipped and _unpacks_beyond(packed, most):
            raise CorruptFileError(
                f"{where}: the chunk at {offset} unpacks to more than the {declared:,} bytes of a "
                f"chunk; the file is damaged or forged: {_AGAIN}"
            )


def _unpacks_beyond(packed: bytes, most: int) -> bool:
    unpack = zlib.decompressobj()
    n_bytes = 0
    while packed and not unpack.eof and n_bytes <= most:
        n_bytes += len(unpack.decompress(packed, 1 << 20))
        packed = unpack.unconsumed_tail
    return n_bytes > most
