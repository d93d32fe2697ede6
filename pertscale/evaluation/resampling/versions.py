"""Statistics of all versions of a table: as it is, resampled, and of one cluster less or alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pertscale.arguments import checked
from pertscale.errors import InputError
from pertscale.evaluation.resampling.draws import Draws
from pertscale.evaluation.resampling.intervals import Interval, bca_interval

#: Shift beyond which values of single clusters are not those of the statistic.
_INEXACT = 1e-9
#: Resamples whose weights are in double precision at a time.
_RESAMPLES_AT_ONCE = 2000


@dataclass(frozen=True, eq=False)
class Versions:
    """Some statistics of one method on a table, on each version of it.

    Attributes
    ----------
    values : ndarray (statistic, 1 + resample + 2 * cluster)
        Of the table as it is; of each resample; with each cluster left out; of each alone. NaN
        where a statistic is not defined.
    n_resamples : int
    present : ndarray (cluster,), bool
        Clusters that the method is scored on.

    Examples
    --------
    >>> names = ["GATA1", "KLF1", "HBG1"]
    >>> draws = ps.evaluation.Draws.of("errors", {name: (name,) for name in names})
    >>> found = ps.evaluation.ratios(draws, names, [[1.0], [2.0], [6.0]], np.ones((3, 1)))
    >>> found.estimate, found.left_out  # the mean of three, and of two each
    (array([3.]), array([[4. , 1.5, 3.5]]))
    """

    values: NDArray[np.float64]
    n_resamples: int
    present: NDArray[np.bool_]

    @property
    def estimate(self) -> NDArray[np.float64]:
        """Of the table as it is, (statistic,)."""
        return self.values[:, 0]

    @property
    def resamples(self) -> NDArray[np.float64]:
        """Of each resample, (statistic, resample)."""
        return self.values[:, 1 : 1 + self.n_resamples]

    @property
    def left_out(self) -> NDArray[np.float64]:
        """With each cluster left out, of those that are there, (statistic, cluster)."""
        start, n = 1 + self.n_resamples, len(self.present)
        return self.values[:, start : start + n][:, self.present]

    @property
    def alone(self) -> NDArray[np.float64]:
        """Of each cluster alone, (statistic, cluster)."""
        return self.values[:, 1 + self.n_resamples + len(self.present) :]

    def interval(self) -> Interval:
        """Return the interval of each statistic."""
        return bca_interval(self.estimate, self.resamples, self.left_out)

    @property
    def n_clusters(self) -> int:
        """Clusters that the method is scored on."""
        return int(self.present.sum())

    def shifted_to(self, exact: NDArray[np.float64]) -> Versions:
        """Return the same around exact values (statistic,) of the table as it is.

        What is far off, as areas of bins are, is not known of single clusters: it is NaN there.
        """
        shift = np.asarray(exact, np.float64) - self.estimate
        values = self.values + shift[:, None]
        inexact = np.abs(shift) > _INEXACT
        values[inexact, 1 + self.n_resamples + len(self.present) :] = np.nan
        return Versions(values, self.n_resamples, self.present)


def totals(
    draws: Draws, perturbations: Sequence[str], sums: NDArray[Any], *, dtype: Any = np.float64
) -> NDArray[Any]:
    """Return totals of sums (perturbation, ...) over each version of the table, (version, ...).

    A statistic that is a function of totals is then known of all versions at once: those of
    :class:`Versions`, of the clusters that are there. With float32 as `dtype` the product is twice
    as fast; counts up to 2^24 are exact.
    """
    flat = sums.reshape(len(sums), -1)
    present = draws.present(perturbations)
    n, start = int(present.sum()), 1 + draws.n_resamples
    weights, factors = draws.factors(perturbations, flat)
    factors = factors.astype(dtype, copy=False)
    found = np.empty((start + 2 * n, flat.shape[1]), dtype)
    found[0] = flat.sum(axis=0)
    for at in range(0, draws.n_resamples, _RESAMPLES_AT_ONCE):
        rows = weights[at : at + _RESAMPLES_AT_ONCE].astype(dtype, copy=False)
        np.matmul(rows, factors, out=found[1 + at : 1 + at + len(rows)])
    alone = draws.of_each(flat, perturbations)[present]
    found[start : start + n] = flat.sum(axis=0) - alone
    found[start + n :] = alone
    return found.reshape(len(found), *sums.shape[1:])


def versions(draws: Draws, perturbations: Sequence[str], values: NDArray[np.float64]) -> Versions:
    """Return statistics (version, statistic) of :func:`totals`, with the clusters of the table."""
    present = draws.present(perturbations)
    start, n, n_there = 1 + draws.n_resamples, draws.n_clusters, int(present.sum())
    found = np.full((values.shape[1], start + 2 * n), np.nan)
    found[:, :start] = values[:start].T
    found[:, start : start + n] = values[:1].T  # without a cluster that is not there
    found[:, start : start + n][:, present] = values[start : start + n_there].T
    found[:, start + n :][:, present] = values[start + n_there :].T
    return Versions(found, draws.n_resamples, present)


@checked
def ratios(
    draws: Draws,
    perturbations: Sequence[str],
    numerators: ArrayLike,
    denominators: ArrayLike,
) -> Versions:
    """Return weighted sums over weighted sums, on each version of a table (method N2).

    Parameters
    ----------
    draws : Draws
        Of the table that the perturbations are of.
    perturbations : sequence of str
    numerators, denominators : array (perturbation, statistic)
        Of a mean the values and 1; both are 0 for what is not counted.

    Returns
    -------
    Versions
        NaN where denominators sum up to 0.

    Raises
    ------
    InputError
        For shapes that do not fit.

    Examples
    --------
    >>> errors, of_mean = np.array([[1.0], [2.0], [3.0]]), np.array([[2.0], [2.0], [4.0]])
    >>> names = ["GATA1", "KLF1", "HBG1"]
    >>> draws = ps.evaluation.Draws.of("errors", {name: (name,) for name in names})
    >>> found = ps.evaluation.ratios(draws, names, errors, of_mean)
    >>> found.estimate, found.resamples.shape
    (array([0.75]), (1, 2000))
    """
    one, two = (np.asarray(x, np.float64) for x in (numerators, denominators))
    if one.ndim != 2 or one.shape != two.shape or len(one) != len(perturbations):
        raise InputError(
            f"numerators and denominators have the shapes {one.shape} and {two.shape} with "
            f"{len(perturbations)} perturbations; both have to be (perturbation, statistic)"
        )
    above, below = (totals(draws, perturbations, x) for x in (one, two))
    nothing = np.full(above.shape, np.nan)
    there = below > _NOTHING * below[:1]
    return versions(draws, perturbations, np.divide(above, below, out=nothing, where=there))


#: Share of all below which a denominator is the rounding of what was left out.
_NOTHING = 1e-12


def interval_of_mean(
    table: str, values: Mapping[str, float], target_genes: Mapping[str, Collection[str]]
) -> tuple[float, float]:
    """Return the interval of the mean of a value for each perturbation."""
    names = list(values)
    draws = Draws.of(table, {name: target_genes.get(name, ()) for name in names})
    column = np.array([[values[name]] for name in names])
    found = ratios(draws, names, column, np.ones(column.shape)).interval()
    return float(found.low[0]), float(found.high[0])


def mean_of(parts: Sequence[Versions]) -> Versions:
    """Return the mean over splits of the same statistics, of those in which they are defined.

    A cluster that a split does not hold out makes no difference to it.
    """
    if len(parts) == 1:
        return parts[0]
    total = np.zeros(parts[0].values.shape)
    n = np.zeros(total.shape, np.int32)
    for part in parts:
        there = np.isfinite(part.values)
        np.add(total, part.values, out=total, where=there)
        n += there
    mean = np.divide(total, n, out=np.full(total.shape, np.nan), where=n > 0)
    present = np.logical_or.reduce([part.present for part in parts])
    return Versions(mean, parts[0].n_resamples, present)
