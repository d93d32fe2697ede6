"""Vectors of a decomposition, which has neither signs nor a start of its own."""

from __future__ import annotations

import numpy as np


def start_vector(n: int) -> np.ndarray:
    """Return the fixed start of the iterative solvers: without one they draw at random."""
    return np.random.RandomState(0).uniform(0.5, 1.5, size=n)


def fix_signs(columns: np.ndarray) -> np.ndarray:
    """Return `columns` with the entry of largest absolute value of each made positive."""
    extreme = columns[np.argmax(np.abs(columns), axis=0), np.arange(columns.shape[1])]
    return columns * np.where(extreme < 0, -1.0, 1.0)
