"""Principal components of genes over training conditions, in memory or out of core (SPEC H4.1)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import xarray as xr
from scipy.linalg import eigh

from pertscale import embeddings
from pertscale.schema import GENE, PERTURBATION

#: A lazy matrix above this goes through the products of its conditions; below it is read.
IN_MEMORY_BYTES: Final = 500_000_000
#: Of a lazy matrix, what is read at a time.
_BLOCK_BYTES: Final = 128_000_000


def principal_scores(profiles: xr.DataArray, dim: int) -> np.ndarray:
    """Return the first `dim` columns of ``U D`` of the profiles, genes as observations.

    From each condition its mean over genes is subtracted. A lazy matrix larger than
    :data:`IN_MEMORY_BYTES` is read block by block, twice: the eigenvectors of the products of its
    conditions give the same scores up to sign. Memory then: twice the square of the number of
    conditions, 8 bytes each.

    Parameters
    ----------
    profiles : DataArray (perturbation, gene)
    dim : int

    Returns
    -------
    ndarray (gene, dim), float64

    Raises
    ------
    ArgumentError
        If there are not more conditions and genes than `dim`.
    """
    profiles = profiles.transpose(PERTURBATION, GENE)
    if profiles.chunks is None or profiles.size * 8 <= IN_MEMORY_BYTES:
        names = [str(i) for i in range(profiles.sizes[GENE])]  # duplicated symbols stay apart
        return embeddings.from_training(profiles.values, genes=names, dim=dim).matrix
    n_conditions, n_genes = profiles.shape
    embeddings.check_dim(dim, n_conditions, n_genes)
    products = np.zeros((n_conditions, n_conditions))
    total = np.zeros(n_conditions)
    for _, block in _gene_blocks(profiles):
        products += block @ block.T
        total += block.sum(axis=1)
    products -= np.outer(total, total) / n_genes
    first = n_conditions - dim
    _, vectors = eigh(products, subset_by_index=(first, n_conditions - 1), overwrite_a=True)
    vectors = vectors[:, ::-1]
    scores = np.empty((n_genes, dim))
    for genes, block in _gene_blocks(profiles):
        scores[genes] = (block - (total / n_genes)[:, None]).T @ vectors
    return scores


def _gene_blocks(profiles: xr.DataArray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield ranges of genes and the profiles (condition, gene) on them."""
    step = max(1, _BLOCK_BYTES // (8 * profiles.shape[0]))
    for start in range(0, profiles.shape[1], step):
        genes = slice(start, start + step)
        yield genes, np.asarray(profiles[:, genes].values, np.float64)
