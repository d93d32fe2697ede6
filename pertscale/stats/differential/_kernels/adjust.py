"""Benjamini-Hochberg: over sorted rows of p-values, over a screen in ranges, and look-ups."""

from __future__ import annotations

import numpy as np

from pertscale._jit import jit


@jit
def _adjust(p_values, order, out):
    n_rows, m = p_values.shape
    flat, flat_out = p_values.reshape(-1), out.reshape(-1)
    left = np.full(n_rows, m)
    smallest = np.ones(n_rows)
    for i in range(len(order) - 1, -1, -1):
        j = np.uint64(order[i])
        row = np.uint64(j // np.uint64(m))
        smallest[row] = min(smallest[row], flat[j] * (m / left[row]))
        left[row] -= 1
        flat_out[j] = smallest[row]


def adjust(p_values: np.ndarray, order: np.ndarray, out: np.ndarray) -> None:
    """Adjust each row: ``q_(i) = min over j >= i of m / j * p_(j)``, at most 1.

    Parameters
    ----------
    p_values : ndarray (rows, tests), float64
        Without NaN; contiguous.
    order : ndarray (rows * tests,), int64
        Ascending order of all of them.
    out : ndarray (rows, tests), float64
        Filled; contiguous.
    """
    _adjust(p_values, order, out)


@jit
def _look_up(p_values, order, ends, adjusted, out):
    flat, flat_out = p_values.reshape(-1), out.reshape(-1)
    at = len(ends) - 1
    for i in range(len(order) - 1, -1, -1):
        j = np.uint64(order[i])
        p = flat[j]
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
        flat_out[j] = adjusted[np.uint64(at)]


def look_up(p_values: np.ndarray, order: np.ndarray, steps: np.ndarray, out: np.ndarray) -> None:
    """Look p-values up in a step function: the adjusted value of the first step that ends at >= p.

    Parameters
    ----------
    p_values, order, out : ndarray
        As for :func:`adjust`. In this order one walk down the steps finds all: from one value to
        the next it is a few steps, which the processor has at hand.
    steps : ndarray (2, steps), float64
        Largest p-value of each step, ascending, and its adjusted value.
    """
    _look_up(p_values, order, steps[0], steps[1], out)


#: Leading bits of a float64 that number its bin: sign, exponent, eight bits of the mantissa.
BIN_SHIFT = 44
N_BINS = (0x3FF0 << 48 >> BIN_SHIFT) + 1  # p-values are at most 1.0


@jit
def _count(bits, counts):
    for i in range(len(bits)):
        counts[np.uint64(bits[i] >> BIN_SHIFT)] += 1


def count(p_values: np.ndarray, counts: np.ndarray) -> None:
    """Add the p-values (a contiguous array of any shape) to the counts (:data:`N_BINS`) of bins."""
    _count(p_values.reshape(-1).view(np.int64), counts)


@jit
def _collect(p_values, low, high, out, n):
    for i in range(len(p_values)):
        p = p_values[i]
        out[np.uint64(n)] = p
        n += (p >= low) & (p < high)
    return n


def collect(p_values: np.ndarray, low: float, high: float, out: np.ndarray, n: int) -> int:
    """Append the p-values in ``low <= p < high`` to the `n` in `out`; return how many it has then.

    `out` has one place more than is needed.
    """
    return int(_collect(p_values.reshape(-1), low, high, out, n))


@jit
def _steps(values, below, m, steps):
    smallest = np.inf
    at = len(values)
    for i in range(len(values) - 1, -1, -1):
        q = values[i] * (m / (below + i + 1))
        if q < smallest:
            smallest = q
            at -= 1
            steps[0, at] = values[i]
            steps[1, at] = q
    return at


def steps_of(values: np.ndarray, below: int, m: int) -> np.ndarray:
    """Adjust sorted p-values of `m`, `below` of which are smaller than these.

    Returns
    -------
    ndarray (2, steps), float64
        Of each run of equal adjusted values the largest p-value, and the adjusted value.
    """
    steps = np.empty((2, len(values)))
    return steps[:, _steps(values, below, m, steps) :]
