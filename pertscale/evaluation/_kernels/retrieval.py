"""Distances of profiles, and ranks among them."""

from __future__ import annotations

from typing import Any

import numpy as np

from pertscale._jit import jit


@jit
def l1_distances(panels: np.ndarray, values: np.ndarray, out: np.ndarray) -> None:
    """Fill the L1 distances of rows to all columns of all panels.

    Sums go over the genes in their order, whatever the panel: equal columns have equal distances.

    Parameters
    ----------
    panels : ndarray (panel, gene, column)
    values : ndarray (row, gene)
    out : ndarray (row, panel * column)
    """
    width = panels.shape[2]
    total = np.empty(width)
    for panel in range(panels.shape[0]):
        for row in range(values.shape[0]):
            total[:] = 0.0
            for gene in range(values.shape[1]):
                value = values[row, gene]
                for column in range(width):
                    total[column] += abs(panels[panel, gene, column] - value)
            for column in range(width):
                out[row, panel * width + column] = total[column]


@jit
def inner_products(
    panels: np.ndarray, origin: np.ndarray, values: np.ndarray, out: np.ndarray
) -> None:
    """Fill the inner products of rows with all columns of all panels, less an origin, (gene,).

    Parameters and order of sums as of :func:`l1_distances`.
    """
    width = panels.shape[2]
    total = np.empty(width)
    for panel in range(panels.shape[0]):
        for row in range(values.shape[0]):
            total[:] = 0.0
            for gene in range(values.shape[1]):
                value, zero = values[row, gene], origin[gene]
                for column in range(width):
                    total[column] += (panels[panel, gene, column] - zero) * value
            for column in range(width):
                out[row, panel * width + column] = total[column]


@jit
def count_nearer(distance: np.ndarray, n: int, which: np.ndarray, own: np.ndarray) -> Any:
    """Count the columns that are nearer than the own one, equal ones half.

    Parameters
    ----------
    distance : ndarray (row, column)
    n : int
        How many of the columns count.
    which, own : ndarray, int
        Row, and own column, of each count.

    Returns
    -------
    ndarray, float64
    """
    counts = np.empty(len(which))
    for i in range(len(which)):
        row = distance[which[i]]
        limit = row[own[i]]
        nearer, equal = 0, -1  # itself is equal
        for column in range(n):
            nearer += row[column] < limit
            equal += row[column] == limit
        counts[i] = nearer + 0.5 * equal
    return counts
