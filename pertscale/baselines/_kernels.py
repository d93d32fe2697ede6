"""Inner loops of the baselines, on plain arrays."""

from __future__ import annotations

import numpy as np

from pertscale._jit import jit

_U = np.uint64


@jit
def add_votes(
    index: np.ndarray, weight: np.ndarray, labels: np.ndarray, rows: np.ndarray, votes: np.ndarray
) -> None:
    """Add the weights of the neighbours' labels to the votes, gene by gene.

    Parameters
    ----------
    index, weight : ndarray (queries, k)
        Rows of `labels` that are neighbours, and the weights of their votes.
    labels : ndarray (n, genes), int8
        -1, 0, 1; any other code is no vote.
    rows : ndarray (queries,)
        Row of `votes` of each query.
    votes : ndarray (3, rows, genes), float64
        Get the sums over the k neighbours added. A sum is taken in the order of the neighbours, so
        two classes with the same weights get the same votes, bit for bit.
    """
    n_genes = labels.shape[1]
    down, none, up = np.empty(n_genes), np.empty(n_genes), np.empty(n_genes)
    for q in range(_U(len(index))):
        down[:] = 0.0
        none[:] = 0.0
        up[:] = 0.0
        for j in range(_U(index.shape[1])):
            w = weight[q, j]
            row = labels[_U(index[q, j])]
            for g in range(_U(n_genes)):
                down[g] += w * np.float64(row[g] == -1)
                none[g] += w * np.float64(row[g] == 0)
                up[g] += w * np.float64(row[g] == 1)
        to = _U(rows[q])
        for g in range(_U(n_genes)):
            votes[0, to, g] += down[g]
            votes[1, to, g] += none[g]
            votes[2, to, g] += up[g]
