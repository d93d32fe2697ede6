"""Datasets of predictions on disk: made empty, with their names, filled block by block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
import zarr
from zarr.codecs import BloscCodec


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
) -> Any:
    """Write names and empty arrays as a Zarr store that xarray opens; return its group."""
    named = {dim: np.array(list(names), dtype=object) for dim, names in coords.items()}
    dataset = xr.Dataset(coords=named, attrs=dict(attrs))
    dataset.to_zarr(path, zarr_format=3, consolidated=False)
    root: Any = zarr.open_group(path, mode="r+")
    for name, variable in variables.items():
        root.create_array(
            name,
            shape=tuple(len(named[dim]) for dim in variable.dims),
            chunks=tuple(max(1, chunk) for chunk in variable.chunks),
            dtype=variable.dtype,
            compressors=[BloscCodec(cname="lz4", clevel=5, shuffle="shuffle")],
            dimension_names=variable.dims,
        )
    return root
