"""The pseudobulk that the rank-sum pass writes: made empty, filled by parts, read lazily."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import zarr
from zarr.codecs import BloscCodec

from pertscale.arguments import checked
from pertscale.buffers import Buffers
from pertscale.errors import NotFoundError
from pertscale.io.atomic import atomic_path, put_on_disk, read_json
from pertscale.io.object_storage import naming
from pertscale.io.places import Place, PlaceLike, for_zarr, place
from pertscale.io.store import write_array
from pertscale.schema import CONTEXT, GENE, PERTURBATION, PSEUDOBULK_DIR, PSEUDOBULK_VARIABLES
from pertscale.screen import Screen

if TYPE_CHECKING:
    import xarray as xr


#: Attribute: the key of the label table from the same run.
LABELS_KEY = "labels_key"


@checked
def read_pseudobulk(path: PlaceLike, *, context: str | None = None) -> xr.Dataset:
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
    """
    import xarray as xr

    folder = place(path)
    if (folder / PSEUDOBULK_DIR / "zarr.json").exists():
        folder = folder / PSEUDOBULK_DIR
    if not (folder / "zarr.json").exists():
        raise NotFoundError(f"no pseudobulk in {folder}; pertscale.stats.rank_sum(store) makes one")
    with naming(str(folder)):
        dataset = xr.open_zarr(for_zarr(folder), consolidated=False)
        names = {
            # here: a cluster would be asked for a few names, each time under the same keys
            name: dataset[name].compute(scheduler="synchronous").astype(object)
            for name in (PERTURBATION, GENE, CONTEXT)
        }
    dataset = dataset.assign_coords(names)
    return dataset if context is None else dataset.isel({PERTURBATION: names[CONTEXT] == context})


def create_pseudobulk(
    screen: Screen, folder: Path, *, labels_key: str, rows_per_chunk: int
) -> None:
    """Write the coordinates and empty arrays of the pseudobulk, where they are not there yet.

    `labels_key` tells which label table it belongs to.
    """
    path = folder / PSEUDOBULK_DIR
    if path.exists():
        return
    groups = screen.groups
    with atomic_path(path) as temporary:
        root = zarr.create_group(temporary, zarr_format=3)
        root.attrs.update(
            {
                "scale": screen.scale,
                "fingerprint": screen.fingerprint,
                LABELS_KEY: labels_key,
            }
        )
        write_array(root, PERTURBATION, groups["perturbation"].to_numpy(object), PERTURBATION)
        write_array(root, CONTEXT, groups["context"].to_numpy(object), PERTURBATION)
        write_array(root, GENE, screen.genes.to_numpy(object), GENE)
        root[PERTURBATION].attrs["coordinates"] = CONTEXT
        for variable in PSEUDOBULK_VARIABLES:
            if variable.name == "n_cells":
                n_cells = (groups["stop"] - groups["start"]).to_numpy(variable.dtype)
                write_array(root, variable.name, n_cells, PERTURBATION)
            else:
                root.create_array(
                    variable.name,
                    shape=(len(groups), screen.n_genes),
                    chunks=(rows_per_chunk, screen.n_genes),
                    dtype=variable.dtype,
                    compressors=[BloscCodec(cname="lz4", clevel=5, shuffle="shuffle")],
                    dimension_names=(PERTURBATION, GENE),
                )
            root[variable.name].attrs.update({"doc": variable.doc, "units": variable.unit})


def belongs_to(path: Place, labels_key: str) -> bool:
    """Whether a pseudobulk is there, and of the run that wrote a label table."""
    root = path / "zarr.json"
    return root.exists() and read_json(root)["attributes"].get(LABELS_KEY) == labels_key


def write_profiles(
    folder: Path, groups: pd.DataFrame, statistics: Mapping[str, np.ndarray], buffers: Buffers
) -> None:
    """Fill the rows of some consecutive groups, by the index of `groups`, from their statistics."""
    n = (groups["stop"] - groups["start"]).to_numpy(np.float64)[:, None]
    root: Any = zarr.open_group(folder / PSEUDOBULK_DIR, mode="r+")
    rows = slice(int(groups.index[0]), int(groups.index[-1]) + 1)
    mean = buffers.take("mean", statistics["sum_log1p"].shape, np.float64)
    for variable, field in _SUMS.items():
        np.divide(statistics[field], n, out=mean)
        root[variable][rows] = mean


def put_profiles_on_disk(folder: Path, chunk: int) -> None:
    """Return when a chunk of rows would survive the end of the machine, in all arrays."""
    for variable in _SUMS:
        put_on_disk(folder / PSEUDOBULK_DIR / variable / "c" / str(chunk))


#: Which sum of the tiles makes which variable, divided by the cells.
_SUMS = {
    "mean_log1p": "sum_log1p",
    "mean": "sum_normalized",
    "fraction_expressed": "n_expressed",
}
