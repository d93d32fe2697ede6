"""Principal components of genes over training conditions, in memory or out of core (SPEC H4.1)."""

from __future__ import annotations

from typing import Final

import numpy as np
import xarray as xr

from pertscale import embeddings
from pertscale.errors import InputError
from pertscale.schema import GENE, PERTURBATION

#: A lazy matrix above this is decomposed block by block; below it is read.
IN_MEMORY_BYTES: Final = 500_000_000


def principal_scores(profiles: xr.DataArray, dim: int) -> np.ndarray:
    """Return the first `dim` columns of ``U D`` of the profiles, genes as observations.

    From each condition its mean over genes is subtracted. A lazy matrix larger than
    :data:`IN_MEMORY_BYTES` goes through ``dask_ml.decomposition.PCA``, whose memory is a block of
    genes times all conditions; the scores are the same up to sign.

    Parameters
    ----------
    profiles : DataArray (perturbation, gene)
    dim : int

    Returns
    -------
    ndarray (gene, dim), float64
    """
    profiles = profiles.transpose(PERTURBATION, GENE)
    if profiles.chunks is not None and profiles.nbytes > IN_MEMORY_BYTES:
        return _out_of_core(profiles, dim)
    names = [str(i) for i in range(profiles.sizes[GENE])]  # duplicated symbols are separate genes
    return embeddings.from_training(profiles.values, genes=names, dim=dim).matrix


def _out_of_core(profiles: xr.DataArray, dim: int) -> np.ndarray:
    from dask_ml.decomposition import PCA

    n_conditions, n_genes = profiles.shape
    if not 1 <= dim <= min(n_conditions, n_genes) - 1:
        raise InputError(
            f"dim={dim} components of {n_conditions} conditions x {n_genes} genes are not possible"
        )
    rows = max(n_conditions, 64_000_000 // (8 * n_conditions))
    genes = profiles.data.T.rechunk({0: rows, 1: -1}).astype(np.float64)
    scores = PCA(n_components=dim, svd_solver="full").fit_transform(genes)
    return np.asarray(scores.compute())
