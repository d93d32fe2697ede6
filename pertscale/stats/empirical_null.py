"""The empirical null and the local false discovery rate (method J2; Efron's locfdr), on arrays.

Values are counted in bins; a Poisson regression on a natural spline gives their density f; a normal
null is fitted to the centre; the local false discovery rate is the share ``p0 f0 / f``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from scipy.special import ndtr, ndtri

from pertscale.arguments import checked
from pertscale.errors import ArgumentError, InputError
from pertscale.stats.spline_density import DEGREES_OF_FREEDOM, spline_density

Null = Literal["maximum_likelihood", "central_matching", "theoretical"]
Vector = np.ndarray

N_BINS: Final = 119
#: Share of the values on either side that central matching leaves out.
_CENTRAL: Final = 0.25
#: Above this many values the likelihood is taken over one standard deviation.
_MANY: Final = 500_000
#: A misfit of the density above this is worth a note.
_MISFIT: Final = 1.5
#: Spreads between which the steps of the likelihood from N(0, 1) converge.
_NARROWEST, _WIDEST = 0.002, 2.0
_NEWTON_STEPS: Final = 35


@dataclass(frozen=True, kw_only=True)
class NormalNull:
    """A normal null ``N(delta, sigma)`` that a share `p0` of the values comes from.

    `p0` may exceed 1. Standard errors are NaN where the method has none.
    """

    delta: float
    sigma: float
    p0: float
    se_delta: float = np.nan
    se_sigma: float = np.nan
    se_p0: float = np.nan


@dataclass(frozen=True, eq=False, kw_only=True)
class LocalFdr:
    """Null, density and local false discovery rate of some values.

    Attributes
    ----------
    null : NormalNull
    centers, counts : ndarray (bins,)
        Mid-points of the bins, and values in them.
    density, null_density : ndarray (bins,)
        Expected counts of all values, and of the null scaled to the same sum (not yet by p0).
    fdr : ndarray (bins,)
        Local false discovery rate.
    misfit : float
        Mean squared Pearson residual of the density.
    notes : tuple of str
        What a reader should know before trusting it.

    References
    ----------
    Efron (2004), https://doi.org/10.1198/016214504000000089
    Efron (2007), https://doi.org/10.1198/016214506000001211

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> values = np.concatenate([random.normal(size=2000), random.normal(4, 1, size=200)])
    >>> fit = ps.stats.local_fdr(values)
    >>> lower, upper = fit.thresholds(values, level=0.05)
    >>> round(upper, 1)
    3.3
    """

    null: NormalNull
    centers: Vector
    counts: Vector
    density: Vector
    null_density: Vector
    fdr: Vector
    misfit: float
    notes: tuple[str, ...]

    def of(self, values: Vector) -> Vector:
        """Return the local false discovery rate of values, by linear interpolation of the bins."""
        return np.interp(values, self.centers, self.fdr)

    def thresholds(
        self, values: Vector, *, level: float = 0.05, kind: Literal["local", "tail"] = "local"
    ) -> tuple[float, float]:
        """Return the lower and the upper threshold: values beyond them are not null (method J3).

        Parameters
        ----------
        values : ndarray (n,)
            The values that the rate was estimated from, in their order.
        level : float
        kind : {'local', 'tail'}
            'local': on each side of the null's centre the value whose local rate is closest to
            `level`, as the second paper's code has it. 'tail': where the rate of all values beyond
            drops to `level`, as its text has it.

        Returns
        -------
        tuple of float
            Infinite on a side where nothing reaches `level`.
        """
        if kind == "local":
            fdr = self.of(values)
            return (
                _closest(values, fdr, values < self.null.delta, level, -np.inf),
                _closest(values, fdr, values > self.null.delta, level, np.inf),
            )
        if kind != "tail":
            raise ArgumentError(f"kind={kind!r} is not one of local, tail")
        half = (self.centers[1] - self.centers[0]) / 2
        null = self.null.p0 * self.null_density
        left = np.flatnonzero(
            (np.cumsum(null) <= level * np.cumsum(self.density)) & (self.centers < self.null.delta)
        )
        right = np.flatnonzero(
            (np.cumsum(null[::-1]) <= level * np.cumsum(self.density[::-1]))[::-1]
            & (self.centers > self.null.delta)
        )
        return (
            float(self.centers[left[-1]] + half) if len(left) else -np.inf,
            float(self.centers[right[0]] - half) if len(right) else np.inf,
        )


def _closest(values: Vector, fdr: Vector, side: Vector, level: float, nothing: float) -> float:
    """Return the value of one side whose rate is closest to `level`, the first of several."""
    mine = np.flatnonzero(side)
    if not len(mine) or fdr[mine].min() > level:
        return nothing
    return float(values[mine[np.argmin(np.abs(fdr[mine] - level))]])


@checked
def local_fdr(values: Vector, *, null: Null = "maximum_likelihood") -> LocalFdr:
    """Fit the null and the density of some values (method J2).

    Parameters
    ----------
    values : ndarray (n,)
        Finite, most of them from the null; of any location and scale, which the results have too.
    null : {'maximum_likelihood', 'central_matching', 'theoretical'}
        How the null is found: a normal truncated to the centre of the values, by maximum likelihood
        (the default of locfdr, and the paper's); a parabola through the logarithm of the central
        density; or N(0, 1).

    Returns
    -------
    LocalFdr
        Memory: a few copies of the values.

    Raises
    ------
    InputError
        If there are too few different values, or no null can be fitted.
    ArgumentError
        For an unknown `null`.

    References
    ----------
    Efron (2004), https://doi.org/10.1198/016214504000000089
    Efron (2007), https://doi.org/10.1198/016214506000001211

    Examples
    --------
    >>> values = np.concatenate([np.random.default_rng(0).normal(size=2000), np.full(40, 6.0)])
    >>> fit = ps.stats.local_fdr(values)
    >>> bool(abs(fit.null.sigma - 1) < 0.1), fit.of([0.0, 6.0]).round(1)
    (True, array([1., 0.]))
    """
    values = np.asarray(values, np.float64).ravel()
    if not np.isfinite(values).all():
        raise InputError(
            f"{int((~np.isfinite(values)).sum())} of {len(values)} values are not finite; the "
            "local false discovery rate needs finite ones"
        )
    if len(values) < N_BINS or values.min() == values.max():
        raise InputError(
            f"an empirical null needs at least {N_BINS} values that differ; there are "
            f"{len(values)}, {len(np.unique(values))} different ones"
        )
    if null not in _NULLS:
        raise ArgumentError(f"null={null!r} is not one of {', '.join(_NULLS)}")
    centers, counts = _bins(values)
    density = spline_density(centers, counts)
    misfit = float(
        np.sum((counts - density)[1:-1] ** 2 / (density + 1)[1:-1])
        / (N_BINS - 2 - DEGREES_OF_FREEDOM)
    )
    fitted = _NULLS[null](values, centers, density)
    null_density = _normal((centers - fitted.delta) / fitted.sigma) / fitted.sigma
    null_density *= density.sum() / null_density.sum()
    return LocalFdr(
        null=fitted,
        centers=centers,
        counts=counts,
        density=density,
        null_density=null_density,
        fdr=_fdr(centers, density, null_density, fitted),
        misfit=misfit,
        notes=_notes(misfit, len(values), null),
    )


def _notes(misfit: float, n: int, null: str) -> tuple[str, ...]:
    notes = []
    if misfit > _MISFIT:
        notes.append(
            f"the smooth density misfits the counts (mean squared residual {misfit:.1f}, about 1 "
            "is expected): values are correlated, or the null is narrower than a few bins"
        )
    if n > _MANY and null == "maximum_likelihood":
        notes.append(f"more than {_MANY:,} values: the null was fitted within one standard error")
    return tuple(notes)


# --- the density --------------------------------------------------------------------------------


def _bins(values: Vector) -> tuple[Vector, Vector]:
    """Count values in right-closed bins, with the small tolerance that R's breaks have."""
    edges = np.linspace(values.min(), values.max(), N_BINS + 1)
    tolerance = 1e-7 * np.median(np.diff(edges))
    shifted = edges + tolerance
    shifted[0] = edges[0] - tolerance
    at = np.clip(np.searchsorted(shifted, values, side="left") - 1, 0, N_BINS - 1)
    return (edges[1:] + edges[:-1]) / 2, np.bincount(at, minlength=N_BINS).astype(float)


def _fdr(x: Vector, density: Vector, null_density: Vector, null: NormalNull) -> Vector:
    """Rate per bin; 1 in the centre, and between the outermost bins of either side that have 1."""
    fdr = np.minimum(null.p0 * null_density / density, 1.0)
    full = x[fdr == 1]
    left, right = full[full <= null.delta], full[full >= null.delta]
    low = left.min() if len(left) else null.delta
    high = right.max() if len(right) else null.delta
    fdr[(x >= low) & (x <= high)] = 1.0
    fdr[np.abs(x - null.delta) <= null.sigma] = 1.0
    return fdr


def _normal(x: Vector | float) -> Vector:
    """Return the standard normal density; SciPy's takes half a second to import."""
    return np.exp(-np.square(x) / 2) / np.sqrt(2 * np.pi)


# --- nulls --------------------------------------------------------------------------------------


def _theoretical(values: Vector, x: Vector, density: Vector) -> NormalNull:
    """N(0, 1), its share from the central bins."""
    central = _central(values, x)
    null = _normal(x)
    if not null[central].sum() > 0:
        raise InputError(
            "no theoretical null: N(0, 1) is not where most of the values are, or they fill less "
            "than a bin; null='maximum_likelihood' finds a null of their own centre and width"
        )
    null *= density.sum() / null.sum()
    return NormalNull(delta=0.0, sigma=1.0, p0=float(density[central].sum() / null[central].sum()))


def _central_matching(values: Vector, x: Vector, density: Vector) -> NormalNull:
    """Fit a parabola to the logarithm of the density between the quartiles."""
    central = _central(values, x)
    peak = x[np.argmax(density)]
    bin_width = x[1] - x[0]
    away = (x - peak) / bin_width
    terms = np.column_stack([np.ones_like(x), away, away**2])
    coefficients = np.linalg.lstsq(terms[central], np.log(density[central]), rcond=None)[0]
    if central.sum() < 3 or not coefficients[2] < 0:
        raise InputError(
            "no null by central matching: the logarithm of the density is not curved downwards "
            "between the quartiles; use null='maximum_likelihood'"
        )
    null = np.exp(terms @ coefficients)
    return NormalNull(
        delta=float(peak - bin_width * coefficients[1] / (2 * coefficients[2])),
        sigma=float(bin_width / np.sqrt(-2 * coefficients[2])),
        p0=float(null.sum() / density.sum()),
    )


def _central(values: Vector, x: Vector) -> Vector:
    low, high = np.quantile(values, [_CENTRAL, 1 - _CENTRAL])
    return (x > low) & (x < high)


def _maximum_likelihood(values: Vector, x: Vector, density: Vector) -> NormalNull:
    """Fit a truncated normal twice, the second time around the centre that the first one found.

    The steps start from N(0, 1): values that lie elsewhere, or are far wider or narrower, are
    standardised by median and quartiles. Those near it are taken unchanged, as locfdr does, since
    its steps end with an error of about 1e-6 that depends on the start.
    """
    width = 4.3 * np.exp(-0.26 * np.log10(len(values)))
    median = float(np.median(values))
    low, high = np.quantile(values, [0.25, 0.75])
    spread = float((high - low) / (2 * ndtri(0.75)))
    if not spread > 0:
        raise InputError(
            "no null by maximum likelihood: half of the values are the same; leave out genes that "
            "are not expressed"
        )
    if len(values) > _MANY:
        width = 1.0
    if abs(median) <= 1 and _NARROWEST <= spread <= _WIDEST:
        return _twice_truncated(values, median, width, spread)
    null = _twice_truncated((values - median) / spread, 0.0, width, 1.0)
    return NormalNull(
        delta=median + spread * null.delta,
        sigma=spread * null.sigma,
        p0=null.p0,
        se_delta=spread * null.se_delta,
        se_sigma=spread * null.se_sigma,
        se_p0=null.se_p0,
    )


def _twice_truncated(values: Vector, median: float, width: float, spread: float) -> NormalNull:
    first = _truncated_normal(values, median, width * spread, 0.0, 1.0)
    return _truncated_normal(values, first.delta, width * first.sigma, first.delta, first.sigma)


def _truncated_normal(
    values: Vector, center: float, half_width: float, delta: float, sigma: float
) -> NormalNull:
    """Fit N(delta, sigma) truncated to an interval, by Newton steps in its natural parameters."""
    low, high = center - half_width, center + half_width
    inside = values[(values >= low) & (values <= high)]
    if len(inside) < 3 or inside.min() == inside.max():
        raise _no_null()
    found = np.array([inside.mean(), np.mean(inside**2)])
    for step_number in range(1, _NEWTON_STEPS + 1):
        beta = np.array([delta / sigma**2, -0.5 / sigma**2])
        moments = _moments((low - delta) / sigma, (high - delta) / sigma)
        expected, covariance = _sufficient(moments, delta, sigma)
        with np.errstate(all="ignore"):
            try:
                step = np.linalg.solve(covariance, found - expected)
            except np.linalg.LinAlgError:
                raise _no_null() from None
        step /= 1 + 1 / step_number**2
        new = beta + step
        if new[1] > 0:
            new = beta + 0.1 * step
        if not np.isfinite(new).all() or new[1] >= 0:
            raise _no_null()
        delta, sigma = float(-new[0] / (2 * new[1])), float(1 / np.sqrt(-2 * new[1]))
        if np.hypot(*(new - beta)) < 1e-5:
            break
    inside_share = ndtr((high - delta) / sigma) - ndtr((low - delta) / sigma)
    p0 = len(inside) / len(values) / inside_share
    null = NormalNull(delta=delta, sigma=sigma, p0=float(p0))
    return _with_errors(null, inside_share, moments, covariance, len(inside), len(values))


def _no_null() -> InputError:
    return InputError(
        "no null by maximum likelihood: the centre of the values is not like a normal; look at "
        "their histogram, or use null='central_matching'"
    )


def _moments(low: float, high: float) -> Vector:
    """Integrals of 1, x, …, x⁴ times the standard normal density from `low` to `high`."""
    at_low, at_high = _normal(low), _normal(high)
    moments = np.array([ndtr(high) - ndtr(low), at_low - at_high, 0.0, 0.0, 0.0])
    for k in range(2, 5):
        edge = low ** (k - 1) * at_low - high ** (k - 1) * at_high
        moments[k] = (k - 1) * moments[k - 2] + edge
    return moments


def _sufficient(moments: Vector, delta: float, sigma: float) -> tuple[Vector, Vector]:
    """Mean and covariance of (z, z²) under the truncated normal."""
    m = moments / moments[0]
    powers = np.array(
        [
            np.dot(_BINOMIAL[k], [delta ** (k - i) * sigma**i * m[i] for i in range(k + 1)])
            for k in range(5)
        ]
    )
    expected = powers[1:3]
    covariance = np.array([[powers[2], powers[3]], [powers[3], powers[4]]])
    return expected, covariance - np.outer(expected, expected)


_BINOMIAL: Final = ([1], [1, 1], [1, 2, 1], [1, 3, 3, 1], [1, 4, 6, 4, 1])


def _with_errors(
    null: NormalNull, share: float, moments: Vector, covariance: Vector, n_inside: int, n: int
) -> NormalNull:
    """Add standard errors by the delta method; moments and covariance are of the last step."""
    sigma, p0 = null.sigma, null.p0
    jacobian = sigma**2 * np.array([[1, 2 * null.delta], [0, sigma]])
    of_null = jacobian @ np.linalg.inv(covariance) @ jacobian.T / n_inside
    gradient = np.array([moments[1], moments[2] - moments[0]]) / share / sigma
    inside = p0 * share
    of_p0 = inside * (1 - inside) / n / share**2 + p0**2 * gradient @ of_null @ gradient
    return replace(
        null,
        se_delta=float(of_null[0, 0] ** 0.5),
        se_sigma=float(of_null[1, 1] ** 0.5),
        se_p0=float(of_p0**0.5),
    )


_NULLS: Final[dict[str, Callable[[Vector, Vector, Vector], NormalNull]]] = {
    "maximum_likelihood": _maximum_likelihood,
    "central_matching": _central_matching,
    "theoretical": _theoretical,
}
