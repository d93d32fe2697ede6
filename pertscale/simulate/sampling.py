"""Negative-binomial counts of a block of cells, straight into CSR."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pertscale._jit import jit
from pertscale.io.h5ad_writer import WrittenBlock
from pertscale.simulate.cells import Cells
from pertscale.simulate.effects import Effects
from pertscale.simulate.expression import LIBRARY_SD, GeneModel
from pertscale.simulate.guides import Guides

#: Matrix entries per block. Part of the definition of the output, since every block has its own
#: random stream; a block in memory takes at most 8 bytes per entry.
BLOCK_ENTRIES = 1 << 21
#: Above this mean, gamma-Poisson is cheaper than walking up the distribution function.
_WALK_LIMIT = 24.0
_LN2 = math.log(2.0)
#: No cell holds more molecules of a gene; the tails of the distributions would, in a million cells.
_LARGEST = 65_535


def rows_per_block(n_genes: int) -> int:
    """Cells per block; depends on the number of genes only."""
    return max(1, BLOCK_ENTRIES // n_genes)


def sample_block(
    block: int,
    *,
    seed: int,
    cells: Cells,
    genes: GeneModel,
    effects: Effects,
    guides: Guides,
) -> WrittenBlock:
    """Draw the counts of one block of cells; releases the GIL.

    Parameters
    ----------
    block
        Number of the block; with the seed it determines the random stream.
    cells
        Codes of the cells of the block.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1, block)))
    n_rows, n_genes = len(cells.condition), len(genes.dispersion)
    # mean 1, so that the asked-for UMI per cell is the mean over cells
    library = np.exp(LIBRARY_SD * rng.standard_normal(n_rows) - LIBRARY_SD**2 / 2)
    state = rng.standard_normal((n_rows, len(genes.loading)))
    counts = np.empty(n_rows * n_genes, np.float32)
    indices = np.empty(n_rows * n_genes, np.int32)
    row_lengths = np.empty(n_rows, np.int64)
    n_nonzero = _sample_rows(
        rng,
        cells.context,
        cells.condition,
        cells.batch,
        cells.guide,
        library,
        state,
        genes.loading,
        genes.mean,
        genes.batch,
        effects.log2_effect,
        guides.start,
        guides.gene,
        guides.factor,
        genes.within,
        counts,
        indices,
        row_lengths,
    )
    return WrittenBlock(counts[:n_nonzero], indices[:n_nonzero], row_lengths)


@jit
def _sample_rows(
    rng: np.random.Generator,
    context: NDArray[np.int32],
    condition: NDArray[np.int32],
    batch: NDArray[np.int32],
    guide: NDArray[np.int32],
    library: NDArray[np.float64],
    state: NDArray[np.float64],
    loading: NDArray[np.float32],
    mean: NDArray[np.float32],
    batch_factor: NDArray[np.float32],
    log2_effect: NDArray[np.float32],
    guide_start: NDArray[np.int64],
    guide_gene: NDArray[np.int32],
    guide_factor: NDArray[np.float32],
    size: NDArray[np.float32],
    counts: NDArray[np.float32],
    indices: NDArray[np.int32],
    row_lengths: NDArray[np.int64],
) -> int:
    """Fill ``counts``, ``indices`` and ``row_lengths``; return the number of non-zeros."""
    at = 0
    mu = np.empty(len(size))
    for row in range(len(condition)):
        start = at
        here, what = context[row], condition[row]
        base, lane, effect = mean[here], batch_factor[here, batch[row]], log2_effect[here, what]
        for gene in range(len(size)):
            log = effect[gene] * _LN2
            for score in range(loading.shape[0]):
                # the mean over cells of exp(loading x score) is exp(loading² / 2)
                log += loading[score, gene] * (state[row, score] - 0.5 * loading[score, gene])
            mu[gene] = library[row] * base[gene] * lane[gene]
            if log != 0.0:
                mu[gene] *= math.exp(log)
        for entry in range(guide_start[what], guide_start[what + 1]):
            mu[guide_gene[entry]] *= guide_factor[entry, guide[row]]
        for gene in range(len(size)):
            count = _negative_binomial(rng, mu[gene], np.float64(size[gene]))
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
