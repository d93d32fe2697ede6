"""Scores as integers, ranked, and the areas under their curves."""

from __future__ import annotations

from typing import Any

import numpy as np

from pertscale._jit import jit

_U = np.uint64
#: No pair, in what ranks pairs.
UNTESTED = np.uint64(2**64 - 1)


@jit
def ordered(bits: np.uint32) -> Any:
    """Return an integer in the order of a float32's value; NaN is the lowest, and -0 is 0."""
    if (bits & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000):
        bits = np.uint32(0xFF800000)
    elif bits == np.uint32(0x80000000):
        bits = np.uint32(0)
    return bits ^ (np.uint32(0xFFFFFFFF) if bits >> np.uint32(31) else np.uint32(0x80000000))


@jit
def pack_scores(
    truth: np.ndarray, bits: np.ndarray, column: int, code: int, untested: int, packed: np.ndarray
) -> Any:
    """Write the scores of the tested pairs, whose order that of the integers is.

    Parameters
    ----------
    truth : ndarray (rows, genes), int8
    bits : ndarray (rows, genes, columns), uint32
        Bits of the float32 scores.
    column : int
        Which of the scores to rank by.
    code, untested : int
        Label of the positives, and of pairs to leave out.
    packed : ndarray, uint64
        Filled: 32 bits that order the scores, then one that marks positives.

    Returns
    -------
    int
        How many were written.
    """
    n = np.int64(0)
    for row in range(truth.shape[0]):
        for gene in range(truth.shape[1]):
            label = truth[row, gene]
            if label != untested:
                key = _U(ordered(bits[row, gene, column]))
                packed[_U(n)] = (key << _U(1)) | _U(label == code)
                n += 1
    return n


@jit
def pack_lines(
    truth: np.ndarray, bits: np.ndarray, non_de: int, untested: int, packed: np.ndarray
) -> None:
    """Write the pairs so that they are ranked by ``- score of non_de`` within their rows.

    Parameters
    ----------
    truth : ndarray (rows, genes), int8
    bits : ndarray (rows, genes, 3), uint32
        Bits of the float32 scores.
    non_de, untested : int
        Labels.
    packed : ndarray (rows, genes), uint64
        Filled: 32 bits that order the scores; one that marks changed pairs; one that is free. All
        ones for untested pairs.
    """
    for row in range(truth.shape[0]):
        for gene in range(truth.shape[1]):
            label = truth[row, gene]
            if label == untested:
                packed[row, gene] = UNTESTED
                continue
            b = bits[row, gene, 1]
            if (b & np.uint32(0x7FFFFFFF)) <= np.uint32(0x7F800000):
                b ^= np.uint32(0x80000000)
            packed[row, gene] = (_U(ordered(b)) << _U(2)) | (_U(label != non_de) << _U(1))


@jit
def areas_of_line(packed: np.ndarray, areas: np.ndarray) -> None:
    """Fill the area under the ROC curve of all pairs of a line, and of those not left out.

    Parameters
    ----------
    packed : ndarray (n,), uint64, ascending
        Order of the score; in the last two bits, positives and what is left out. Values at the end
        that are all ones are no pairs.
    areas : ndarray (2,)
        Filled; NaN where one side is empty.
    """
    below, positives, twice_u = np.zeros(2, np.int64), np.zeros(2, np.int64), np.zeros(2, np.int64)
    tied = np.zeros((2, 2), np.int64)  # all and the rest; negatives and positives
    n = len(packed)
    for i in range(n + 1):
        ends = i == n or packed[i] == UNTESTED
        if ends or (i > 0 and packed[i] >> _U(2) != packed[i - 1] >> _U(2)):
            for k in range(2):
                twice_u[k] += tied[k, 1] * (2 * below[k] + tied[k, 0])
                below[k] += tied[k, 0]
                positives[k] += tied[k, 1]
            tied[:] = 0
        if ends:
            break
        side = (packed[i] >> _U(1)) & _U(1)
        tied[0, side] += 1
        tied[1, side] += np.int64(_U(1) - (packed[i] & _U(1)))
    for k in range(2):
        areas[k] = np.nan
        if positives[k] > 0 and below[k] > 0:
            areas[k] = twice_u[k] / 2 / (positives[k] * below[k])


@jit
def areas_of_lines(packed: np.ndarray, areas: np.ndarray) -> None:
    """Fill the areas (lines, 2) of lines (lines, n); see :func:`areas_of_line`."""
    for line in range(packed.shape[0]):
        areas_of_line(packed[line], areas[line])


@jit
def areas_between(packed: np.ndarray, edges: np.ndarray, areas: np.ndarray) -> None:
    """Fill the areas (lines, 2) of lines that lie between edges (lines + 1,) of `packed`."""
    for line in range(len(edges) - 1):
        areas_of_line(packed[edges[line] : edges[line + 1]], areas[line])


@jit
def count_distinct(packed: np.ndarray, keys: np.ndarray, counts: np.ndarray) -> Any:
    """Count the negatives and positives of each score; return how many scores there are.

    Parameters
    ----------
    packed : ndarray (n,), uint64, ascending
        As of :func:`pack_scores`.
    keys : ndarray, uint32
    counts : ndarray (..., 2), uint32
        Filled as far as there are distinct scores.
    """
    m = np.int64(-1)
    previous = UNTESTED
    for i in range(len(packed)):
        key = packed[i] >> _U(1)
        if key != previous:
            m += 1
            keys[m] = key
            counts[m, 0] = counts[m, 1] = 0
            previous = key
        counts[m, packed[i] & _U(1)] += 1
    return m + 1


@jit
def merge_counts(
    keys_a: np.ndarray,
    counts_a: np.ndarray,
    keys_b: np.ndarray,
    counts_b: np.ndarray,
    keys: np.ndarray,
    counts: np.ndarray,
) -> Any:
    """Merge ascending keys, and add up the counts of equal ones; return how many keys there are."""
    a = b = m = np.int64(0)
    while a < len(keys_a) or b < len(keys_b):
        take_a = b == len(keys_b) or (a < len(keys_a) and keys_a[a] <= keys_b[b])
        take_b = a == len(keys_a) or (b < len(keys_b) and keys_b[b] <= keys_a[a])
        counts[m, 0] = counts[m, 1] = 0
        if take_a:
            keys[m] = keys_a[a]
            counts[m, 0] += counts_a[a, 0]
            counts[m, 1] += counts_a[a, 1]
            a += 1
        if take_b:
            keys[m] = keys_b[b]
            counts[m, 0] += counts_b[b, 0]
            counts[m, 1] += counts_b[b, 1]
            b += 1
        m += 1
    return m


@jit
def round_keys(keys: np.ndarray, counts: np.ndarray, mask: np.uint32) -> Any:
    """Round ascending keys down, in place, adding up the counts of those that become equal."""
    m = np.int64(-1)
    for i in range(len(keys)):
        key = keys[i] & mask
        if m >= 0 and keys[m] == key:
            counts[m, 0] += counts[i, 0]
            counts[m, 1] += counts[i, 1]
        else:
            m += 1
            keys[m] = key
            counts[m, 0], counts[m, 1] = counts[i, 0], counts[i, 1]
    return m + 1


@jit
def roc_area(counts: np.ndarray) -> Any:
    """Return the area under the ROC curve of counts (n, 2) in the order of the scores."""
    below = positives = twice_u = np.int64(0)
    for i in range(len(counts)):
        negative, positive = np.int64(counts[i, 0]), np.int64(counts[i, 1])
        twice_u += positive * (2 * below + negative)
        below += negative
        positives += positive
    if positives == 0 or below == 0:
        return np.nan
    return twice_u / 2 / (positives * below)


@jit
def average_precision(counts: np.ndarray, side: int, n_first: int) -> Any:
    """Return the average precision of one side in counts (n, 2) of scores in their order.

    The first `n_first` scores are as they are, the others are negated: their order is the other way
    round.
    """
    true_positives = false_positives = np.int64(0)
    for i in range(len(counts)):
        true_positives += np.int64(counts[i, side])
        false_positives += np.int64(counts[i, 1 - side])
    if true_positives == 0 or false_positives == 0:
        return np.nan
    positives, total = true_positives, 0.0
    for k in range(len(counts)):
        i = k if k < n_first else len(counts) - 1 - (k - n_first)
        n = np.int64(counts[i, side])
        if n > 0:
            total += n * (true_positives / (true_positives + false_positives))
        true_positives -= n
        false_positives -= np.int64(counts[i, 1 - side])
    return total / positives
