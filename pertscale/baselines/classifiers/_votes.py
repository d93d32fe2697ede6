"""Counting labels, and deciding which class wins. Class axes come first here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pertscale._computing import compute
from pertscale.schema import CLASSES, Label

#: Positions of the classes on a class axis.
DOWN: Final = CLASSES.index(Label.DOWN)
NON_DE: Final = CLASSES.index(Label.NON_DE)
UP: Final = CLASSES.index(Label.UP)

#: Which class wins a tie: the first of these that takes part in it (method E1 and E2).
DE_FIRST: Final = (UP, DOWN, NON_DE)
NON_DE_FIRST: Final = (NON_DE, UP, DOWN)


def class_counts(y: Any) -> NDArray[np.int64]:
    """Count the labels of each class per gene; a Dask array is reduced in one streaming pass.

    Parameters
    ----------
    y
        Labels, shape (perturbation, gene), NumPy or Dask.

    Returns
    -------
    ndarray of int64, shape (3, gene)
    """
    narrow = np.uint16 if len(y) < 2**16 else np.int64  # four times as many sums at a time
    counts = compute(np.stack([(y == code).sum(axis=0, dtype=narrow) for code in CLASSES]))[0]
    return np.asarray(counts, np.int64)


def winning_class(votes: NDArray, *, order: Sequence[int]) -> NDArray[np.int8]:
    """Return the label with the most votes; among equals the first in `order` wins.

    Parameters
    ----------
    votes
        Shape (3, ...), classes in the order of ``schema.CLASSES``.
    order
        The three class positions, the one that wins ties first.
    """
    best = votes[order[0]]
    labels = np.full(best.shape, CLASSES[order[0]], dtype=np.int8)
    for position in order[1:]:
        labels[votes[position] > best] = CLASSES[position]
        best = np.maximum(best, votes[position])
    return labels


def majority_labels(counts: NDArray[np.int64]) -> NDArray[np.int8]:
    """Return the most frequent label per gene, Non-DE if there is none (method E1)."""
    labels = winning_class(counts, order=DE_FIRST)
    labels[~counts.any(axis=0)] = Label.NON_DE
    return labels


def class_shares(votes: NDArray) -> NDArray[np.float64]:
    """Divide votes by their sum over the classes; all to Non-DE where there is no vote.

    Parameters
    ----------
    votes
        Shape (3, ...).

    Returns
    -------
    ndarray of float64, shape (3, ...)
    """
    total = votes.sum(axis=0)
    shares = np.zeros(votes.shape)
    shares[NON_DE] = 1
    return np.divide(votes, total, out=shares, where=total > 0)
