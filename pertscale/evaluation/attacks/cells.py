"""Attacks on the test of predicted cells: cells that are drawn from controls.

Each takes control cells (cell, gene) in log1p expression; for each gene the mean of the training
perturbations as a multiple of the control; the number of cells that were measured; and random
numbers. It returns cells of a held-out perturbation.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Random = np.random.Generator
#: How far cells whose scatter cancels lie from their mean, in parts of the cells' own scatter.
_SCATTER = 0.1
#: Multiples of the control that controls of a file's own are divided by, at least.
_LEAST = 0.1


def moved(cells: NDArray, multiple: np.ndarray, n: int, random: Random) -> NDArray:
    """Return as many control cells as were measured, moved as training perturbations are."""
    return cells[random.integers(0, len(cells), n)] * multiple


def copied(cells: NDArray, multiple: np.ndarray, n: int, random: Random) -> NDArray:
    """Return the same cells three times over."""
    return np.repeat(moved(cells, multiple, n, random), 3, axis=0)


def four(cells: NDArray, multiple: np.ndarray, n: int, random: Random) -> NDArray:
    """Return 4 of them, however many were measured."""
    return moved(cells, multiple, min(4, n), random)


def cancelling(cells: NDArray, multiple: np.ndarray, n: int, random: Random) -> NDArray:
    """Return cells in pairs, a little above and as much below the mean profile.

    The mean is exact, and next to nothing varies from cell to cell.
    """
    mean = cells.mean(axis=0) * multiple
    half = (moved(cells, multiple, -(-n // 2), random) - mean) * _SCATTER
    pairs = np.stack([mean + half, mean - half], axis=1).reshape(-1, len(mean))
    return np.asarray(np.maximum(pairs[:n], 0))


def shifted_controls(cells: NDArray, multiple: np.ndarray) -> NDArray:
    """Return control cells of the file's own, moved the other way."""
    return cells / np.maximum(multiple, _LEAST)
