"""AnnData-Zarr stores, Zarr versions 2 and 3; pertscale's own screens are such stores."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import zarr
from numcodecs import get_codec
from zarr.storage import LocalStore

from pertscale.errors import CorruptFileError
from pertscale.io.guards.damage import file_errors
from pertscale.io.guards.limits import check_declared, checked_array, codec_names
from pertscale.io.sources._anndata import AnnDataSource, anndata_spec, matrix_path
from pertscale.io.sources._base import SourceChoices, SourceFormat, SourceSpec
from pertscale.storage.locations import check_folder

#: Names of arrays with missing chunks that a message lists.
_MOST_NAMES: Final = 8
#: Most chunks of a dense matrix that are looked up.
_MOST_COUNTED: Final = 1_000_000
#: Bytes of the headers of Blosc, and of Zstandard at most.
_BLOSC_HEADER: Final = 16
_HEADER: Final = 18
_DAMAGED: Final = "the store is incomplete or damaged: copy or write it again"
_DESCRIPTIONS: Final = ("zarr.json", ".zarray", ".zattrs")
#: What a group of either version has.
_OF_GROUPS: Final = ("zarr.json", ".zgroup", ".zattrs")


class AnnDataZarrSource(AnnDataSource):
    """One AnnData-Zarr store: ``X``, ``raw`` or a layer; CSR, CSC or dense."""

    def __init__(self, spec: SourceSpec) -> None:
        super().__init__(spec, open_zarr(spec.path))


def open_zarr(path: str) -> Any:
    """Open a group for reading."""
    with file_errors(path):
        return zarr.open_group(path, mode="r")


# --- missing chunks -------------------------------------------------------------------------------


def check_stored(group: Any, matrix: str, path: str) -> list[str]:
    """Raise where a chunk is missing that can't be left out; report those that can.

    Zarr reads a missing chunk as zeros, and Zarr 3 stores none that holds nothing else. So a
    missing one is a loss among names, categories and the parts of a sparse matrix, and among the
    codes of categories where none is stored or the store has chunks of zeros in others. A mask
    of which nothing is stored says that no value is missing, as it is of most columns.

    Returns
    -------
    list of str
        A sentence for the account, or none.
    """
    with file_errors(path):
        key = matrix_path(matrix)
        frames = ("obs", "raw/var" if key == "raw/X" else "var")
        arrays = {k: a for top in (key, *frames) for k, a in _arrays(group, top)}
        for name, array in arrays.items():
            checked_array(array, f"{path}, {name!r}", whole=array.ndim == 1)
        lacking = {k: a for k, a in arrays.items() if _is_counted(a) and n_missing(a)}
        names = {name for frame in frames if frame in group for name in _index_of(group, frame)}
        codes = [a for k, a in arrays.items() if k.endswith("/codes")]
        masks = {k: a for k, a in arrays.items() if _is_mask(k, group)}
        for name, array in lacking.items():
            lost = _is_lost(name, array, group, codes)
            lost |= name in names and array.size > 1
            lost |= name.startswith(f"{key}/") and arrays[f"{key}/data"].size > 0
            if lost:
                raise _lost(path, name, array)
        if not any(map(_stores_zeros, (*codes, *masks.values()))):
            lacking = {k: a for k, a in lacking.items() if k not in masks or _is_stored(a)}
        for name, array in arrays.items():
            if _is_counted(array):
                check_lengths(array, f"{path}, {name!r}")
    if not lacking:
        return []
    listed = ", ".join(list(lacking)[:_MOST_NAMES]) + (", …" if len(lacking) > _MOST_NAMES else "")
    return [
        f"not all chunks are stored of {listed}: they are read as zeros, or as the first category; "
        "that is how Zarr 3 stores zeros, but a copy that lost files looks the same"
    ]


def n_missing(array: Any) -> int:
    """Return how many chunks (or shards) of a Zarr array are not stored."""
    outer = getattr(array, "shards", None) or array.chunks
    inside = math.prod(o // c for o, c in zip(outer, array.chunks, strict=True))
    wanted = math.prod(-(-n // o) for n, o in zip(array.shape, outer, strict=True))
    return wanted - int(array.nchunks_initialized) // max(1, inside) if array.size else 0


def check_lengths(array: Any, where: str) -> None:
    """Raise where a chunk on disk contradicts its own header.

    Codecs believe it: Blosc reads beyond its end, and room is made for as many bytes or texts as a
    damaged one asks for.
    """
    store, packed_by = array.store, repr(array.compressors[-1:]).lower()
    packing = next((name for name in ("blosc", "zstd") if name in packed_by), "")
    is_text = "vlen-utf8" in codec_names(array.metadata) and len(array.compressors) == bool(packing)
    if not (packing or is_text) or not isinstance(store, LocalStore):
        return
    if getattr(array, "shards", None):
        return
    n_values = math.prod(array.chunks)
    for folder, _, names in os.walk(Path(store.root) / array.path):
        for file in (Path(folder) / name for name in names if name not in _DESCRIPTIONS):
            told = f"{where}: the chunk {file}"
            _check_packed(file, packing, n_values * array.dtype.itemsize, told)
            if is_text:
                _check_n_texts(file, packing, n_values, told)


def _check_packed(file: Path, packing: str, expected: int, told: str) -> None:
    n_bytes, unpacked = file.stat().st_size, 0
    with file.open("rb") as chunk:
        head = chunk.read(_HEADER)
    if packing == "blosc":
        if len(head) < _BLOSC_HEADER or int.from_bytes(head[12:16], "little") != n_bytes:
            raise CorruptFileError(
                f"{told} has {n_bytes:,} bytes, which is not what it says; {_DAMAGED}"
            )
        unpacked = int.from_bytes(head[4:8], "little")
    elif packing == "zstd":
        unpacked = _zstd_size(head)
    if unpacked > expected:
        check_declared(unpacked, n_bytes, told)


def _zstd_size(head: bytes) -> int:
    """Return the bytes that a Zstandard frame unpacks to, by its header; 0 where it doesn't say."""
    if len(head) < 5:
        return 0
    single_segment = head[4] >> 5 & 1
    start = 5 + (1 - single_segment) + (0, 1, 2, 4)[head[4] & 3]
    n_digits = (single_segment, 2, 4, 8)[head[4] >> 6]
    return int.from_bytes(head[start : start + n_digits], "little")


def _check_n_texts(file: Path, packing: str, needed: int, told: str) -> None:
    content = file.read_bytes()
    raw = get_codec({"id": packing}).decode(content) if packing else content
    found = int.from_bytes(bytes(raw[:4]), "little")
    if found != needed:
        raise CorruptFileError(
            f"{told} says that it holds {found:,} texts, not {needed:,}; {_DAMAGED}"
        )


def _is_counted(array: Any) -> bool:
    """Whether chunks are looked up one by one: of a dense matrix, a reasonable number."""
    return array.ndim == 1 or _n_chunks(array) <= _MOST_COUNTED


def _arrays(group: Any, key: str) -> Iterator[tuple[str, Any]]:
    if key not in group:
        return
    top = group[key]
    if isinstance(top, zarr.Array):
        yield key, top
        return
    for name, node in top.members(max_depth=None):
        if isinstance(node, zarr.Array):
            yield f"{key}/{name}", node


def _index_of(group: Any, frame: str) -> tuple[str, str]:
    """Return where the names of a table's rows may be: an array, or a group of values and mask."""
    index = str(group[frame].attrs.get("_index", "_index"))
    return f"{frame}/{index}", f"{frame}/{index}/values"


def _is_lost(name: str, array: Any, group: Any, all_codes: list[Any]) -> bool:
    """Whether a column's missing chunk held anything but zeros, or zeros are stored."""
    parent, _, last = name.rpartition("/")
    if last == "categories" or name.endswith("/categories/values"):
        return array.size > 1  # none is there twice
    if last != "codes":
        return False
    several = _length(group[parent]["categories"]) > 1
    return (not _is_stored(array) and several) or any(map(_stores_zeros, all_codes))


def _is_mask(name: str, group: Any) -> bool:
    """Whether an array says which values of a nullable column are missing."""
    parent, _, last = name.rpartition("/")
    kind = str(group[parent].attrs.get("encoding-type", "")) if last == "mask" else ""
    return kind.startswith("nullable-")


def _is_stored(array: Any) -> bool:
    return n_missing(array) < _n_chunks(array)


def _n_chunks(array: Any) -> int:
    outer = getattr(array, "shards", None) or array.chunks
    return math.prod(-(-n // o) for n, o in zip(array.shape, outer, strict=True))


def _length(node: Any) -> int:
    return int((node if hasattr(node, "shape") else node["values"]).shape[0])


def _stores_zeros(array: Any) -> bool:
    """Whether an array has a chunk of zeros: then its writer left none out."""
    if not array.size or array.dtype.kind not in "biu" or n_missing(array):
        return False
    return not np.any(array[: (getattr(array, "shards", None) or array.chunks)[0]])


def _lost(path: str, name: str, array: Any) -> CorruptFileError:
    wanted = _n_chunks(array)
    return CorruptFileError(
        f"{path}, {name!r}: {wanted - n_missing(array):,} of {wanted:,} chunks are stored, and "
        "Zarr would read the rest as zeros or empty names; the store is incomplete: copy or write "
        "it again (categories that no cell has are left out with cat.remove_unused_categories())"
    )


def _looks_like(path: Path) -> bool:
    if not (path.is_dir() and any((path / name).exists() for name in _OF_GROUPS)):
        return False
    check_folder(path)
    return True


def _find(path: Path, choices: SourceChoices) -> SourceSpec:
    """Look at all that will be read, once; it is read in workers, and in parts."""
    spec = anndata_spec(path, FORMAT.name, choices)
    notes = check_stored(open_zarr(spec.path), spec.matrix, spec.path)
    with AnnDataZarrSource(spec) as source:
        return replace(spec, notes=(*notes, *source.left_out()))


FORMAT = SourceFormat(
    name="zarr",
    doc="AnnData-Zarr",
    open=AnnDataZarrSource,
    looks_like=_looks_like,
    find=_find,
)
