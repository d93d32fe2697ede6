"""Scores averaged over splits: with their interval, and whether a method may be the best."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from pertscale.baselines.registry import FLOORS_ON_HALVES

#: What a score is of, whatever the split.
TABLE: Final = ["task", "setting", "context", "train_contexts"]
SCORE: Final = [*TABLE, "method", "operating_point", "level", "group", "metric"]
_FROM_ESTIMATES: Final = ["low", "high", "n_clusters"]
_FROM_RANKS: Final = ["rank", "in_best_set"]


def averaged_scores(
    means: pd.DataFrame,
    estimates: pd.DataFrame,
    ranks: pd.DataFrame,
    calibration: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Return scores with one row for all splits.

    Parameters
    ----------
    means : DataFrame
        Scores of each split that are not of single perturbations.
    estimates, ranks : DataFrame
        Of the same run; empty where it made no intervals.
    calibration : DataFrame, optional
        Of the same run; empty where it measured no replicates.

    Returns
    -------
    DataFrame
        :data:`SCORE`, and ``value``, the mean over splits; ``least`` and ``most`` of them and
        ``n_splits``; ``low, high, n_clusters`` of the interval; ``rank`` and ``in_best_set`` among
        the methods of the table; whether the metric ``can_tell`` a replicate from no knowledge.
        What is not known is NaN, or None.
    """
    known = means[means["value"].notna()]
    found = known.groupby(SCORE, sort=False, observed=True)["value"].agg(
        value="mean", least="min", most="max", n_splits="size"
    )
    found = found.join(estimates.set_index(SCORE)[_FROM_ESTIMATES])
    ranked = ranks.assign(level="overall", group="").set_index(SCORE)[_FROM_RANKS]
    found = found.join(ranked)
    found["in_best_set"] = found["in_best_set"].astype(object).where(found["rank"].notna(), None)
    found = found.reset_index()
    found["can_tell"] = None
    if calibration is not None and len(calibration):
        keys = [key for key in SCORE if key != "method"]
        scale = calibration[calibration["is_scale"]].drop_duplicates(keys).set_index(keys)
        scale = scale["can_tell"].map({"yes": True, "no": False}).astype(object)
        known = found[keys].join(scale, on=keys)["can_tell"]
        found["can_tell"] = known.where(known.notna(), None)
    return found


def of_methods(scores: pd.DataFrame) -> pd.DataFrame:
    """Leave out floors that are scored on halves, which only say how well replicates do."""
    return scores[~scores["method"].isin(FLOORS_ON_HALVES)]


def texts(averages: pd.DataFrame) -> list[str]:
    """Return each score as text: with its interval, else with its range over splits."""
    columns = (averages[name] for name in ("value", "low", "high", "least", "most"))
    return [
        with_interval(value, low, high) if np.isfinite(low) else with_range(value, least, most)
        for value, low, high, least, most in zip(*columns, strict=True)
    ]


def with_interval(value: float, low: float, high: float) -> str:
    """Return a score with its interval as text."""
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def may_be_best(averages: pd.DataFrame) -> pd.Series:
    """Mark the methods that are not worse than the best, where some other one is.

    Where all of a table may be the best, nothing is told apart, and none is marked; nor is one by a
    metric that can't tell a replicate from a method that knows nothing.
    """
    silent = averages["can_tell"].eq(other=False)
    in_set, worse = (averages["in_best_set"].eq(other=known) for known in (True, False))
    by_score = [averages[key] for key in (*TABLE, "operating_point", "level", "group", "metric")]
    return in_set & worse.groupby(by_score, observed=True).transform("any") & ~silent


def with_range(value: float, least: float, most: float) -> str:
    """Return a mean over splits as text, with the smallest and the largest where they differ."""
    text = f"{value:.3f}"
    return text if least == most else f"{text} ({least:.3f} to {most:.3f})"
