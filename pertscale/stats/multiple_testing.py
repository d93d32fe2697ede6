"""Benjamini-Hochberg: per perturbation, and over all pairs of a screen without holding them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

#: Leading bits of a float64 that number its bin: sign, exponent, four bits of the mantissa.
_BIN_SHIFT = 48
_N_BINS = (0x3FF0 << 48 >> _BIN_SHIFT) + 1  # p-values are at most 1.0


def benjamini_hochberg(p_values: np.ndarray) -> np.ndarray:
    """Adjust p-values along the last axis (SPEC B2).

    Parameters
    ----------
    p_values : ndarray (…, tests), float64
        Without NaN.

    Returns
    -------
    ndarray, float64
        ``q_(i) = min over j >= i of m / j * p_(j)``, at most 1. Memory: four times the input.
    """
    m = p_values.shape[-1]
    order = np.argsort(p_values, axis=-1)
    q = np.take_along_axis(p_values, order, axis=-1)
    q *= m / np.arange(1, m + 1)
    q = np.minimum.accumulate(q[..., ::-1], axis=-1)[..., ::-1]
    out = np.empty_like(q)
    np.put_along_axis(out, order, np.minimum(q, 1.0), axis=-1)
    return out


def screen_wide(
    read: Callable[[], Iterable[np.ndarray]], *, max_values: int = 4_000_000
) -> np.ndarray:
    """Adjust the p-values of a whole screen, which need not fit in memory.

    Parameters
    ----------
    read : callable
        Returns the p-values in pieces; called once per range of p-values that is sorted.
    max_values : int
        How many p-values may be held at once (8 bytes each, and as much again to sort).

    Returns
    -------
    ndarray (2, steps), float64
        The adjusted value as a step function of the p-value, for :func:`look_up`: the largest
        p-value of each step, ascending, and its adjusted value.
    """
    counts = np.zeros(_N_BINS, np.int64)
    for piece in read():
        counts += np.bincount(_bins(piece).ravel(), minlength=_N_BINS)
    m = int(counts.sum())
    steps: list[np.ndarray] = []
    smallest = 1.0
    for first, last in reversed(_ranges(counts, max_values)):
        values = np.sort(
            np.concatenate([p[(b >= first) & (b < last)] for p in read() for b in [_bins(p)]])
        )
        ranks = np.arange(1, len(values) + 1) + counts[:first].sum()
        q = np.minimum.accumulate((values * (m / ranks))[::-1])[::-1]
        q = np.minimum(q, smallest)
        smallest = float(q[0])
        ends = np.flatnonzero(np.append(q[1:] != q[:-1], True))  # the last p of each step
        steps.append(np.stack([values[ends], q[ends]]))
    return np.concatenate(steps[::-1], axis=1) if steps else np.empty((2, 0))


def look_up(steps: np.ndarray, p_values: np.ndarray) -> np.ndarray:
    """Return the screen-wide adjusted values of p-values that :func:`screen_wide` has seen."""
    return steps[1][np.searchsorted(steps[0], p_values)]


def _bins(p_values: np.ndarray) -> np.ndarray:
    """Monotone bin of each p-value: positive floats are ordered as their bits are."""
    bits = np.ascontiguousarray(p_values, dtype=np.float64).view(np.int64)
    return bits >> _BIN_SHIFT


def _ranges(counts: np.ndarray, max_values: int) -> list[tuple[int, int]]:
    """Cut the bins into ranges of at most `max_values` values, where a bin allows it."""
    found: list[tuple[int, int]] = []
    first, held = 0, 0
    for b in np.flatnonzero(counts):
        if held and held + counts[b] > max_values:
            found.append((first, int(b)))
            first, held = int(b), 0
        held += counts[b]
    if held:
        found.append((first, len(counts)))
    return found
