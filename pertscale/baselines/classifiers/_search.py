"""Nearest neighbours among embeddings, and the weights of their votes (method E2). Arrays only."""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from pertscale.errors import InputError

Metric = Literal["euclidean", "cosine"]
Weights = Literal["distance", "uniform", "power"]

#: Query rows whose approximate distances are held at a time.
_QUERY_STEP: Final = 256


def unit_rows(X: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale every row to length 1; rows of NaN stay.

    Raises
    ------
    InputError
        For a row of zeros, which has no direction.
    """
    norms = np.linalg.norm(X, axis=1, keepdims=True)
    if (norms == 0).any():
        row = np.flatnonzero(norms[:, 0] == 0)[0]
        raise InputError(
            f"row {row} of X is zero and can't be scaled to length 1; set it to NaN if the "
            "perturbation has no embedding, or pass normalize=False"
        )
    return X / norms


def nearest(
    query: NDArray[np.float64], train: NDArray[np.float64], *, k: int
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Find the k nearest training rows of every query row, by Euclidean distance.

    Parameters
    ----------
    query, train
        Finite vectors, shapes (n, d) and (m, d).
    k
        Number of neighbours, at most m.

    Returns
    -------
    index : ndarray of intp, shape (n, k)
        Neighbours, nearest first; of equally distant ones the lower index comes first.
    distance : ndarray of float64, shape (n, k)

    Notes
    -----
    The products ``|q|^2 + |t|^2 - 2 q.t`` are fast, but lose exact zeros and ties. They only choose
    candidates, with a margin above their rounding error; the distances of the candidates are
    computed by subtraction. Memory: 16 (n k + 256 m) bytes.
    """
    index = np.empty((len(query), k), dtype=np.intp)
    distance = np.empty((len(query), k))
    train_squares = np.einsum("ij,ij->i", train, train)
    rounding = 8 * (train.shape[1] + 8) * np.finfo(np.float64).eps
    for start in range(0, len(query), _QUERY_STEP):
        part = query[start : start + _QUERY_STEP]
        squares = np.einsum("ij,ij->i", part, part)
        approximate = squares[:, None] + train_squares - 2 * (part @ train.T)
        margin = rounding * (squares + train_squares.max())
        cutoff = np.partition(approximate, k - 1, axis=1)[:, k - 1] + margin
        for row, (vector, near) in enumerate(
            zip(part, approximate <= cutoff[:, None], strict=True)
        ):
            candidates = np.flatnonzero(near)
            exact = cdist(vector[None], train[candidates])[0]
            order = np.argsort(exact, kind="stable")[:k]
            index[start + row], distance[start + row] = candidates[order], exact[order]
    return index, distance


def vote_weights(
    distance: NDArray[np.float64], *, metric: Metric, weights: Weights, exponent: float
) -> NDArray[np.float64]:
    """Return the weight of every neighbour's vote.

    Parameters
    ----------
    distance
        Euclidean distances, shape (n, k), ascending in every row.
    metric
        ``"cosine"`` takes ``1 - cos``, which on unit vectors is half the squared distance.
    weights
        ``"distance"``, 1/d; ``"power"``, 1/d^exponent up to a factor per row; ``"uniform"``, 1.
    exponent
        Exponent of ``"power"``.

    Returns
    -------
    ndarray of float64, shape (n, k)
        If a row has distances of 0, those weigh 1 and all others 0, unless weights are uniform. A
        weight does not depend on k.
    """
    if weights == "uniform":
        return np.ones_like(distance)
    if metric == "cosine":
        distance = distance**2 / 2
    coincide = distance == 0
    any_coincide = coincide[:, :1]  # ascending: a zero comes first
    safe = np.where(coincide, 1.0, distance)
    # relative to the nearest, so that a large exponent can't overflow
    weight = 1 / safe if weights == "distance" else (safe[:, :1] / safe) ** exponent
    return np.where(any_coincide, coincide, weight)
