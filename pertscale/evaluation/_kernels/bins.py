"""Scores in few bins: how many pairs of each perturbation are in each, and areas under curves."""

from __future__ import annotations

from typing import Any

import numpy as np

from pertscale._jit import jit
from pertscale.evaluation._kernels.ranking import ordered


@jit
def cut(counts: np.ndarray, n_bins: int, places: np.ndarray) -> Any:
    """Find where bins begin that have the same share of negatives and positives together.

    Parameters
    ----------
    counts : ndarray (n, 2)
        Negatives and positives with each score, in the order of the scores.
    n_bins : int
    places : ndarray (n_bins - 1,)
        Filled: the first score of each bin but the lowest; several may begin at one.

    Returns
    -------
    int
        How many places were filled.
    """
    negatives = positives = np.int64(0)
    for i in range(len(counts)):
        negatives += np.int64(counts[i, 0])
        positives += np.int64(counts[i, 1])
    n_sides = np.int64(negatives > 0) + np.int64(positives > 0)
    of_negative = 1 / np.float64(negatives) if negatives > 0 else 0.0
    of_positive = 1 / np.float64(positives) if positives > 0 else 0.0
    step = n_sides / n_bins
    below, n = 0.0, np.int64(0)
    for i in range(len(counts)):
        below += np.int64(counts[i, 0]) * of_negative + np.int64(counts[i, 1]) * of_positive
        while n < n_bins - 1 and below > (n + 1) * step:
            places[n] = i
            n += 1
    return n


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
        hits = misses = wins = precision = 0.0
        for k in range(n_bins):  # from the highest score on
            negative = np.float64(counts[version, n_bins - 1 - k, 0])
            positive = np.float64(counts[version, n_bins - 1 - k, 1])
            wins += negative * (hits + positive / 2)
            hits += positive
            misses += negative
            if positive > 0:
                precision += positive * (hits / (hits + misses))
        if hits <= 0 or misses <= 0:
            areas[version, :] = np.nan
            continue
        areas[version, 0] = wins / (hits * misses)
        areas[version, 1] = precision / hits
        areas[version, 2] = _precision_of_negatives(counts[version], n_missing)


@jit
def _precision_of_negatives(counts: np.ndarray, n_missing: int) -> Any:
    """Return the average precision of negatives, the lowest scores first, missing ones last."""
    hits = misses = total = 0.0
    for k in range(len(counts)):
        i = (k + n_missing) % len(counts)
        hits += np.float64(counts[i, 0])
        misses += np.float64(counts[i, 1])
        if counts[i, 0] > 0:
            total += np.float64(counts[i, 0]) * (hits / (hits + misses))
    return total / hits
