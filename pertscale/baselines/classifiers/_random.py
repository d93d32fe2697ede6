"""Random numbers that do not depend on how the genes are cut into chunks."""

from __future__ import annotations

import numpy as np


def gene_stream(seed: int, gene: int) -> np.random.Generator:
    """Return the stream of one gene: the counter-based Philox generator keyed by both numbers.

    Parameters
    ----------
    seed
        Non-negative seed.
    gene
        Position of the gene in the label matrix.
    """
    return np.random.Generator(np.random.Philox(key=np.array([seed, gene], dtype=np.uint64)))
