"""Steps of the averaged stochastic gradient descent."""

from __future__ import annotations

from typing import Any

import numpy as np

from pertscale._jit import inline, jit
from pertscale.baselines.classifiers._kernels.exponential import exp

_U = np.uint64
#: Scale of the weights below which they are written out, as scikit-learn does.
_SMALLEST_SCALE = 1e-9


@inline
def _slope(score: float, hit: bool) -> Any:
    """Return the derivative of the log loss, -log p or -log(1 - p), by the score."""
    odds = exp(min(max(-score, -700.0), 700.0))
    return (-odds if hit else 1.0) / (1.0 + odds)


@jit
def descend(
    row_features: np.ndarray,
    gene_features: np.ndarray,
    labels: np.ndarray,
    pairs: np.ndarray,
    alpha: float,
    first_step: float,
    average_from: float,
    weights: np.ndarray,
    sums: np.ndarray,
    intercepts: np.ndarray,
    state: np.ndarray,
) -> None:
    """Take a step for every pair, of three classes, each against the rest.

    The steps are those of scikit-learn's ``SGDClassifier`` (log loss, ``invscaling`` with the power
    1/4), for the three classes at once. Weights are `scale` times an array, and their average is
    ``(sums + share * weights) / divisor``, so that neither is scaled in every step (Bottou 2012,
    Stochastic gradient descent tricks).

    Parameters
    ----------
    row_features, gene_features : ndarray (rows, n) and (genes, m)
    labels : ndarray (rows, genes), int8
        -1, 0, 1.
    pairs : ndarray, int
        Positions in the flattened `labels`, in the order of the steps.
    alpha : float
        Strength of the penalty.
    first_step : float
        Length of step t is that of the first one, divided by t^(1/4).
    average_from : float
        First step, counted from 1, after which weights are averaged.
    weights, sums : ndarray (3, n + m)
    intercepts : ndarray (2, 3)
        Of now, and averaged.
    state : ndarray (4,)
        The next t, and `scale`, `share` and `divisor`.
    """
    n_genes = _U(labels.shape[1])
    n, m = _U(row_features.shape[1]), _U(gene_features.shape[1])
    known = labels.ravel()
    x = np.empty(n + m)
    down, none, up = weights[0], weights[1], weights[2]
    sum_down, sum_none, sum_up = sums[0], sums[1], sums[2]
    at_down, at_none, at_up = intercepts[0]
    mean_down, mean_none, mean_up = intercepts[1]
    t, scale, share, divisor = state
    for i in range(_U(len(pairs))):
        pair = _U(pairs[i])
        row = pair // n_genes
        of_row, of_gene = row_features[row], gene_features[pair - row * n_genes]
        d = z = u = 0.0
        for j in range(n):
            x[j] = of_row[j]
            d += down[j] * x[j]
            z += none[j] * x[j]
            u += up[j] * x[j]
        d_gene = z_gene = u_gene = 0.0  # apart, so that the sums don't wait for each other
        for j in range(m):
            value = of_gene[j]
            x[n + j] = value
            d_gene += down[n + j] * value
            z_gene += none[n + j] * value
            u_gene += up[n + j] * value
        label = known[pair]
        length = first_step / np.sqrt(np.sqrt(t))
        d = -length * _slope((d + d_gene) * scale + at_down, label == -1)
        z = -length * _slope((z + z_gene) * scale + at_none, label == 0)
        u = -length * _slope((u + u_gene) * scale + at_up, label == 1)
        at_down += d
        at_none += z
        at_up += u
        scale *= max(0.0, 1.0 - length * alpha)
        if scale < _SMALLEST_SCALE:
            for k in range(3):
                for j in range(n + m):
                    sums[k, j] = (sums[k, j] + share * weights[k, j]) / divisor
                    weights[k, j] *= scale
            scale, share, divisor = 1.0, 0.0, 1.0
        inverse = 1.0 / scale
        d *= inverse
        z *= inverse
        u *= inverse
        for j in range(n + m):
            down[j] += d * x[j]
            none[j] += z * x[j]
            up[j] += u * x[j]
        if t >= average_from:
            d *= -share
            z *= -share
            u *= -share
            for j in range(n + m):
                sum_down[j] += d * x[j]
                sum_none[j] += z * x[j]
                sum_up[j] += u * x[j]
            new = 1.0 / (t - average_from + 1.0)
            if new < 1.0:
                divisor /= 1.0 - new
            share += new * divisor * scale
            mean_down += (at_down - mean_down) * new
            mean_none += (at_none - mean_none) * new
            mean_up += (at_up - mean_up) * new
        t += 1.0
    intercepts[0] = at_down, at_none, at_up
    intercepts[1] = mean_down, mean_none, mean_up
    state[:] = t, scale, share, divisor
