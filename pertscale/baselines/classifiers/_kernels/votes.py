"""Votes of nearest neighbours."""

from __future__ import annotations

import numpy as np

from pertscale._jit import jit

_U = np.uint64


@jit
def add_votes(
    index: np.ndarray,
    weight: np.ndarray,
    first: int,
    last: int,
    labels: np.ndarray,
    rows: np.ndarray,
    votes: np.ndarray,
) -> None:
    """Add the weights of the neighbours' labels to the votes, gene by gene.

    Parameters
    ----------
    index, weight : ndarray (queries, k)
        Rows of `labels` that are neighbours, and the weights of their votes.
    first, last : int
        Which of the neighbours vote, from 0: `first` up to before `last`.
    labels : ndarray (n, genes), int8
        -1, 0, 1; any other code is no vote.
    rows : ndarray (queries,)
        Row of `votes` of each query.
    votes : ndarray (3, rows, genes), float64
        Sums over the neighbours are added. A sum is taken in the order of the neighbours, so
        two classes with the same weights get the same votes, bit for bit.
    """
    n_genes = labels.shape[1]
    down, none, up = np.empty(n_genes), np.empty(n_genes), np.empty(n_genes)
    for q in range(_U(len(index))):
        down[:] = 0.0
        none[:] = 0.0
        up[:] = 0.0
        for j in range(_U(first), _U(min(last, index.shape[1]))):
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


@jit
def add_labelled_votes(
    index: np.ndarray,
    distance: np.ndarray,
    first: int,
    last: int,
    exponent: float,
    labels: np.ndarray,
    rows: np.ndarray,
    votes: np.ndarray,
) -> None:
    """Add the votes of the nearest neighbours that have a label, which differ between genes.

    Parameters
    ----------
    index, distance : ndarray (queries, n)
        All neighbours of each query, the nearest first: their columns of `labels`, and how far they
        are.
    first, last : int
        Which of the neighbours with a label vote, from 0: `first` up to before `last`.
    exponent : float
        Of the weight 1/d^exponent; 0 for equal weights. Neighbours at distance 0 weigh 1 and all
        others 0, unless weights are equal.
    labels : ndarray (genes, n), int8
        -1, 0, 1; any other code is no vote. A row per gene: a gene's labels lie together.
    rows : ndarray (queries,)
        Row of `votes` of each query.
    votes : ndarray (3, rows, genes), float64
        Sums are added, in the order of the neighbours.
    """
    n_neighbors = index.shape[1]
    for gene in range(_U(labels.shape[0])):
        mine = labels[gene]
        for q in range(_U(len(index))):
            found = 0
            nearest = 0.0
            for j in range(_U(n_neighbors)):
                label = mine[_U(index[q, j])]
                if label < -1 or label > 1:
                    continue
                d = distance[q, j]
                if found == 0:
                    nearest = d
                weight = 1.0
                if exponent != 0.0 and nearest == 0.0:
                    if d > 0.0:
                        break
                elif exponent == 1.0:
                    weight = 1.0 / d
                elif exponent != 0.0:
                    weight = (nearest / d) ** exponent
                if found >= first:
                    votes[_U(label + 1), _U(rows[q]), gene] += weight
                found += 1
                if found == last:
                    break
