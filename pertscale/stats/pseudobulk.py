"""The pseudobulk that the rank-sum pass writes: created empty, filled by parts, read lazily."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import zarr

from pertscale.arguments import checked
from pertscale.errors import NotFoundError, PertscaleError
from pertscale.execution.buffers import Buffers
from pertscale.io.checksums import check_files
from pertscale.io.guards.damage import file_errors
from pertscale.io.guards.json_files import read_json_file
from pertscale.io.store.layout import ALL_CHUNKS, write_array
from pertscale.io.zarr_datasets import COMPRESSORS, open_dataset
from pertscale.schema import (
    CONTEXT,
    GENE,
    LABELS_DIR,
    MANIFEST_FILE,
    PERTURBATION,
    PSEUDOBULK_DIR,
    PSEUDOBULK_VARIABLES,
)
from pertscale.screen import Screen
from pertscale.stats.labels.table import PROFILES, REMEDY, read_manifest
from pertscale.storage.atomic import atomic_path, put_on_disk
from pertscale.storage.locations import Location, LocationLike, locate
from pertscale.storage.own_files import zarr_pattern

if TYPE_CHECKING:
    import xarray as xr


#: Attribute: the key of the label table from the same run.
LABELS_KEY = "labels_key"
#: Pattern of the files of a pseudobulk's folder.
PSEUDOBULK_FILES = zarr_pattern(
    [PERTURBATION, CONTEXT, GENE, *(variable.name for variable in PSEUDOBULK_VARIABLES)]
)


@checked
def read_pseudobulk(path: LocationLike, *, context: str | None = None) -> xr.Dataset:
    """Open the pseudobulk of a screen, lazily.

    Parameters
    ----------
    path : path or URL
        ``pseudobulk.zarr``, or a folder that holds it.
    context : str, optional
        Only the rows of one context.

    Returns
    -------
    Dataset
        Over (perturbation, gene), the controls as rows named ``control``:
        :data:`pertscale.schema.PSEUDOBULK_VARIABLES`, and the coordinate ``context``.

    Raises
    ------
    NotFoundError
        If there is none.
    CorruptFileError
        If it is not whole; also when values are read.

    Examples
    --------
    >>> profiles = ps.stats.read_pseudobulk("k562.labels")
    >>> sorted(profiles.data_vars)
    ['fraction_expressed', 'mean', 'mean_log1p', 'n_cells']
    >>> profiles["mean_log1p"].dims
    ('perturbation', 'gene')
    """
    folder = locate(path)
    if (folder / PSEUDOBULK_DIR / "zarr.json").exists():
        folder = folder / PSEUDOBULK_DIR
    if not (folder / "zarr.json").exists():
        raise NotFoundError(f"no pseudobulk in {folder}; pertscale.stats.rank_sum(store) makes one")
    if (folder.parent / LABELS_DIR / MANIFEST_FILE).exists():
        made = read_manifest(folder.parent / LABELS_DIR)
        if PROFILES in made and belongs_to(folder, made["key"]):
            check_files(folder, made[PROFILES], remedy=REMEDY, content=_is_description)
    return open_pseudobulk(folder.parent, name=folder.name, context=context)


def open_pseudobulk(
    output: Location,
    *,
    name: str = PSEUDOBULK_DIR,
    context: str | None = None,
    dask: bool = True,
) -> xr.Dataset:
    """Open the pseudobulk of an output folder without checking its files first.

    For `dask` see :func:`pertscale.io.zarr_datasets.open_dataset`.
    """
    return open_groups(output / name, context=context, dask=dask)


def open_groups(folder: Location, *, context: str | None, dask: bool) -> xr.Dataset:
    """Open a dataset over the groups and genes of a screen; see :func:`open_pseudobulk`."""
    dataset = open_dataset(folder, remedy=REMEDY, dask=dask)
    with file_errors(str(folder), remedy=REMEDY):
        names = {
            # here: a cluster would be asked for a few names, under the same keys each time
            name: dataset[name].compute(scheduler="synchronous").astype(object)
            for name in (PERTURBATION, GENE, CONTEXT)
        }
        dataset = dataset.assign_coords(names)
    return dataset if context is None else dataset.isel({PERTURBATION: names[CONTEXT] == context})


def _is_description(name: str) -> bool:
    return name.endswith("zarr.json")  # chunks have checksums of their own


def create_pseudobulk(
    screen: Screen, folder: Path, *, labels_key: str, rows_per_chunk: int
) -> None:
    """Write the coordinates and empty arrays of the pseudobulk, unless they exist.

    `labels_key` tells which label table it belongs to.
    """
    path = folder / PSEUDOBULK_DIR
    if path.exists():
        return
    groups = screen.groups
    with atomic_path(path) as temporary:
        belonging = {
            "scale": screen.scale,
            "fingerprint": screen.fingerprint,
            LABELS_KEY: labels_key,
        }
        root = zarr.create_group(temporary, zarr_format=3, attributes=belonging)
        write_groups(root, screen)
        for variable in PSEUDOBULK_VARIABLES:
            if variable.name == "n_cells":
                n_cells = screen.group_sizes.to_numpy(variable.dtype)
                write_array(root, variable.name, n_cells, PERTURBATION)
            else:
                root.create_array(
                    variable.name,
                    shape=(len(groups), screen.n_genes),
                    chunks=(rows_per_chunk, screen.n_genes),
                    dtype=variable.dtype,
                    compressors=COMPRESSORS,
                    dimension_names=(PERTURBATION, GENE),
                )
            root[variable.name].update_attributes({"doc": variable.doc, "units": variable.unit})


def write_groups(root: Any, screen: Screen) -> None:
    """Write the coordinates of a dataset over the groups and genes of a screen."""
    groups = screen.groups
    write_array(root, PERTURBATION, groups["perturbation"].to_numpy(object), PERTURBATION)
    write_array(root, CONTEXT, groups["context"].to_numpy(object), PERTURBATION)
    write_array(root, GENE, screen.genes.to_numpy(object), GENE)
    root[PERTURBATION].attrs["coordinates"] = CONTEXT


def belongs_to(path: Location, labels_key: str) -> bool:
    """Whether there is a pseudobulk, and it is of the run that wrote a label table."""
    try:
        content = read_json_file(path / "zarr.json", "a pseudobulk")
    except PertscaleError:
        return False
    attributes = content.get("attributes") if isinstance(content, dict) else None
    return isinstance(attributes, dict) and attributes.get(LABELS_KEY) == labels_key


def write_profiles(
    folder: Path, n_cells: pd.Series, statistics: Mapping[str, np.ndarray], buffers: Buffers
) -> None:
    """Fill the rows of some consecutive groups, by the index of `n_cells`, from their sums."""
    n = n_cells.to_numpy(np.float64)[:, None]
    root: Any = zarr.open_group(folder / PSEUDOBULK_DIR, mode="r+")
    rows = slice(int(n_cells.index[0]), int(n_cells.index[-1]) + 1)
    mean = buffers.take("mean", statistics["sum_log1p"].shape, np.float64)
    for variable, field in _SUMS.items():
        np.divide(statistics[field], n, out=mean)
        root[variable].with_config(ALL_CHUNKS)[rows] = mean


def put_profiles_on_disk(folder: Path, chunk: int) -> list[str]:
    """Sync a chunk of rows to the disk; return its file in all arrays."""
    names = [f"{variable}/c/{chunk}/0" for variable in _SUMS]
    for name in names:
        put_on_disk(folder / PSEUDOBULK_DIR / name)
    return names


#: Which sum of the tiles makes which variable, divided by the cells.
_SUMS = {
    "mean_log1p": "sum_log1p",
    "mean": "sum_normalized",
    "fraction_expressed": "n_expressed",
}
