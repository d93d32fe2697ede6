"""A smooth density of counts in bins: a Poisson regression on a spline (Efron's locfdr)."""

from __future__ import annotations

from typing import Final

import numpy as np

Vector = np.ndarray

DEGREES_OF_FREEDOM: Final = 7
_POISSON_STEPS: Final = 25


def spline_density(x: Vector, y: Vector, *, degrees_of_freedom: int = DEGREES_OF_FREEDOM) -> Vector:
    """Return expected counts: a Poisson regression of `y` on a natural spline of `x`.

    Parameters
    ----------
    x : ndarray (bins,)
        Mid-points of the bins.
    y : ndarray (bins,)
        Values in each of them.
    degrees_of_freedom : int
        Of the spline, whose inner knots are at quantiles of `x`.
    """
    basis = _natural_spline(x, degrees_of_freedom)
    mu = y + 0.1
    linear = np.log(mu)
    before = _deviance(y, mu)
    for _ in range(_POISSON_STEPS):
        weight = np.sqrt(mu)
        working = (linear + (y - mu) / mu) * weight
        linear = basis @ np.linalg.lstsq(basis * weight[:, None], working, rcond=None)[0]
        mu = np.maximum(np.exp(linear), np.finfo(float).eps)
        deviance = _deviance(y, mu)
        if abs(deviance - before) / (abs(deviance) + 0.1) < 1e-8:
            break
        before = deviance
    return mu


def _deviance(y: Vector, mu: Vector) -> float:
    log = np.log(np.divide(y, mu, out=np.ones_like(mu), where=y > 0))
    return float(2 * np.sum(y * log - (y - mu)))


def _natural_spline(x: Vector, degrees_of_freedom: int) -> Vector:
    """Orthonormal basis of the natural cubic splines with inner knots at quantiles of `x`."""
    t = (x - x.min()) / (x.max() - x.min())
    knots = np.quantile(t, np.linspace(0, 1, degrees_of_freedom + 1))

    def cubic(k: int) -> Vector:
        rising = np.clip(t - knots[k], 0, None) ** 3 - np.clip(t - knots[-1], 0, None) ** 3
        return rising / (knots[-1] - knots[k])

    last = len(knots) - 2
    columns = [np.ones_like(t), t, *(cubic(k) - cubic(last) for k in range(last))]
    return np.linalg.qr(np.column_stack(columns))[0]
