"""Which differences between methods are real, and which ranks are (methods N5, N6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

from pertscale.arguments import checked
from pertscale.errors import ArgumentError
from pertscale.evaluation.resampling.intervals import FEWEST, bca_p_values
from pertscale.evaluation.resampling.versions import Versions

#: Family-wise error at which a method is told from the best.
ALPHA: Final = 0.05
#: Relative difference below which two scores are the same.
_ROUNDING: Final = 1e-9
_COMPARISON: Final = (
    "method",
    "reference",
    "difference",
    "low",
    "high",
    "se",
    "p_value",
    "p_holm",
    "share_better",
    "n_clusters",
)
_RANK: Final = ("method", "rank", "low", "high", "p_best", "in_best_set")


@checked
def compare_methods(
    scored: Mapping[str, Versions], *, reference: str, greater_is_better: bool
) -> pd.DataFrame:
    """Compare each method with a reference, by one statistic of the same table.

    Parameters
    ----------
    scored : mapping of str to Versions
        By method; one statistic each, from the same draws.
    reference : str
        Method that the others are compared with.
    greater_is_better : bool
        The sign of differences is such that positive is better.

    Returns
    -------
    DataFrame
        A row per other method: ``method, reference, difference, low, high, se, p_value, p_holm,
        share_better, n_clusters``. The interval is of 95 % (BCa), and the two-sided p-value 1 less
        the level at which it just leaves out 0; `p_holm` is adjusted over the methods;
        `share_better` is that of the clusters on which the method is better, ties half. NaN below 5
        clusters, and for methods of which the statistic is not defined.

    Raises
    ------
    ArgumentError
        If the reference is not there.

    References
    ----------
    Holm (1979), https://www.jstor.org/stable/4615733

    Examples
    --------
    >>> errors = {"mean": np.linspace(2.0, 3.0, 20), "mine": np.linspace(1.5, 2.9, 20)}
    >>> names = [f"GENE{i}" for i in range(20)]
    >>> draws = ps.evaluation.Draws.of("errors", {name: (name,) for name in names})
    >>> ones = np.ones((20, 1))
    >>> scored = {
    ...     method: ps.evaluation.ratios(draws, names, x[:, None], ones)
    ...     for method, x in errors.items()
    ... }
    >>> table = ps.evaluation.compare_methods(scored, reference="mean", greater_is_better=False)
    >>> table[["method", "difference", "share_better"]].round(2)
      method  difference  share_better
    0   mine         0.3           1.0
    """
    if reference not in scored:
        raise ArgumentError(f"reference={reference!r} is not among {', '.join(scored)}")
    others = [method for method in scored if method != reference]
    sign = 1 if greater_is_better else -1
    rows = [
        _compared(m, reference, _difference(scored[m], scored[reference], sign)) for m in others
    ]
    table = pd.DataFrame(rows, columns=list(_COMPARISON))
    return table.assign(p_holm=holm(table["p_value"].to_numpy(float)))


def _difference(one: Versions, two: Versions, sign: int) -> Versions:
    """Return the difference; what is within rounding of two scores is none."""
    size = np.maximum(np.abs(one.values), np.abs(two.values))
    with np.errstate(invalid="ignore"):
        values = sign * (one.values - two.values)
        values[np.abs(values) <= _ROUNDING * size] = 0.0
    return Versions(values, one.n_resamples, one.present | two.present)


def _compared(method: str, reference: str, difference: Versions) -> tuple[object, ...]:
    found = difference.interval()
    p_values = bca_p_values(difference.estimate, difference.resamples, difference.left_out)
    alone = difference.alone[0]
    alone = alone[np.isfinite(alone)]
    share = float(((alone > 0) + (alone == 0) / 2).mean()) if len(alone) else np.nan
    return (
        method,
        reference,
        float(difference.estimate[0]),
        float(found.low[0]),
        float(found.high[0]),
        float(found.se[0]),
        float(p_values[0]),
        np.nan,
        share,
        int(found.n_clusters[0]),
    )


def holm(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return p-values adjusted for their number by Holm's step-down; NaN are left out."""
    adjusted = np.full(len(p_values), np.nan)
    known = np.flatnonzero(np.isfinite(p_values))
    order = known[np.argsort(p_values[known], kind="stable")]
    steps = np.arange(len(order), 0, -1) * p_values[order]
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return adjusted


@checked
def rank_methods(
    scored: Mapping[str, Versions], *, greater_is_better: bool, references: Sequence[str] = ()
) -> pd.DataFrame:
    """Rank methods by one statistic of the same table, and say which may be the best.

    Parameters
    ----------
    scored : mapping of str to Versions
        By method; one statistic each, from the same draws.
    greater_is_better : bool
    references : sequence of str
        Methods that mark the scale, such as the oracle; they are left out.

    Returns
    -------
    DataFrame
        A row per method, the best first: ``method, rank, low, high, p_best, in_best_set``. `low`
        and `high` are the 2.5 and 97.5 % quantiles of the rank over the resamples, `p_best` the
        share of these in which the method is best; equal methods share a rank. `in_best_set` is
        whether the method is not worse than the best, by :func:`compare_methods` at an adjusted
        level of 5 %. Below 5 clusters nothing is told apart: the bounds and `p_best` are NaN, and
        `in_best_set` is None. Methods of which the statistic is not defined are left out.

    Examples
    --------
    >>> errors = {"mean": np.linspace(2.0, 3.0, 20), "mine": np.linspace(1.5, 2.9, 20)}
    >>> names = [f"GENE{i}" for i in range(20)]
    >>> draws = ps.evaluation.Draws.of("errors", {name: (name,) for name in names})
    >>> ones = np.ones((20, 1))
    >>> scored = {
    ...     method: ps.evaluation.ratios(draws, names, x[:, None], ones)
    ...     for method, x in errors.items()
    ... }
    >>> ps.evaluation.rank_methods(scored, greater_is_better=False)
      method  rank  low  high  p_best  in_best_set
    0   mine   1.0  1.0   1.0     1.0         True
    1   mean   2.0  2.0   2.0     0.0        False
    """
    sign = 1 if greater_is_better else -1
    methods = [
        method
        for method, one in scored.items()
        if method not in references and np.isfinite(one.estimate[0])
    ]
    if not methods:
        return pd.DataFrame([], columns=list(_RANK))
    estimates = -sign * np.array([scored[m].estimate[0] for m in methods])
    ranks = rankdata(estimates)
    order = np.argsort(ranks, kind="stable")
    best = methods[int(order[0])]
    n_clusters = max(scored[m].n_clusters for m in methods)
    table = pd.DataFrame({"method": methods, "rank": ranks})
    if n_clusters < FEWEST:
        table = table.assign(low=np.nan, high=np.nan, p_best=np.nan, in_best_set=None)
        return table.iloc[order].reset_index(drop=True)
    values = -sign * np.stack([scored[m].resamples[0] for m in methods])
    defined = np.isfinite(values)
    values = np.where(defined, values, np.inf)[:, defined.any(axis=0)]  # undefined ones are last
    of_resamples = rankdata(values, axis=0)
    least = rankdata(values, axis=0, method="min") == 1
    table["low"], table["high"] = np.quantile(of_resamples, [0.025, 0.975], axis=1)
    table["p_best"] = (least / least.sum(axis=0)).mean(axis=1)
    mine = {method: scored[method] for method in methods}
    worse = compare_methods(mine, reference=best, greater_is_better=greater_is_better)
    told_apart = worse[(worse["difference"] < 0) & (worse["p_holm"] <= ALPHA)]
    table["in_best_set"] = ~table["method"].isin(told_apart["method"])
    return table.iloc[order].reset_index(drop=True)
