"""Negative-binomial counts of a block of cells, straight into CSR."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pertscale._jit import jit
from pertscale.io.h5ad_writer import Block
from pertscale.simulate.effects import Effects
from pertscale.simulate.expression import LIBRARY_SD, GeneModel

#: Matrix entries per block. Part of the definition of the output, since every block has its own
#: random stream; a block in memory takes at most 8 bytes per entry.
BLOCK_ENTRIES = 1 << 21
#: Above this mean, gamma-Poisson is cheaper than walking up the distribution function.
_WALK_LIMIT = 24.0
#: No cell holds more molecules of a gene; the tails of the distributions would, in a million cells.
_LARGEST = 65_535


def rows_per_block(n_genes: int) -> int:
    """Cells per block; depends on the number of genes only."""
    return max(1, BLOCK_ENTRIES // n_genes)


def sample_block(
    block: int,
    *,
    seed: int,
    context: NDArray[np.int32],
    condition: NDArray[np.int32],
    genes: GeneModel,
    effects: Effects,
) -> Block:
    """Draw the counts of one block of cells; releases the GIL.

    Parameters
    ----------
    block
        Number of the block; with the seed it determines the random stream.
    context, condition
        Codes of each cell, (cell,); condition 0 is control.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1, block)))
    n_rows, n_genes = len(condition), len(genes.dispersion)
    # mean 1, so that the asked-for UMI per cell is the mean over cells
    library = np.exp(LIBRARY_SD * rng.standard_normal(n_rows) - LIBRARY_SD**2 / 2)
    counts = np.empty(n_rows * n_genes, np.float32)
    indices = np.empty(n_rows * n_genes, np.int32)
    row_lengths = np.empty(n_rows, np.int64)
    n_nonzero = _sample_rows(
        rng,
        context,
        condition,
        library,
        genes.mean,
        effects.log2_effect,
        genes.dispersion,
        counts,
        indices,
        row_lengths,
    )
    return Block(counts[:n_nonzero], indices[:n_nonzero], row_lengths)


@jit
def _sample_rows(
    rng: np.random.Generator,
    context: NDArray[np.int32],
    condition: NDArray[np.int32],
    library: NDArray[np.float64],
    mean: NDArray[np.float32],
    log2_effect: NDArray[np.float32],
    dispersion: NDArray[np.float32],
    counts: NDArray[np.float32],
    indices: NDArray[np.int32],
    row_lengths: NDArray[np.int64],
) -> int:
    """Fill ``counts``, ``indices`` and ``row_lengths``; return the number of non-zeros."""
    at = 0
    for row in range(len(condition)):
        start = at
        base = mean[context[row]]
        effect = log2_effect[context[row], condition[row]]
        for gene in range(len(dispersion)):
            mu = library[row] * base[gene]
            if effect[gene] != 0.0:
                mu *= 2.0 ** effect[gene]
            count = _negative_binomial(rng, mu, np.float64(dispersion[gene]))
            if count > 0:
                counts[at] = min(count, _LARGEST)
                indices[at] = gene
                at += 1
        row_lengths[row] = at - start
    return at


@jit
def _negative_binomial(rng: np.random.Generator, mu: float, size: float) -> int:
    """One count with mean ``mu`` and variance ``mu + mu² / size``."""
    if mu > _WALK_LIMIT:
        return rng.poisson(rng.standard_gamma(size) * (mu / size))
    left = rng.random()
    # P(0) is at least exp(-mu), which is at least this: most zeros need no exp and no log
    if left < 1.0 - mu * (1.0 - mu * (0.5 - mu / 6.0)):
        return 0
    probability = math.exp(-size * math.log1p(mu / size))
    ratio = mu / (size + mu)
    count = 0
    left -= probability
    while left >= 0.0:
        probability *= ratio * (size + count) / (count + 1.0)
        count += 1
        left -= probability
        if probability < 1e-18 and count > mu:  # the rest is rounding
            break
    return count
