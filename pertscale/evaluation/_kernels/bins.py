"""Scores in few bins: how many pairs of each perturbation are in each, and areas under curves."""

from __future__ import annotations

from typing import Any

import numpy as np

from pertscale._jit import jit
from pertscale.evaluation._kernels.ranking import ordered


@jit
def count_in_bins(
    truth: np.ndarray,
    bits: np.ndarray,
    column: int,
    code: int,
    untested: int,
    edges: np.ndarray,
    first: np.ndarray,
    counts: np.ndarray,
) -> None:
    """Add the tested pairs of each row to the bins that their scores are in.

    Parameters
    ----------
    truth : ndarray (rows, genes), int8
    bits : ndarray (rows, genes, columns), uint32
        Bits of the float32 scores.
    column : int
        Which of the scores.
    code, untested : int
        Label of the positives, and of pairs to leave out.
    edges : ndarray (bins - 1,), uint32, ascending
        First key of each bin but the lowest.
    first : ndarray (65536,), uint16
        Lowest bin of the keys that begin with each 16 bits.
    counts : ndarray (rows, bins, 2)
        Negatives and positives; added to.
    """
    n_edges = len(edges)
    for row in range(truth.shape[0]):
        for gene in range(truth.shape[1]):
            label = truth[row, gene]
            if label != untested:
                key = ordered(bits[row, gene, column])
                at = np.int64(first[key >> np.uint32(16)])
                while at < n_edges and key >= edges[at]:
                    at += 1
                counts[row, at, np.int64(label == code)] += 1


@jit
def binned_areas(counts: np.ndarray, n_missing: int, areas: np.ndarray) -> None:
    """Fill the areas of each version of a table.

    Parameters
    ----------
    counts : ndarray (versions, bins, 2), float
        Negatives and positives of bins in the order of the scores.
    n_missing : int
        How many bins come first that stay last when scores are negated.
    areas : ndarray (versions, 3)
        Filled: area under the ROC curve, average precision, and that of the negatives by the
        negated score. NaN where one side is empty.
    """
    n_bins = counts.shape[1]
    for version in range(counts.shape[0]):
        negatives = positives = 0.0
        u = 0.0
        for i in range(n_bins):
            negative, positive = counts[version, i, 0], counts[version, i, 1]
            u += positive * (negatives + negative / 2)
            negatives += negative
            positives += positive
        if negatives <= 0 or positives <= 0:
            areas[version, :] = np.nan
            continue
        areas[version, 0] = u / (positives * negatives)
        areas[version, 1] = _precision(counts[version], 1, n_bins)
        areas[version, 2] = _precision(counts[version], 0, n_missing)


@jit
def _precision(counts: np.ndarray, side: int, n_first: int) -> Any:
    """Return the average precision of one side; bins after `n_first` are in reversed order."""
    hits = misses = 0.0
    for i in range(len(counts)):
        hits += np.float64(counts[i, side])
        misses += np.float64(counts[i, 1 - side])
    all_hits, total = hits, 0.0
    for k in range(len(counts)):
        i = k if k < n_first else len(counts) - 1 - (k - n_first)
        n = np.float64(counts[i, side])
        if n > 0:
            total += n * (hits / (hits + misses))
        hits -= n
        misses -= np.float64(counts[i, 1 - side])
    return total / all_hits
