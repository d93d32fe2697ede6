"""Inner loops of thresholds, on plain arrays."""

from __future__ import annotations

import numpy as np

from pertscale._jit import jit

_U = np.uint64


@jit
def count_sizes(
    bits: np.ndarray, truth: np.ndarray, untested: int, dropped: int, counts: np.ndarray
) -> None:
    """Count tested pairs by true class, direction and size of a change.

    Parameters
    ----------
    bits : ndarray (rows, genes), uint32
        Bits of the changes as float32; NaN counts as no change, infinity as the largest number.
    truth : ndarray (rows, genes), int8
    untested : int
        Label of pairs to leave out.
    dropped : int
        Bits of a size that do not matter.
    counts : ndarray (3, 3, bins), int64
        Gets the counts added: true class; down, none, up.
    """
    for row in range(bits.shape[0]):
        for gene in range(bits.shape[1]):
            label = truth[row, gene]
            if label == untested:
                continue
            b = bits[row, gene]
            size = b & np.uint32(0x7FFFFFFF)
            if size > np.uint32(0x7F800000):
                size = np.uint32(0)
            elif size == np.uint32(0x7F800000):
                size = np.uint32(0x7F7FFFFF)
            direction = 1
            if size != np.uint32(0):
                direction = 0 if b >> np.uint32(31) else 2
            counts[label + 1, direction, _U(size >> np.uint32(dropped))] += 1


@jit
def spread_evidence(change: np.ndarray, out: np.ndarray) -> None:
    """Fill class scores (n, 3) from changes (n,), float32: see `scores_of_changes`."""
    one, most = np.float32(1), np.float32(np.finfo(np.float32).max)
    for i in range(_U(len(change))):
        x = change[i]
        if x != x:
            x = np.float32(0)
        size = min(abs(x), most)
        size /= one + size
        out[i, 0] = size if x < 0 else np.float32(0)
        out[i, 1] = one - size
        out[i, 2] = size if x > 0 else np.float32(0)
