"""Confusion matrices of the three classes, and the scores that follow from them (SPEC F)."""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from pertscale.arguments import checked
from pertscale.errors import ArgumentError, InputError
from pertscale.evaluation._kernels import count_pairs
from pertscale.schema import CLASSES, Label

#: Columns of a confusion matrix: the three classes, and "no prediction".
N_PREDICTED: Final = len(CLASSES) + 1


@checked
def confusion(truth: NDArray[np.integer], predicted: NDArray[np.integer]) -> NDArray[np.int64]:
    """Count the pairs of every true and predicted class.

    Parameters
    ----------
    truth, predicted
        Labels of the same shape, usually (perturbation, gene). Pairs whose truth is
        ``Label.UNTESTED`` are left out.

    Returns
    -------
    ndarray of int64, shape (3, 4)
        Rows are the true classes in the order of ``schema.CLASSES``. The first three columns are
        the predicted classes in the same order. The fourth counts tested pairs that were
        predicted as ``UNTESTED``: they count as wrong, so that no method gains by abstaining.
        Matrices of parts add up to the matrix of the whole.

    Raises
    ------
    InputError
        For different shapes, or a code that is not a label.
    """
    return confusion_per_row(truth, predicted).sum(axis=0)


@checked
def confusion_per_row(
    truth: NDArray[np.integer], predicted: NDArray[np.integer], *, origin: tuple[int, int] = (0, 0)
) -> NDArray[np.int64]:
    """Count as :func:`confusion` does, for each perturbation apart.

    Parameters
    ----------
    truth, predicted
        Labels, shape (perturbation, gene) or a single vector, which counts as one row.
    origin
        Position (row, gene) of this block in the whole matrix, for the error message.

    Returns
    -------
    ndarray of int64, shape (perturbation, 3, 4)

    Raises
    ------
    InputError
        For different shapes, or a code that is not a label.

    """
    truth, predicted = np.atleast_2d(truth), np.atleast_2d(predicted)
    if truth.shape != predicted.shape:
        raise InputError(
            f"truth has shape {truth.shape} and predicted {predicted.shape}; both need one label "
            "per (perturbation, gene), so align their rows and columns first"
        )
    counts = np.zeros((len(truth), len(CLASSES), N_PREDICTED), dtype=np.int64)
    fault = count_pairs(_codes(truth), _codes(predicted), _CLASS_OF, counts)
    if fault:
        what, labels = (("truth", truth), ("predicted", predicted))[fault - 1]
        row, gene = np.argwhere(~np.isin(labels, (*CLASSES, int(Label.UNTESTED))))[0]
        raise InputError(
            f"{what} has the code {labels[row, gene]} at row {row + origin[0]}, gene "
            f"{gene + origin[1]}; labels are {CLASSES} or {int(Label.UNTESTED)} (untested)"
        )
    return counts


def _codes(labels: NDArray[np.integer]) -> NDArray[np.integer]:
    """Return labels as int8; codes that do not fit become one that is no label."""
    if labels.dtype == np.int8:
        return labels
    fits = (labels >= int(Label.UNTESTED)) & (labels <= max(CLASSES))
    return np.where(fits, labels, _NO_LABEL).astype(np.int8)


_NO_LABEL: Final = 100
#: Class of every code, by its bits as uint8: 3 where there is no label, 4 where it is unknown.
_CLASS_OF: Final = np.full(256, N_PREDICTED, dtype=np.int8)
_CLASS_OF[np.array([*CLASSES, int(Label.UNTESTED)], np.int8).view(np.uint8)] = range(N_PREDICTED)


@checked
def scores_from_confusion(
    counts: NDArray[np.integer], *, labels: Literal["fixed", "present"] = "fixed"
) -> dict[str, NDArray[np.float64]]:
    """Compute the classification scores of SPEC F from confusion matrices.

    Parameters
    ----------
    counts
        Confusion matrices, shape (..., 3, 3) or (..., 3, 4) as of :func:`confusion`.
    labels
        Over which classes ``macro_f1`` averages: ``"fixed"``, all three, an absent class counting
        0; ``"present"``, those that occur in truth or prediction (scikit-learn's default).

    Returns
    -------
    dict of str to ndarray of float64
        ``accuracy``, ``balanced_accuracy``, ``macro_f1`` and ``mcc`` of shape (...);
        ``precision``, ``recall``, ``f1`` and ``support`` of shape (..., 3). Zero denominators
        give 0; the first four are NaN where there is no pair at all.

    Raises
    ------
    ArgumentError
        If `labels` is neither of the two.
    """
    if labels not in ("fixed", "present"):
        raise ArgumentError(f"labels={labels!r} is unknown; use 'fixed' or 'present'")
    cells = np.asarray(counts, dtype=np.float64)
    hits = np.diagonal(cells, axis1=-2, axis2=-1)
    support = cells.sum(axis=-1)
    predicted = cells.sum(axis=-2)
    per_class = predicted[..., : len(CLASSES)]
    total = support.sum(axis=-1)
    recall = _ratio(hits, support)
    f1 = _ratio(2 * hits, support + per_class)
    counted = (support + per_class > 0) if labels == "present" else np.ones_like(f1)
    scores = {
        "accuracy": _ratio(hits.sum(axis=-1), total),
        "balanced_accuracy": _ratio(recall.sum(axis=-1), (support > 0).sum(axis=-1)),
        "macro_f1": _ratio(f1.sum(axis=-1), counted.sum(axis=-1)),
        "mcc": _matthews(hits.sum(axis=-1), support, predicted, total),
    }
    scores = {name: np.where(total > 0, value, np.nan) for name, value in scores.items()}
    precision = _ratio(hits, per_class)
    return scores | {"precision": precision, "recall": recall, "f1": f1, "support": support}


def _ratio(numerator: NDArray, denominator: NDArray) -> NDArray[np.float64]:
    """Divide, with 0 where the denominator is 0."""
    zero = np.zeros(np.broadcast_shapes(np.shape(numerator), np.shape(denominator)))
    return np.divide(numerator, denominator, out=zero, where=np.asarray(denominator) > 0)


def _matthews(
    hits: NDArray, support: NDArray, predicted: NDArray, total: NDArray
) -> NDArray[np.float64]:
    """Matthews correlation for several classes; "no prediction" is a predicted class of its own."""
    agreement = (support * predicted[..., : len(CLASSES)]).sum(axis=-1)
    spread_predicted = total**2 - (predicted**2).sum(axis=-1)
    spread_true = total**2 - (support**2).sum(axis=-1)
    # two roots: the product of the spreads could lose its last digits or overflow
    return _ratio(hits * total - agreement, np.sqrt(spread_predicted) * np.sqrt(spread_true))
