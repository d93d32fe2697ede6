"""Halves of the cells (method O1): created empty, filled by the rank-sum pass, read lazily."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import zarr

from pertscale.arguments import checked
from pertscale.errors import NotFoundError
from pertscale.io.store.layout import ALL_CHUNKS
from pertscale.io.zarr_datasets import COMPRESSORS
from pertscale.schema import (
    CONTEXT,
    GENE,
    HALF,
    HALVES_DIR,
    HALVES_VARIABLES,
    PERTURBATION,
    REPLICATE,
)
from pertscale.screen import Screen
from pertscale.stats.pseudobulk import open_groups, open_pseudobulk, write_groups
from pertscale.storage.atomic import atomic_path
from pertscale.storage.locations import Location, LocationLike, locate
from pertscale.storage.own_files import zarr_pattern

if TYPE_CHECKING:
    import xarray as xr

#: Arrays of one value for each half of a group, and of a value per gene.
_N_CELLS: Final = "n_cells"
_DIMS: Final = {
    "mean_log1p_first": (REPLICATE, PERTURBATION, GENE),
    "variance_log1p": (PERTURBATION, GENE),
    "label": (HALF, PERTURBATION, GENE),
    "z": (HALF, PERTURBATION, GENE),
    _N_CELLS: (REPLICATE, HALF, PERTURBATION),
}
#: Pattern of the files of the halves' folder.
HALVES_FILES: Final = zarr_pattern([PERTURBATION, CONTEXT, GENE, *_DIMS])


@checked
def read_halves(path: LocationLike, *, context: str | None = None) -> xr.Dataset:
    """Open what was measured on halves of the cells, lazily.

    The cells of each perturbation, and the controls, are split at random within batches, in several
    ways: each half is a measurement of its own of the same perturbation. What one half says of the
    other is as good as a prediction of as many cells can be.

    Parameters
    ----------
    path : path or URL
        Output folder of :func:`pertscale.run_benchmark`, or of :func:`pertscale.stats.rank_sum`
        with ``replicates=``.
    context : str, optional
        Only the rows of one context.

    Returns
    -------
    Dataset
        Over (replicate, half, perturbation, gene), the controls as rows named ``control``:
        ``mean_log1p`` (replicate, half, perturbation, gene), float64; ``n_cells`` (replicate, half,
        perturbation); ``label`` and ``z`` (half, perturbation, gene), of the first replicate: its
        halves tested against the same half of the controls; ``variance_log1p`` (perturbation,
        gene), of log1p expression over all cells; and the coordinate ``context``. NaN (labels:
        -128) for perturbations with fewer cells than two halves need. Memory: the chunks of
        perturbations that are read at a time.

    Raises
    ------
    NotFoundError
        If there is none.
    CorruptFileError
        If it is not whole; also when values are read.

    Examples
    --------
    >>> labels = ps.stats.rank_sum("k562.zarr", out="halved", replicates=2, quiet=True)
    >>> halves = ps.stats.read_halves("halved")
    >>> halves["mean_log1p"].dims
    ('replicate', 'half', 'perturbation', 'gene')
    >>> first, second = halves["mean_log1p"].sel(replicate=0, perturbation="GENE0002")
    >>> bool(np.corrcoef(first, second)[0, 1] > 0.9)
    True
    """
    return open_halves(_with_halves(path), context=context)


def read_first_halves(path: LocationLike, *, context: str | None = None) -> xr.Dataset:
    """Open what is written of the halves: see :func:`open_first_halves`; errors of the above."""
    return open_first_halves(_with_halves(path), context=context)


def _with_halves(path: LocationLike) -> Location:
    folder = locate(path)
    if not (folder / HALVES_DIR / "zarr.json").exists():
        raise NotFoundError(
            f"no halves of the cells in {folder}; pertscale.stats.rank_sum(store, replicates=5) or "
            "pertscale.run_benchmark(store) makes them"
        )
    return folder


def open_halves(output: Location, *, context: str | None = None) -> xr.Dataset:
    """Open the halves of an output folder as Dask arrays; see :func:`read_halves`."""
    halves = open_first_halves(output, context=context, dask=True)
    return _with_second(halves, open_pseudobulk(output, context=context))


def open_first_halves(
    output: Location, *, context: str | None = None, dask: bool = False
) -> xr.Dataset:
    """Open what is written of the halves: ``mean_log1p_first`` in place of both means.

    For `dask` see :func:`pertscale.io.zarr_datasets.open_dataset`.
    """
    return open_groups(output / HALVES_DIR, context=context, dask=dask)


def _with_second(halves: xr.Dataset, whole: xr.Dataset) -> xr.Dataset:
    """Put the means of both halves in place of those of the first.

    Those of the second are what the first leaves of the mean over all cells.
    """
    import xarray as xr

    first = halves["mean_log1p_first"].astype(float)
    n_first, n_second = (halves[_N_CELLS].isel({HALF: half}, drop=True) for half in range(2))
    mean = whole["mean_log1p"].drop_vars([PERTURBATION, GENE, CONTEXT])
    second = (mean * (n_first + n_second) - first * n_first) / n_second
    both = xr.concat([first, second], dim=HALF).transpose(REPLICATE, HALF, PERTURBATION, GENE)
    return halves.drop_vars("mean_log1p_first").assign(mean_log1p=both)


def create_halves(
    screen: Screen, folder: Path, *, n_cells: np.ndarray, labels_key: str, rows_per_chunk: int
) -> None:
    """Write the names, the numbers of cells (replicate, half, group), and empty arrays.

    Nothing is done where they exist. `labels_key` tells which label table they belong to.
    """
    path = folder / HALVES_DIR
    if path.exists():
        return
    lengths = {
        REPLICATE: len(n_cells),
        HALF: 2,
        PERTURBATION: len(screen.groups),
        GENE: screen.n_genes,
    }
    with atomic_path(path) as temporary:
        root: Any = zarr.create_group(
            temporary,
            zarr_format=3,
            attributes={"fingerprint": screen.fingerprint, "labels_key": labels_key},
        )
        write_groups(root, screen)
        chunks = {REPLICATE: 1, HALF: 1, PERTURBATION: rows_per_chunk, GENE: screen.n_genes}
        for variable in HALVES_VARIABLES:
            dims = _DIMS[variable.name]
            whole = variable.name == _N_CELLS
            array = root.create_array(
                variable.name,
                shape=tuple(lengths[dim] for dim in dims),
                chunks=tuple(lengths[dim] if whole else chunks[dim] for dim in dims),
                dtype=variable.dtype,
                compressors=COMPRESSORS,
                dimension_names=dims,
                config=ALL_CHUNKS,
            )
            array.update_attributes({"doc": variable.doc, "units": variable.unit})
        root[_N_CELLS].with_config(ALL_CHUNKS)[:] = n_cells
