"""Means and dispersions of the genes, drawn to resemble a real K562 screen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Quantiles of 19,942 genes of a K562 screen (perturbplan's table of the Gasperini data, MIT).
#: Columns: quantile; ln of relative expression there; median and robust standard deviation
#: (interquartile range / 1.349) of ln of the negative-binomial size among genes around it.
#: A log-normal fit of the first (mean -12.36, sd 2.27) misses that the upper 40 % are narrower
#: (sd 1.03) than a log-normal's (1.27), which is the part that screens keep.
K562_GENES = np.array(
    [
        (0.000, -16.12, -4.02, 2.07),
        (0.050, -15.81, -3.69, 2.21),
        (0.100, -15.50, -2.95, 2.21),
        (0.200, -14.81, -2.34, 1.97),
        (0.300, -14.01, -1.22, 1.58),
        (0.400, -13.08, -0.18, 1.35),
        (0.500, -12.17, 0.74, 1.17),
        (0.600, -11.41, 1.26, 0.95),
        (0.700, -10.82, 1.36, 0.64),
        (0.800, -10.26, 1.13, 0.43),
        (0.900, -9.58, 0.86, 0.33),
        (0.950, -8.98, 0.82, 0.31),
        (0.980, -8.17, 0.90, 0.42),
        (0.990, -7.55, 1.00, 0.50),
        (0.995, -6.54, 1.18, 0.64),
        (0.999, -5.12, 1.65, 0.38),
        (1.000, -4.23, 1.80, 0.42),
    ]
)
#: Standard deviation of the log library size in the same screen.
LIBRARY_SD = 0.40
#: Standard deviation, in natural logs, of a gene's mean around its mean in another context.
CONTEXT_SD = 0.6
#: Scores of a cell that many genes follow together (cycle, stress, …), and the standard deviations,
#: in natural logs, of what each does to a gene.
STATE_SD = (1.0, 0.25, 0.15)
#: Share of the genes that follow a score, and what all of them explain at most of a gene's variance
#: beyond Poisson's.
STATE_SHARE = 0.8
MOST_EXPLAINED = 0.95
#: Standard deviation, in natural logs, of a gene's mean between batches.
BATCH_SD = 0.08
#: Sizes outside of this range are artefacts of fitting, or indistinguishable from Poisson.
DISPERSION_RANGE = (0.01, 500.0)


@dataclass(frozen=True)
class GeneModel:
    """Unperturbed expression of every gene.

    Attributes
    ----------
    mean
        Expected count in a control cell of average library size, (context, gene), float32.
    dispersion
        Over all cells of one library size: variance = mean + mean² / dispersion, (gene,), float32.
    within
        Negative-binomial size of the counts of cells in one state, (gene,), float32.
    loading
        What a score of a cell, which is standard normal, does to the natural log of a gene's mean,
        (score, gene), float32.
    batch
        Factor of each batch, (context, batch, gene), float32; its mean over the batches is 1.
    """

    mean: NDArray[np.float32]
    dispersion: NDArray[np.float32]
    within: NDArray[np.float32]
    loading: NDArray[np.float32]
    batch: NDArray[np.float32]


def draw_genes(
    n_genes: int,
    *,
    n_contexts: int,
    n_batches: int,
    umi_per_cell: float,
    expressed_fraction: float,
    rng: np.random.Generator,
) -> GeneModel:
    """Draw the genes of a screen from the upper ``expressed_fraction`` of the K562 table.

    Quantiles are stratified, so that a small panel has the same share of high genes as a large
    one. The first context has the table's means; in the others each gene is shifted.
    """
    rank = (rng.permutation(n_genes) + rng.random(n_genes)) / n_genes
    quantile = 1.0 - expressed_fraction * rank
    knots, log_relative, log_size, log_size_sd = K562_GENES.T
    scatter = np.interp(quantile, knots, log_size_sd) * rng.standard_normal(n_genes)
    dispersion = np.exp(np.interp(quantile, knots, log_size) + scatter).clip(*DISPERSION_RANGE)

    shift = CONTEXT_SD * rng.standard_normal((n_contexts, n_genes))
    shift[0] = 0.0
    mean = np.exp(np.interp(quantile, knots, log_relative) + shift)
    mean *= umi_per_cell / mean.sum(axis=1, keepdims=True)

    loading = _draw_loadings(dispersion, rng)
    # the states of the cells are a part of the dispersion, and the counts within one have the rest
    within = 1 / np.expm1(np.log1p(1 / dispersion) - (loading**2).sum(axis=0))
    batch = np.exp(BATCH_SD * rng.standard_normal((n_contexts, n_batches, n_genes)))
    batch /= batch.mean(axis=1, keepdims=True)
    arrays = (mean, dispersion, within, loading, batch)
    return GeneModel(*(array.astype(np.float32) for array in arrays))


def _draw_loadings(
    dispersion: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    loading = np.array(STATE_SD)[:, None] * rng.standard_normal((len(STATE_SD), len(dispersion)))
    loading *= rng.random(loading.shape) < STATE_SHARE
    most = np.log1p(MOST_EXPLAINED / dispersion)
    squares = (loading**2).sum(axis=0)
    return loading * np.sqrt(np.minimum(1, most / np.maximum(squares, 1e-300)))
