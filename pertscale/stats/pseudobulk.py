"""Reading the pseudobulk that the rank-sum pass wrote."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from pertscale.errors import NotFoundError
from pertscale.schema import CONTEXT, GENE, PERTURBATION, PSEUDOBULK_DIR

if TYPE_CHECKING:
    import xarray as xr


def read_pseudobulk(path: str | os.PathLike[str], *, context: str | None = None) -> xr.Dataset:
    """Open the pseudobulk of a screen, lazily.

    Parameters
    ----------
    path : path
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

    folder = Path(path)
    if (folder / PSEUDOBULK_DIR).exists():
        folder = folder / PSEUDOBULK_DIR
    if not (folder / "zarr.json").exists():
        raise NotFoundError(f"no pseudobulk in {folder}; pertscale.stats.rank_sum(store) makes one")
    dataset = xr.open_zarr(folder, consolidated=False)
    names = {n: dataset[n].compute().astype(object) for n in (PERTURBATION, GENE, CONTEXT)}
    dataset = dataset.assign_coords(names)
    return dataset if context is None else dataset.isel({PERTURBATION: names[CONTEXT] == context})
