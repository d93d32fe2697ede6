"""Datasets on disk: made empty, with their names, filled block by block, and opened lazily.

Every chunk is written, also where all values are zero, and ends with its checksum. So a chunk that
is missing was lost, and whoever reads it, or a changed one, gets an error instead of fill values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec

from pertscale.io.guards.damage import file_errors
from pertscale.io.store.layout import ALL_CHUNKS, has_checksums, packed, whole_store
from pertscale.storage.locations import Location

#: How chunks of numbers are stored.
COMPRESSORS = (BloscCodec(cname="lz4", clevel=5, shuffle="shuffle"), Crc32cCodec())


@dataclass(frozen=True)
class Variable:
    """An array of a dataset: its dimensions, chunk along each, and dtype."""

    dims: tuple[str, ...]
    chunks: tuple[int, ...]
    dtype: Any


def create_dataset(
    path: Any,
    *,
    coords: Mapping[str, Sequence[str]],
    attrs: Mapping[str, str],
    variables: Mapping[str, Variable],
) -> dict[str, Any]:
    """Write names and empty arrays as a Zarr store that xarray opens; return the arrays.

    Along a dimension without names arrays have no length: what is appended to them is named by
    :func:`write_names`.
    """
    root: Any = zarr.open_group(path, mode="w", zarr_format=3, attributes=dict(attrs))
    for dim, names in coords.items():
        write_names(root, dim, names)
    return {
        name: root.create_array(
            name,
            shape=tuple(len(coords.get(dim, ())) for dim in variable.dims),
            chunks=tuple(max(1, chunk) for chunk in variable.chunks),
            dtype=variable.dtype,
            compressors=COMPRESSORS,
            dimension_names=variable.dims,
            config=ALL_CHUNKS,
        )
        for name, variable in variables.items()
    }


def write_names(where: Any, dim: str, names: Sequence[str]) -> None:
    """Write the names along a dimension of a dataset, as a group or where it is.

    As xarray writes them, which takes ten times as long.
    """
    root: Any = where if isinstance(where, zarr.Group) else zarr.open_group(where, mode="r+")
    array = root.create_array(
        dim,
        shape=(len(names),),
        chunks=(max(1, len(names)),),
        dtype="str",
        compressors=packed(),
        dimension_names=(dim,),
        config=ALL_CHUNKS,
    )
    if len(names):
        array[:] = np.array(list(names), np.dtypes.StringDType())


def open_dataset(where: Location, *, remedy: str, dask: bool = True) -> xr.Dataset:
    """Open a dataset lazily; what is read of it is what was written, or a CorruptFileError.

    `remedy` says what helps where it is not. Without `dask` values are read by whoever asks for
    them, and not in tasks. Of datasets of earlier versions, whose chunks have no
    checksums, those without data may be missing.
    """
    store = whole_store(where, remedy=remedy, verify=True)
    with file_errors(str(where), remedy=remedy):
        arrays = [array for _, array in zarr.open_group(store, mode="r").arrays()]
        if arrays and all(map(has_checksums, arrays)):
            store.below = ""  # all chunks are written, of all arrays
        return xr.open_zarr(store, consolidated=False, chunks={} if dask else None)
