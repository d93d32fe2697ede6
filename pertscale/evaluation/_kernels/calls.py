"""Counts of called classes."""

from __future__ import annotations

from typing import Any

import numpy as np

from pertscale._jit import jit

_U = np.uint64


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
def count_called(
    truth: np.ndarray,
    scores: np.ndarray,
    threshold: float,
    class_of: np.ndarray,
    counts: np.ndarray,
) -> None:
    """Count as :func:`count_pairs` what is called at a threshold; see `labels_at_threshold`.

    Parameters
    ----------
    truth : ndarray (rows, genes), int8
        All of them labels, or untested.
    scores : ndarray (rows, genes, 3), float32
    threshold : float
    class_of, counts
        As of :func:`count_pairs`.
    """
    cells = np.empty((4, 3), np.int64)
    for row in range(truth.shape[0]):
        cells[:] = 0
        for gene in range(truth.shape[1]):
            true = class_of[_U(np.uint8(truth[row, gene]))]
            as_class = 1
            if scores[row, gene, 1] <= threshold:
                as_class = 2 if scores[row, gene, 2] >= scores[row, gene, 0] else 0
            cells[_U(true), _U(as_class)] += 1
        for true in range(3):
            for as_class in range(3):
                counts[row, true, as_class] += cells[true, as_class]
