"""Floors and ceilings of a table: what its metrics can tell, and scores on that scale."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from pertscale.baselines.registry import CEILINGS, FLOORS, REPLICATE
from pertscale.evaluation.calibration import (
    at_full_depth,
    bound_discrimination_score,
    dynamic_range_fraction,
    scaled_score,
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
    found = {m: one for m, one in scored.items() if np.isfinite(one.estimate[0])}
    floors = [name for name in FLOORS if name in found]
    if not floors:
        return
    sign = 1 if better else -1
    best = max(floors, key=lambda name: sign * found[name].estimate[0])
    for positive in CEILINGS:
        for negative in floors if positive in found else ():
            pair = {name: found[name] for name in (negative, positive)}
            compared = compare_methods(pair, reference=negative, greater_is_better=better)
            row = compared.iloc[0]
            value = float(found[positive].estimate[0])
            yield {
                **where,
                **dict(zip(("operating_point", "level", "group", "metric"), key, strict=True)),
                "positive": positive,
                "negative": negative,
                "positive_value": value,
                "negative_value": float(found[negative].estimate[0]),
                "full_depth": at_full_depth(value) if undefined_counts_as_none(metric) else np.nan,
                "difference": row["difference"],
                "low": row["low"],
                "high": row["high"],
                "se": row["se"],
                "n_clusters": row["n_clusters"],
                "is_scale": positive == REPLICATE and negative == best,
                "can_tell": bool(row["low"] > 0),
                **_range(found[positive], found[negative], metric),
            }


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


def scaled(value: float, rows: list[dict[str, Any]]) -> float:
    """Return a score between floor and ceiling; NaN where the metric can't tell these apart.

    `rows` are those of :func:`calibrations`.
    """
    scale = next((row for row in rows if row["is_scale"] and row["can_tell"]), None)
    if scale is None:
        return np.nan
    return scaled_score(value, floor=scale["negative_value"], ceiling=scale["positive_value"])
