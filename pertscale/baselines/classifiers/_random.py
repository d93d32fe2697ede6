"""Random numbers that do not depend on how the genes are cut into chunks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np


def gene_streams(seed: int, genes: Iterable[int]) -> Iterator[np.random.Generator]:
    """Yield the stream of each gene: the counter-based Philox generator keyed by both numbers.

    It is one generator that is set to the start of each stream, so it is to be used before the next
    one is asked for: making a generator takes longer than most draws from it.

    Parameters
    ----------
    seed
        Non-negative seed.
    genes
        Positions of genes in the label matrix.
    """
    philox = np.random.Philox(key=np.array([seed, 0], dtype=np.uint64))
    stream, start = np.random.Generator(philox), philox.state
    for gene in genes:
        start["state"]["key"] = np.array([seed, gene], dtype=np.uint64)
        philox.state = start
        yield stream
