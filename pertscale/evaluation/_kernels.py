"""Inner loops of the scores, on plain arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from pertscale._jit import jit

_U = np.uint64
_DIGIT_BITS = 11


@jit
def count_pairs(
    truth: np.ndarray, predicted: np.ndarray, class_of: np.ndarray, counts: np.ndarray
) -> Any:
    """Count the pairs of every true and predicted class, row by row.

    Parameters
    ----------
    truth, predicted : ndarray (rows, genes), int8
    class_of : ndarray (256,), int8
        Class of the code with these bits; 3 for untested pairs, 4 for what is no label.
    counts : ndarray (rows, 3, 4), int64
        Gets the counts added.

    Returns
    -------
    int
        1 or 2 where `truth` or `predicted` holds a code that is no label, else 0.
    """
    fault = 0
    cells = np.empty((5, 5), np.int64)  # the last of each for codes that are no labels
    for row in range(truth.shape[0]):
        cells[:] = 0
        for gene in range(truth.shape[1]):
            true = class_of[_U(np.uint8(truth[row, gene]))]
            as_class = class_of[_U(np.uint8(predicted[row, gene]))]
            cells[_U(true), _U(as_class)] += 1
        no_truth = no_prediction = np.int64(0)
        for k in range(5):
            no_truth += cells[4, k]
            no_prediction += cells[k, 4]
        if no_truth > 0:
            fault = 1
        elif no_prediction > 0 and fault == 0:
            fault = 2
        for true in range(3):
            for as_class in range(4):
                counts[row, true, as_class] += cells[true, as_class]
    return fault


@jit
def pack_keys(
    truth: np.ndarray,
    bits: np.ndarray,
    column: int,
    code: int,
    untested: int,
    by_row: bool,
    positive: np.ndarray,
    negative: np.ndarray,
) -> Any:
    """Write the ranking keys of the tested pairs: 32 bits of the row, 32 that order the scores.

    Parameters
    ----------
    truth : ndarray (rows, genes), int8
    bits : ndarray (rows, genes, columns), uint32
        Bits of the float32 scores.
    column : int
        Which of the scores to rank by.
    code : int
        Label of the positives. With `by_row` that of the negatives, scores are negated, and every
        row is a ranking of its own.
    untested : int
        Label of pairs to leave out.
    positive, negative : ndarray, uint64
        Filled.

    Returns
    -------
    tuple of int
        How many keys were written to either.
    """
    n_positive = n_negative = np.int64(0)
    for row in range(truth.shape[0]):
        high = (_U(row) << _U(32)) * _U(by_row)
        for gene in range(truth.shape[1]):
            label = truth[row, gene]
            if label == untested:
                continue
            b = bits[row, gene, column]
            if (b & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000):
                b = np.uint32(0xFF800000)  # NaN is the lowest
            else:
                if by_row:
                    b ^= np.uint32(0x80000000)
                if b == np.uint32(0x80000000):  # -0 is 0
                    b = np.uint32(0)
            b = b ^ (np.uint32(0xFFFFFFFF) if b >> np.uint32(31) else np.uint32(0x80000000))
            key = high | (_U(b) & _U(0xFFFFFFFF))
            if (label == code) != by_row:
                positive[_U(n_positive)] = key
                n_positive += 1
            else:
                negative[_U(n_negative)] = key
                n_negative += 1
    return n_positive, n_negative


@jit
def sort_distinct(keys: np.ndarray, spare: np.ndarray, counts: np.ndarray) -> Any:
    """Sort keys and move the distinct ones to the front, with how often each occurs.

    A radix sort that passes over the digits in which the keys differ.

    Parameters
    ----------
    keys : ndarray (n,), uint64
        Overwritten: the first entries become the distinct keys, ascending.
    spare : ndarray (n,), uint64
    counts : ndarray (n,), int64
        Filled as far as there are distinct keys.

    Returns
    -------
    int
        Number of distinct keys.
    """
    n = len(keys)
    if n == 0:
        return 0
    differ = _U(0)
    for i in range(_U(n)):
        differ |= keys[i] ^ keys[_U(0)]
    size = 1 << _DIGIT_BITS
    at = np.empty(size + 1, np.int64)
    source, target = keys, spare
    swapped = False
    for digit in range(6):
        shift = _U(digit * _DIGIT_BITS)
        if (differ >> shift) & _U(size - 1) == _U(0):
            continue
        at[:] = 0
        for i in range(_U(n)):
            at[((source[i] >> shift) & _U(size - 1)) + _U(1)] += 1
        for d in range(size):
            at[d + 1] += at[d]
        for i in range(_U(n)):
            d = (source[i] >> shift) & _U(size - 1)
            target[_U(at[d])] = source[i]
            at[d] += 1
        source, target = target, source
        swapped = not swapped
    distinct = np.int64(0)
    previous = source[_U(0)]
    count = np.int64(0)
    for i in range(_U(n)):
        key = source[i]
        if key != previous:
            keys[_U(distinct)] = previous  # behind the reading position, or in the other array
            counts[_U(distinct)] = count
            distinct += 1
            previous = key
            count = np.int64(0)
        count += 1
    keys[_U(distinct)] = previous
    counts[_U(distinct)] = count
    return distinct + 1


@jit
def areas_of_order(
    order: np.ndarray, values: np.ndarray, positive: np.ndarray, used: np.ndarray, areas: np.ndarray
) -> None:
    """Fill the area under the ROC curve within each row; NaN where one side is empty.

    Parameters
    ----------
    order : ndarray (rows, n), int64
        Ascending order of the values of each row.
    values : ndarray (rows, n), float64
        Larger for positives; no NaN.
    positive, used : ndarray (rows, n), bool
        The positives, and the pairs that count.
    areas : ndarray (rows,)
        Filled.
    """
    n = values.shape[1]
    for row in range(values.shape[0]):
        n_used = n_positive = tied = tied_positive = np.int64(0)
        rank_sum = 0.0
        for i in range(n + 1):
            # a run of ties ends: its positives all have its mean rank
            if i == n or (i > 0 and values[row, order[row, i]] != values[row, order[row, i - 1]]):
                rank_sum += tied_positive * ((2 * n_used + tied + 1) / 2)
                n_used += tied
                n_positive += tied_positive
                tied = tied_positive = np.int64(0)
            if i < n and used[row, order[row, i]]:
                tied += 1
                tied_positive += np.int64(positive[row, order[row, i]])
        n_negative = n_used - n_positive
        areas[row] = np.nan
        if n_positive > 0 and n_negative > 0:
            areas[row] = (rank_sum - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative)


@jit
def distances(panels: np.ndarray, values: np.ndarray, l1: np.ndarray, dot: np.ndarray) -> None:
    """Fill the L1 distances and inner products of rows with all columns of all panels.

    Sums go over the genes in their order, whatever the panel: equal columns have equal distances.

    Parameters
    ----------
    panels : ndarray (panel, gene, column)
    values : ndarray (row, gene)
    l1, dot : ndarray (row, panel * column)
    """
    width = panels.shape[2]
    difference, product = np.empty(width), np.empty(width)
    for panel in range(panels.shape[0]):
        for row in range(values.shape[0]):
            difference[:] = 0.0
            product[:] = 0.0
            for gene in range(values.shape[1]):
                value = values[row, gene]
                for column in range(width):
                    other = panels[panel, gene, column]
                    difference[column] += abs(other - value)
                    product[column] += other * value
            for column in range(width):
                l1[row, panel * width + column] = difference[column]
                dot[row, panel * width + column] = product[column]


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
