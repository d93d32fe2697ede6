"""Principal components of genes over training conditions, also out of core (method H4.1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.linalg.blas import dsyrk
from scipy.sparse.linalg import LinearOperator, eigsh, svds

from pertscale.arguments import checked
from pertscale.embeddings.embedding import Embedding
from pertscale.embeddings.signs import fix_signs, start_vector
from pertscale.errors import ArgumentError, InputError
from pertscale.schema import GENE, PERTURBATION

#: A lazy matrix above this goes through the products of its conditions; a smaller one is read.
IN_MEMORY_BYTES: Final = 500_000_000
#: Of a lazy matrix, what is read at a time.
_BLOCK_BYTES: Final = 128_000_000


def principal_scores(profiles: xr.DataArray, dim: int) -> np.ndarray:
    """Return the first `dim` columns of ``U D`` of the profiles, genes as observations.

    From each condition its mean over genes is subtracted. A lazy matrix larger than
    :data:`IN_MEMORY_BYTES` is read block by block, twice: the eigenvectors of the products of its
    conditions give the same scores up to sign. Memory then: the square of the number of
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
    if profiles.variable._in_memory or profiles.size * 8 <= IN_MEMORY_BYTES:
        names = [str(i) for i in range(profiles.sizes[GENE])]  # duplicated symbols stay apart
        return from_training(profiles.values, genes=names, dim=dim).matrix
    n_conditions, n_genes = profiles.shape
    check_dim(dim, n_conditions, n_genes)
    products = np.zeros((n_conditions, n_conditions), order="F")
    total = np.zeros(n_conditions)
    for _, block in _gene_blocks(profiles):
        products = dsyrk(1.0, block.T, trans=1, beta=1.0, c=products, overwrite_c=1, lower=1)
        total += block.sum(axis=1)
    _centre_and_mirror(products, total, n_genes)
    values, vectors = eigsh(products, k=dim, which="LA", v0=start_vector(n_conditions))
    vectors = vectors[:, np.argsort(-values, kind="stable")]
    scores = np.empty((n_genes, dim))
    for genes, block in _gene_blocks(profiles):
        scores[genes] = (block - (total / n_genes)[:, None]).T @ vectors
    return scores


def _centre_and_mirror(
    products: NDArray[np.float64], total: NDArray[np.float64], n_genes: int
) -> None:
    """Make of sums of products, in the lower triangle, those of centred conditions, in place."""
    step = 256
    for start in range(0, len(products), step):
        here, below = slice(start, start + step), slice(start + step, None)
        products[start:, here] -= np.outer(total[start:], total[here] / n_genes)
        products[here, below] = products[below, here].T
        square = products[here, here]
        square[...] = np.tril(square) + np.tril(square, -1).T


def _gene_blocks(profiles: xr.DataArray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield ranges of genes and the profiles (condition, gene) on them."""
    step = max(1, _BLOCK_BYTES // (8 * profiles.shape[0]))
    for start in range(0, profiles.shape[1], step):
        genes = slice(start, start + step)
        yield genes, np.asarray(profiles[:, genes].values, np.float64)


@checked
def from_training(
    profiles: NDArray[np.float64], *, genes: Sequence[str], dim: int = 10, name: str = "training"
) -> Embedding:
    """Embed read-out genes by their expression over the training conditions (method H4.1).

    Genes are the observations: from the profile of each condition its mean over genes is
    subtracted, and the first `dim` columns of ``U D`` of the singular value decomposition are kept.
    Nothing is scaled, and the control is not subtracted, so the first dimension is mostly the
    average expression.

    Pass the profiles of the *training* conditions only, the control among them: whatever is in
    `profiles` enters the vectors, and a test perturbation in it would leak.

    Parameters
    ----------
    profiles
        float64 (n_conditions, n_genes), mean of log1p expression.
    genes
        Names of the columns.
    dim
        Length of the vectors.
    name
        Name of the embedding.

    Raises
    ------
    ArgumentError
        `dim` is above ``min(n_conditions, n_genes) - 1``.
    InputError
        Shapes that do not fit, repeated genes, or values that are not finite.

    Notes
    -----
    Memory is little beside `profiles` in float64; the solver is iterative and starts from a fixed
    vector. The vectors are those of the exact decomposition, each with its largest entry positive.

    References
    ----------
    Ahlmann-Eltze, Huber and Anders (2025), https://doi.org/10.1038/s41592-025-02772-6

    Examples
    --------
    >>> profiles = ps.stats.read_pseudobulk("k562.labels")["mean_log1p"]
    >>> train = profiles[:9]  # the control and eight perturbations
    >>> ps.embeddings.from_training(train.values, genes=list(train["gene"].values), dim=4).dim
    4
    """
    values = np.ascontiguousarray(profiles, dtype=np.float64)  # equal values give equal bits
    if values.ndim != 2 or values.shape[1] != len(genes):
        raise InputError(
            f"profiles have shape {values.shape}, needed is (n_conditions, {len(genes)} genes)"
        )
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        raise InputError(
            f"the profile of condition {row} has no finite value for {genes[column]!r}"
        )
    check_dim(dim, *values.shape)
    left, lengths, _ = svds(_centred(values), k=dim, v0=start_vector(min(values.shape)))
    leading = np.argsort(-lengths, kind="stable")
    matrix = fix_signs(left[:, leading] * lengths[leading])
    provenance = {
        "read as": "principal components of genes over training conditions",
        "n_conditions": len(values),
        "dim": dim,
    }
    return Embedding(name, tuple(genes), matrix, provenance)


def _centred(values: NDArray[np.float64]) -> LinearOperator:
    """Return the transposed profiles, each without its mean over genes, without a copy of them."""
    mean = values.mean(axis=1)

    def onto_genes(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(values.T @ x - mean @ x)

    def onto_conditions(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(values @ x - np.multiply.outer(mean, x.sum(axis=0)))

    return LinearOperator(
        values.T.shape,
        dtype=np.float64,
        matvec=onto_genes,
        matmat=onto_genes,
        rmatvec=onto_conditions,
        rmatmat=onto_conditions,
    )


def check_dim(dim: int, n_conditions: int, n_genes: int) -> None:
    """Raise an ArgumentError if conditions x genes do not have `dim` principal components."""
    limit = min(n_conditions, n_genes) - 1
    if not 1 <= dim <= limit:
        raise ArgumentError(
            f"dim has to be from 1 to {limit}, as there are {n_conditions} conditions and "
            f"{n_genes} genes; got {dim}"
        )


@checked
def from_screen(profiles: xr.DataArray, *, dim: int = 10, name: str = "other screen") -> Embedding:
    """Embed perturbations by their profiles in another screen (method H6).

    Conditions are the observations: from each gene its mean over conditions is subtracted, and the
    first `dim` columns of ``U D`` are kept. Pass all conditions of that screen, its control among
    them: the control has a vector of its own then.

    Parameters
    ----------
    profiles
        Mean log1p expression (perturbation, gene), such as ``read_pseudobulk(...)["mean_log1p"]``.
    dim
        Length of the vectors.
    name
        Name of the embedding.

    Raises
    ------
    ArgumentError
        `dim` is above ``min(n_conditions, n_genes) - 1``.
    InputError
        Values that are not finite, or names that occur twice.

    References
    ----------
    Ahlmann-Eltze, Huber and Anders (2025), https://doi.org/10.1038/s41592-025-02772-6

    Examples
    --------
    >>> other = ps.stats.read_pseudobulk("k562.labels")["mean_log1p"]
    >>> vectors = ps.embeddings.from_screen(other, dim=4)
    >>> model = ps.baselines.BilinearModel(perturbations=vectors)
    """
    values = profiles.transpose(PERTURBATION, GENE).values
    names = [str(n) for n in profiles[PERTURBATION].values]
    found = from_training(values.T, genes=names, dim=dim, name=name)
    provenance = {"read as": "principal components of conditions", "n_genes": values.shape[1]}
    return replace(found, provenance={**provenance, "dim": dim})
