"""Benjamini-Hochberg: per perturbation, and over all pairs of a screen without holding them.

Over a screen the adjusted value is a step function of the p-value. The p-values are cut into
ranges that fit in memory and can be sorted at the same time (:func:`count_p_values`,
:func:`sorted_steps`); :func:`join_steps` puts the ranges together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from pertscale.schema import Label
from pertscale.stats.differential._kernels.adjust import (
    BIN_SHIFT,
    N_BINS,
    adjust,
    collect,
    count,
    steps_of,
)
from pertscale.stats.differential._kernels.adjust import look_up as look_up_rows


def benjamini_hochberg(p_values: np.ndarray) -> np.ndarray:
    """Adjust p-values along the last axis (method B2).

    Parameters
    ----------
    p_values : ndarray (rows, tests), float64
        Without NaN.

    Returns
    -------
    ndarray (rows, tests), float64
        ``q_(i) = min over j >= i of m / j * p_(j)``, at most 1. Memory: twice the input.
    """
    out = np.empty_like(p_values)
    adjust(p_values, np.argsort(p_values, axis=None), out)
    return out


def look_up(steps: np.ndarray, p_values: np.ndarray) -> np.ndarray:
    """Return the screen-wide adjusted values of p-values (rows, tests), from the steps of all.

    Memory: twice the input.
    """
    out = np.empty_like(p_values)
    look_up_rows(p_values, np.argsort(p_values, axis=None), steps, out)
    return out


@dataclass(frozen=True)
class PValueRange:
    """`n_values` p-values from `low` up to, but not including, `high`; `below` are smaller."""

    low: float
    high: float
    below: int
    n_values: int


def count_p_values(
    pieces: Iterable[np.ndarray], *, max_values: int
) -> tuple[int, list[PValueRange]]:
    """Count p-values, and cut them into ranges of at most `max_values`.

    A range can hold more where many p-values are almost equal. Those of genes that are not
    expressed, which are 1, get a range of their own, which takes no memory.
    """
    counts = np.zeros(N_BINS, np.int64)
    for piece in pieces:
        count(piece, counts)
    below = np.concatenate([[0], np.cumsum(counts)])
    found = np.flatnonzero(counts)
    edges = [int(found[0]) if len(found) else 0]
    for b in found:
        if below[b + 1] - below[edges[-1]] > max_values and below[b] > below[edges[-1]]:
            edges.append(int(b))
    values = (np.array(edges, np.int64) << BIN_SHIFT).view(np.float64)
    bounds = below[[*edges, N_BINS]]
    ranges = [
        PValueRange(float(low), float(high), int(first), int(last - first))
        for low, high, first, last in zip(
            values, [*values[1:], np.inf], bounds[:-1], bounds[1:], strict=True
        )
    ]
    return int(below[-1]), ranges


def sorted_steps(pieces: Iterable[np.ndarray], within: PValueRange, m: int) -> np.ndarray:
    """Return the steps (2, steps) of the p-values of one range, of `m` in all.

    Memory: about three times the p-values of the range.
    """
    if within.low == 1:  # the largest: all of them are adjusted to 1
        return np.ones((2, 1))
    values = np.empty(within.n_values + 1)
    n = 0
    for piece in pieces:
        n = collect(piece, within.low, within.high, values, n)
    values = values[:n]
    values.sort()
    return steps_of(values, within.below, m)


def join_steps(ranges: Sequence[np.ndarray]) -> np.ndarray:
    """Join the steps of consecutive ranges: no step is above the steps to its right."""
    smallest = 1.0
    joined: list[np.ndarray] = []
    for values, q in reversed(ranges):
        kept = np.append(q[:-1] < smallest, np.ones(min(len(q), 1), bool))
        capped = np.stack([values[kept], np.minimum(q[kept], smallest)])
        smallest = float(capped[1, 0]) if capped.size else smallest
        joined.append(capped)
    return np.concatenate(joined[::-1], axis=1) if joined else np.empty((2, 0))


def assign_labels(q: np.ndarray, change: np.ndarray, z: np.ndarray, *, fdr: float) -> np.ndarray:
    """Classes of pairs: where ``q < fdr`` the sign of `change`, of `z` if it is 0 (method B3)."""
    labels = np.full(q.shape, Label.NON_DE, np.int8)
    changed = q < fdr
    direction = np.where(change[changed] != 0, np.sign(change[changed]), np.sign(z[changed]))
    labels[changed] = direction
    return labels
