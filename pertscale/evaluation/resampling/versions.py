"""Statistics of all versions of a table: as it is, resampled, and of one cluster less or alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pertscale.evaluation.resampling.draws import Draws


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

    @property
    def n_clusters(self) -> int:
        """Clusters that the method is scored on."""
        return int(self.present.sum())

    def shifted_to(self, exact: NDArray[np.float64]) -> Versions:
        """Return the same around exact values (statistic,) of the table as it is."""
        shift = np.asarray(exact, np.float64) - self.estimate
        return Versions(self.values + shift[:, None], self.n_resamples, self.present)


def totals(
    draws: Draws, perturbations: Sequence[str], sums: NDArray[Any], *, dtype: Any = np.float64
) -> NDArray[Any]:
    """Return totals of sums (perturbation, ...) over each version of the table, (version, ...).

    A statistic that is a function of totals is then known of all versions at once. With float32 as
    `dtype` the product is twice as fast; counts up to 2^24 are exact.
    """
    flat = sums.reshape(len(sums), -1)
    weights = draws.weights(perturbations).astype(dtype, copy=False)
    n, start = draws.n_clusters, 1 + draws.n_resamples
    found = np.empty((start + 2 * n, flat.shape[1]), dtype)
    found[0] = flat.sum(axis=0)
    np.matmul(weights, flat.astype(dtype, copy=False), out=found[1:start])
    alone = draws.of_each(flat, perturbations)
    found[start : start + n] = flat.sum(axis=0) - alone
    found[start + n :] = alone
    return found.reshape(len(found), *sums.shape[1:])


def versions(draws: Draws, perturbations: Sequence[str], values: NDArray[np.float64]) -> Versions:
    """Return statistics (version, statistic) as :class:`Versions`."""
    present = draws.of_each(np.ones(len(perturbations)), perturbations) > 0
    return Versions(np.ascontiguousarray(values.T), draws.n_resamples, present)


def ratios(
    draws: Draws,
    perturbations: Sequence[str],
    numerators: NDArray[np.float64],
    denominators: NDArray[np.float64],
) -> Versions:
    """Return weighted sums over weighted sums of values (perturbation, statistic).

    Weighted means have denominators of 1, or 0 for what is not counted.
    """
    above, below = (totals(draws, perturbations, x) for x in (numerators, denominators))
    nothing = np.full(above.shape, np.nan)
    return versions(
        draws, perturbations, np.divide(above, below, out=nothing, where=below > _NOTHING)
    )


#: Denominators below this are the rounding of what was left out.
_NOTHING = 1e-9


def mean_of(parts: Sequence[Versions]) -> Versions:
    """Return the mean over splits of the same statistics: of splits that define it, of one alone.

    A cluster that a split does not hold out makes no difference to it.
    """
    first = parts[0]
    stacked = np.stack([part.values for part in parts])
    n_with_all = 1 + first.n_resamples + len(first.present)
    mean = stacked.mean(axis=0)
    alone = stacked[:, :, n_with_all:]
    there = np.isfinite(alone)
    n = there.sum(axis=0)
    nothing = np.full(n.shape, np.nan)
    mean[:, n_with_all:] = np.divide(
        np.where(there, alone, 0.0).sum(axis=0), n, out=nothing, where=n > 0
    )
    present = np.logical_or.reduce([part.present for part in parts])
    return Versions(mean, first.n_resamples, present)
