"""Benjamini-Hochberg over sorted rows of p-values, and look-ups in the screen-wide steps."""

from __future__ import annotations

import numpy as np

from pertscale._jit import jit


@jit
def _adjust(p_values, order, out):
    n_rows, m = p_values.shape
    for row in range(n_rows):
        smallest = 1.0
        for i in range(m - 1, -1, -1):
            j = np.uint64(order[row, i])
            smallest = min(smallest, p_values[row, j] * (m / (i + 1)))
            out[row, j] = smallest


def adjust(p_values: np.ndarray, order: np.ndarray, out: np.ndarray) -> None:
    """Adjust each row: ``q_(i) = min over j >= i of m / j * p_(j)``, at most 1.

    Parameters
    ----------
    p_values : ndarray (rows, tests), float64
        Without NaN.
    order : ndarray (rows, tests), int64
        Ascending order of each row.
    out : ndarray (rows, tests), float64
        Filled.
    """
    _adjust(p_values, order, out)


@jit
def _look_up(p_values, order, ends, adjusted, out):
    n_rows, m = p_values.shape
    for row in range(n_rows):
        at = len(ends) - 1
        for i in range(m - 1, -1, -1):
            j = np.uint64(order[row, i])
            p = p_values[row, j]
            # down in growing strides to a step that ends below p, then halve
            stride = 1
            low = at - 1
            while low >= 0 and ends[np.uint64(low)] >= p:
                at = low
                stride *= 2
                low = at - stride
            low = max(low, -1)
            while at - low > 1:
                middle = (at + low) >> 1
                if ends[np.uint64(middle)] >= p:
                    at = middle
                else:
                    low = middle
            out[row, j] = adjusted[np.uint64(at)]


def look_up(p_values: np.ndarray, order: np.ndarray, steps: np.ndarray, out: np.ndarray) -> None:
    """Look p-values up in a step function: the adjusted value of the first step that ends at >= p.

    Parameters
    ----------
    p_values, order, out : ndarray (rows, tests)
        As for :func:`adjust`. Each row walks once down the steps.
    steps : ndarray (2, steps), float64
        Largest p-value of each step, ascending, and its adjusted value.
    """
    _look_up(p_values, order, steps[0], steps[1], out)
