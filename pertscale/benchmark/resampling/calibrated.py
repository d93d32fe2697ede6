"""Floors and ceilings of a table: what its metrics can tell, and scores on that scale."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pertscale.baselines.registry import CEILINGS, FLOORS, ON_HALVES, REPLICATE
from pertscale.evaluation.calibration import (
    at_full_depth,
    bound_discrimination_score,
    dynamic_range_fraction,
)
from pertscale.evaluation.expression import undefined_counts_as_none
from pertscale.evaluation.metrics import METRICS
from pertscale.evaluation.resampling.comparing import compare_methods
from pertscale.evaluation.resampling.pairs import ScoreKey
from pertscale.evaluation.resampling.versions import Versions


def calibrations(
    scored: Mapping[str, Versions], key: ScoreKey, where: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """Yield a row for each ceiling of a metric against each floor.

    Parameters
    ----------
    scored : mapping of str to Versions
        One score by method.
    key : (str, str, str, str)
        Operating point, level, group and metric.
    where : mapping
        Columns that say which table it is.
    """
    metric = key[-1]
    better = METRICS[metric].greater_is_better
    if better is None:
        return
    lifted = {m: _at_least_chance(m.removesuffix(ON_HALVES), v, metric) for m, v in scored.items()}
    found = {m: one for m, one in lifted.items() if np.isfinite(one.estimate[0])}
    floors = [name for name in FLOORS if f"{name}{ON_HALVES}" in found]
    if not floors:
        return
    sign = 1 if better else -1
    best = max(floors, key=lambda name: sign * found[f"{name}{ON_HALVES}"].estimate[0])
    for positive in CEILINGS:
        for floor in floors if positive in found else ():
            negative = f"{floor}{ON_HALVES}"
            pair = {name: found[name] for name in (negative, positive)}
            compared = compare_methods(pair, reference=negative, greater_is_better=better)
            row = compared.iloc[0]
            value = float(found[positive].estimate[0])
            yield {
                **where,
                **dict(zip(("operating_point", "level", "group", "metric"), key, strict=True)),
                "positive": positive,
                "negative": floor,
                "positive_value": value,
                "negative_value": float(found[negative].estimate[0]),
                "full_depth": at_full_depth(value) if undefined_counts_as_none(metric) else np.nan,
                "difference": row["difference"],
                "low": row["low"],
                "high": row["high"],
                "se": row["se"],
                "n_clusters": row["n_clusters"],
                "is_scale": positive == REPLICATE and floor == best,
                "can_tell": _told(row["low"]),
                **_range(found[positive], found[negative], metric),
            }


def _at_least_chance(method: str, scored: Versions, metric: str) -> Versions:
    """Return the scores of a method; those of a floor that are below guessing are as of guessing.

    Such is the correlation of no change, which is not defined, and what a mean gets by chance on a
    screen without effects.
    """
    chance, sign = METRICS[metric].no_skill, 1 if METRICS[metric].greater_is_better else -1
    if method not in FLOORS or np.isnan(chance) or sign * scored.estimate[0] >= sign * chance:
        return scored
    return replace(scored, values=np.full_like(scored.values, chance))


def _told(low: float) -> str:
    """Say whether a difference is above 0 by its interval; nothing where there is none."""
    return "" if not np.isfinite(low) else "yes" if low > 0 else "no"


def _range(positive: Versions, negative: Versions, metric: str) -> dict[str, Any]:
    """Return how well the controls are told apart, cluster by cluster."""
    better = bool(METRICS[metric].greater_is_better)
    perfect = METRICS[metric].range[1] if better else 0.0
    pos, neg = positive.alone[0], negative.alone[0]
    drf = dynamic_range_fraction(pos, neg, perfect=perfect, greater_is_better=better)
    bds, n_undefined = bound_discrimination_score(pos, neg, greater_is_better=better)
    known = drf[np.isfinite(drf)]
    return {
        "drf": float(known.mean()) if len(known) else np.nan,
        "bds": bds,
        "n_undefined": n_undefined,
    }


def scale_of(
    scored: Mapping[str, Versions], metric: str, rows: Sequence[Mapping[str, Any]]
) -> tuple[float, float]:
    """Return floor and ceiling of a metric; NaN where it can't tell these apart.

    The floor is that of all cells, as the scores are that are put on the scale. `rows` are those of
    :func:`calibrations`.
    """
    scale = next((row for row in rows if row["is_scale"] and row["can_tell"] == "yes"), None)
    sign = 1 if METRICS[metric].greater_is_better else -1
    floors = [
        float(_at_least_chance(m, scored[m], metric).estimate[0]) for m in FLOORS if m in scored
    ]
    floors = [value for value in floors if np.isfinite(value)]
    if scale is None or not floors:
        return np.nan, np.nan
    floor, ceiling = sign * max(sign * value for value in floors), scale["positive_value"]
    return (floor, ceiling) if sign * (ceiling - floor) > 0 else (np.nan, np.nan)
