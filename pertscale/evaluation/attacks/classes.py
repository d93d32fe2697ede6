"""Attacks on scores of classes: labels and class scores without a prediction behind them.

Each takes what is known, and the share of differentially expressed pairs among those that are
scored, which no predictor is told; it returns labels (held-out perturbation, gene) and class scores
with a last axis of 3.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pertscale.evaluation.attacks.known import Known
from pertscale.evaluation.operating_point import labels_at_threshold
from pertscale.schema import CLASSES, Label

Called = tuple[NDArray[np.int8], NDArray[np.float32]]


def majority(known: Known, _: float) -> Called:
    """Return the most frequent class of each gene in training, scored by the shares."""
    shares = _shares(known)
    best = shares[:, [1, 2, 0]].argmax(axis=1)  # of equal ones non-DE, then up
    labels = np.array([Label.NON_DE, Label.UP, Label.DOWN], np.int8)[best]
    return _for_all(known, labels, shares)


def at_test_rate(known: Known, rate: float) -> Called:
    """Return the genes that change most often in training, as many as are changed in the test."""
    shares = _shares(known)
    n = round(rate * len(shares))
    bound = np.sort(shares[:, 1])[n - 1] if n else -np.inf
    return _for_all(known, labels_at_threshold(shares, bound), shares)


def all_called(known: Known, _: float) -> Called:
    """Return a change for every pair, in the direction that the gene has more often."""
    shares = _shares(known)
    return _for_all(known, labels_at_threshold(shares, np.inf), shares)


def _shares(known: Known) -> NDArray[np.float32]:
    """Return the share of each class among a gene's tested training pairs, (gene, 3)."""
    assert known.labels is not None, "attacks on classes are run where there are classes"
    counts = np.stack([(known.labels == label).sum(axis=0) for label in CLASSES], axis=1)
    n = counts.sum(axis=1, keepdims=True)
    none = np.array([0.0, 1.0, 0.0])  # a gene that was never tested
    return np.where(n > 0, counts / np.maximum(n, 1), none).astype(np.float32)


def _for_all(known: Known, labels: NDArray[np.int8], scores: NDArray[np.float32]) -> Called:
    n = len(known.held_out)
    return np.tile(labels, (n, 1)), np.tile(scores, (n, 1, 1))
