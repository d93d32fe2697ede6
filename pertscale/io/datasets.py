"""Datasets on disk: made empty, with their names, filled block by block, and opened lazily.

Every chunk is written, also where all values are zero, and ends with its checksum. So a chunk that
is missing was lost, and whoever reads it, or a changed one, gets an error instead of fill values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import xarray as xr
import zarr
from zarr.abc.store import Store
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec
from zarr.storage import LocalStore, WrapperStore

from pertscale.errors import CorruptFileError
from pertscale.io.places import Place, for_zarr
from pertscale.io.reading import reading
from pertscale.io.store import ALL_CHUNKS, CHUNK_KEY, has_checksums

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
    """Write names and empty arrays as a Zarr store that xarray opens; return the arrays."""
    named = {dim: np.array(list(names), dtype=object) for dim, names in coords.items()}
    dataset = xr.Dataset(coords=named, attrs=dict(attrs))
    checked = {dim: {"compressors": (ZstdCodec(level=0), Crc32cCodec())} for dim in named}
    with zarr.config.set({f"array.{name}": value for name, value in ALL_CHUNKS.items()}):
        dataset.to_zarr(path, zarr_format=3, consolidated=False, encoding=checked)
    root: Any = zarr.open_group(path, mode="r+")
    return {
        name: root.create_array(
            name,
            shape=tuple(len(named[dim]) for dim in variable.dims),
            chunks=tuple(max(1, chunk) for chunk in variable.chunks),
            dtype=variable.dtype,
            compressors=COMPRESSORS,
            dimension_names=variable.dims,
            config=ALL_CHUNKS,
        )
        for name, variable in variables.items()
    }


def open_dataset(where: Place, *, remedy: str) -> xr.Dataset:
    """Open a dataset lazily; what is read of it is what was written, or a CorruptFileError.

    `remedy` says what helps where it is not. Of datasets of earlier versions, whose chunks have no
    checksums, those without data may be missing.
    """
    found = for_zarr(where)
    local = isinstance(found, str)
    store = _Checked(LocalStore(found, read_only=True) if local else found, str(where), remedy)
    with reading(str(where), remedy=remedy):
        arrays = [array for _, array in zarr.open_group(store, mode="r").arrays()]
        store.is_whole = bool(arrays) and all(map(has_checksums, arrays))
        return xr.open_zarr(store, consolidated=False)


class _Checked(WrapperStore[Store]):
    """A Zarr store in which chunks that are missing or changed are an error.

    Parameters
    ----------
    store : Store
    where, remedy : str
        For messages.
    is_whole : bool
        Whether all chunks were written, with checksums.
    """

    def __init__(self, store: Store, where: str, remedy: str, *, is_whole: bool = False) -> None:
        super().__init__(store)
        self.where, self.remedy, self.is_whole = where, remedy, is_whole

    def _with_store(self, store: Store) -> _Checked:
        return _Checked(store, self.where, self.remedy, is_whole=self.is_whole)

    def __str__(self) -> str:
        return self.where

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        found = await self._store.get(key, prototype, byte_range)
        if self.is_whole and byte_range is None and CHUNK_KEY.search(key):
            if found is None:
                raise CorruptFileError(f"{self.where}/{key}: this chunk is missing: {self.remedy}")
            try:
                spec: Any = SimpleNamespace(prototype=prototype)  # all that a checksum needs of it
                await Crc32cCodec().decode([(found, spec)])
            except ValueError as error:
                raise CorruptFileError(
                    f"{self.where}/{key}: this chunk has other content than was written: "
                    f"{self.remedy}"
                ) from error
        return found
