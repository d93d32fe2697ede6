"""Intervals of a statistic from its resamples: bias-corrected and accelerated (method N3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import t as student

from pertscale.arguments import checked
from pertscale.errors import InputError

#: Clusters below which there is no interval.
FEWEST: Final = 5
_LEVEL: Final = 0.95
#: Share of the resamples in which a statistic has to be defined.
_DEFINED: Final = 0.5
#: Relative difference up to which a resample is the table again, in another order.
_ROUNDING: Final = 1e-12


@dataclass(frozen=True, eq=False)
class Interval:
    """Intervals of some statistics.

    Attributes
    ----------
    low, high : ndarray (statistic,)
        NaN where there is none.
    se : ndarray (statistic,)
        Standard deviation of the resamples.
    n_clusters : ndarray (statistic,)
        Clusters that make a difference to it, as those without any pair of a class do not; all,
        where none does.

    Examples
    --------
    >>> names = [f"GENE{i}" for i in range(10)]
    >>> draws = ps.evaluation.Draws.of("errors", {name: (name,) for name in names})
    >>> mean = ps.evaluation.ratios(draws, names, np.arange(10.0)[:, None], np.ones((10, 1)))
    >>> found = ps.evaluation.bca_interval(mean.estimate, mean.resamples, mean.left_out)
    >>> bool(found.low[0] < 4.5 < found.high[0])
    True
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    se: NDArray[np.float64]
    n_clusters: NDArray[np.intp]


@checked
def bca_interval(
    values: ArrayLike, resamples: ArrayLike, left_out: ArrayLike, *, level: float = _LEVEL
) -> Interval:
    """Return bias-corrected and accelerated bootstrap intervals, widened for few clusters.

    Resamples of n clusters vary by n − 1 over n too little, and their quantiles are those of a
    normal where n clusters have those of Student's t. So the quantiles that are taken are not 2.5
    and 97.5 % but, for 20 clusters, 1.6 and 98.4 %: :func:`expanded_level`. Without that, intervals
    of 20 clusters hold the truth in 90 to 92 % of the cases.

    Parameters
    ----------
    values : array (statistic,)
        Of the data.
    resamples : array (statistic, resample)
        The same of each resample. Those that are NaN, as where a class is not drawn at all, are
        left out; where more than half are, there is no interval.
    left_out : array (statistic, cluster)
        The same with each cluster left out, for the acceleration.
    level : float
        How often an interval is to hold the truth.

    Returns
    -------
    Interval
        NaN for fewer than 5 clusters that make a difference to a statistic. One that is the same in
        all resamples has an interval without width.

    Raises
    ------
    InputError
        For shapes that do not fit.

    References
    ----------
    Efron (1987), https://doi.org/10.1080/01621459.1987.10478410
    Hesterberg (2015), https://doi.org/10.1080/00031305.2015.1089789

    Examples
    --------
    >>> x = np.random.default_rng(0).exponential(size=50)
    >>> draws = np.random.default_rng(1).integers(0, 50, (2000, 50))
    >>> left_out = (x.sum() - x) / 49
    >>> found = ps.evaluation.bca_interval([x.mean()], x[draws].mean(axis=1)[None], left_out[None])
    >>> found.low.round(2), found.high.round(2)
    (array([0.86]), array([1.5]))
    """
    found = _Resampled.of(values, resamples, left_out)
    low, high = np.full((2, len(found.se)), np.nan)
    rows = found.usable
    for bound, side in ((low, -1), (high, 1)):
        shift = found.bias + side * -_quantile((1 - level) / 2, found.n_clusters[rows])
        at = ndtr(found.bias + shift / (1 - found.acceleration * shift))
        bound[rows] = _quantiles(found.ordered, found.n_defined, at)
    return Interval(low, high, found.se, found.n_clusters)


def bca_p_values(
    values: ArrayLike, resamples: ArrayLike, left_out: ArrayLike
) -> NDArray[np.float64]:
    """Return two-sided p-values of 0: 1 less the level at which an interval just leaves it out.

    Parameters are those of :func:`bca_interval`. NaN where there is no interval.
    """
    found = _Resampled.of(values, resamples, left_out)
    p_values, rows = np.full(len(found.se), np.nan), found.usable
    below = (found.ordered < 0).sum(axis=1)
    equal = (found.ordered == 0).sum(axis=1)
    off = ndtri(_share(below, equal, found.n_defined)) - found.bias
    with np.errstate(divide="ignore"):
        z = off / (1 + found.acceleration * off) - found.bias
    z = np.where(1 + found.acceleration * off > 0, z, np.inf)
    n = found.n_clusters[rows]
    p_values[rows] = 2 * student.sf(np.abs(z) * np.sqrt((n - 1) / n), n - 1)
    p_values[rows[equal == found.n_defined]] = 1.0
    return p_values


@dataclass(frozen=True, eq=False)
class _Resampled:
    """What intervals and p-values are made of.

    Attributes
    ----------
    se, n_clusters : ndarray (statistic,)
    usable : ndarray of intp, (row,)
        Statistics that have an interval, which the other attributes are of.
    ordered : ndarray (row, resample)
        Ascending, those that are not defined last.
    n_defined : ndarray (row,)
    bias, acceleration : ndarray (row,)
    """

    se: NDArray[np.float64]
    n_clusters: NDArray[np.intp]
    usable: NDArray[np.intp]
    ordered: NDArray[np.float64]
    n_defined: NDArray[np.intp]
    bias: NDArray[np.float64]
    acceleration: NDArray[np.float64]

    @classmethod
    def of(cls, values: ArrayLike, resamples: ArrayLike, left_out: ArrayLike) -> _Resampled:
        value, many, without = (np.asarray(a, np.float64) for a in (values, resamples, left_out))
        if value.ndim != 1 or many.shape[:1] != value.shape or without.shape[:1] != value.shape:
            raise InputError(
                f"values, resamples and left_out have the shapes {value.shape}, {many.shape} and "
                f"{without.shape}; needed are (statistic,), (statistic, resample) and (statistic, "
                "cluster)"
            )
        defined = np.isfinite(many)
        n_defined, scale = defined.sum(axis=1), np.abs(value[:, None])
        with np.errstate(invalid="ignore"):
            off = many - value[:, None]
            equal = np.abs(off) <= _ROUNDING * scale
            matters = ~(np.abs(without - value[:, None]) <= _ROUNDING * scale)
        constant = equal.sum(axis=1) == n_defined
        n_clusters = np.where(constant, without.shape[1], matters.sum(axis=1))
        enough = (n_defined > _DEFINED * many.shape[1]) & (n_defined > 1)
        rows = np.flatnonzero(enough & np.isfinite(value) & (n_clusters >= FEWEST))
        se = np.full(len(value), np.nan)
        se[rows] = np.nanstd(np.where(defined, many, np.nan)[rows], axis=1, ddof=1)
        below = ((off < 0) & ~equal).sum(axis=1)
        return cls(
            se=se,
            n_clusters=n_clusters,
            usable=rows,
            ordered=np.sort(np.where(defined, many, np.inf)[rows], axis=1),
            n_defined=n_defined[rows],
            bias=ndtri(_share(below[rows], equal.sum(axis=1)[rows], n_defined[rows])),
            acceleration=_acceleration(without[rows]),
        )


def _share(
    below: NDArray[np.intp], equal: NDArray[np.intp], n: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Return the share of resamples below, ties half; never none nor all."""
    return np.asarray(np.clip((below + equal / 2) / n, 0.5 / n, 1 - 0.5 / n))


def _quantile(share: float, n: Any) -> Any:
    """Return the quantile of resamples of `n` clusters that has the share of Student's t."""
    return student.ppf(share, n - 1) * np.sqrt(n / (n - 1))


def expanded_level(n: int, *, level: float = _LEVEL) -> float:
    """Return the share of the resamples that an interval of `n` clusters spans (method N3)."""
    return float(1 - 2 * ndtr(_quantile((1 - level) / 2, n)))


def _acceleration(left_out: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the acceleration (statistic,); 0 where no cluster makes a difference."""
    with np.errstate(invalid="ignore"):
        there = np.isfinite(left_out)
        n = np.maximum(there.sum(axis=1), 1)
        kept = np.where(there, left_out, 0.0)
        influence = np.where(there, (kept.sum(axis=1) / n)[:, None] - left_out, 0.0)
    scale = np.abs(influence).max(axis=1, keepdims=True)  # the cube of small ones would vanish
    influence = np.divide(influence, scale, out=np.zeros_like(influence), where=scale > 0)
    cubes, squares = (influence**3).sum(axis=1), (influence**2).sum(axis=1)
    zero = np.zeros(len(cubes))
    return np.asarray(np.divide(cubes, 6 * squares**1.5, out=zero, where=squares > 0))


def _quantiles(
    ordered: NDArray[np.float64], n: NDArray[np.intp], at: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return a quantile of each row of ascending values, of which the first `n` are defined."""
    place = np.clip(at, 0, 1) * (n - 1)
    below = np.minimum(place.astype(np.intp), n - 1)
    row = np.arange(len(ordered))
    one, two = ordered[row, below], ordered[row, np.minimum(below + 1, n - 1)]
    share = place - below
    return np.where(share >= 0.5, two - (two - one) * (1 - share), one + (two - one) * share)
