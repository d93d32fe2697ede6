"""Confusion matrices of the three classes, and the scores that follow from them (method F)."""

from __future__ import annotations

from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pertscale.arguments import checked
from pertscale.errors import ArgumentError, InputError
from pertscale.evaluation._kernels.calls import count_called, count_pairs
from pertscale.schema import CLASSES, Label

#: Classes that macro F1 averages over; see :func:`scores_from_confusion`.
Averaged = Literal["observed", "fixed", "present"]
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

    Examples
    --------
    >>> truth = np.array([[1, 0, -1, 0]], np.int8)
    >>> predicted = np.array([[1, 0, 0, 0]], np.int8)
    >>> ps.evaluation.confusion(truth, predicted)  # rows: down, non-DE, up in truth
    array([[0, 1, 0, 0],
           [0, 2, 0, 0],
           [0, 0, 1, 0]])
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


    Examples
    --------
    >>> truth = np.array([[1, 0], [-1, 0]], np.int8)
    >>> ps.evaluation.confusion_per_row(truth, truth).shape  # (perturbation, 3, 4)
    (2, 3, 4)
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


def called_per_row(
    truth: NDArray[np.integer], scores: NDArray[np.floating], threshold: float
) -> NDArray[np.int64]:
    """Count (perturbation, 3, 4) what is called at a threshold; see ``labels_at_threshold``.

    `truth` holds labels, and `scores` are as float32, shape (perturbation, gene, 3).
    """
    counts = np.zeros((len(truth), len(CLASSES), N_PREDICTED), dtype=np.int64)
    scores = np.ascontiguousarray(scores, np.float32)
    count_called(_codes(truth), scores, threshold, _CLASS_OF, counts)
    return counts


def _codes(labels: NDArray[np.integer]) -> NDArray[np.integer]:
    """Return labels as int8, row by row; codes that do not fit become one that is no label."""
    if labels.dtype != np.int8:
        fits = (labels >= int(Label.UNTESTED)) & (labels <= max(CLASSES))
        labels = np.where(fits, labels, _NO_LABEL).astype(np.int8)
    return np.ascontiguousarray(labels)


_NO_LABEL: Final = 100
#: Class of every code, by its bits as uint8: 3 where there is no label, 4 where it is unknown.
_CLASS_OF: Final = np.full(256, N_PREDICTED, dtype=np.int8)
_CLASS_OF[np.array([*CLASSES, int(Label.UNTESTED)], np.int8).view(np.uint8)] = range(N_PREDICTED)


@checked
def scores_from_confusion(
    counts: NDArray[np.integer], *, labels: Averaged = "observed"
) -> dict[str, NDArray[np.float64]]:
    """Compute the classification scores from confusion matrices (method F).

    Averages are over the classes that occur in the truth. One that does not can't be found, and its
    F1 would be 0 for everyone, whoever is right about it: the truth itself would score 2/3. Calling
    it all the same still costs, as these pairs are missing from the classes that they are of.
    Where the truth has one class only, whatever always says that class is perfect, so there is
    nothing to be told from balanced accuracy, macro F1 or MCC: they are NaN.

    Parameters
    ----------
    counts
        Confusion matrices, shape (..., 3, 3) or (..., 3, 4) as of :func:`confusion`.
    labels
        Over which classes ``macro_f1`` averages: ``"observed"``, those that occur in the truth. For
        comparison with figures that were computed so, and with zeros in place of NaN:
        ``"fixed"``, all three; ``"present"``, those that occur in truth or prediction
        (scikit-learn's default).

    Returns
    -------
    dict of str to ndarray of float64
        ``accuracy``, ``balanced_accuracy``, ``macro_f1`` and ``mcc`` of shape (...);
        ``precision``, ``recall``, ``f1`` and ``support`` of shape (..., 3), of which the first
        three are NaN for a class that does not occur in the truth, and 0 for one that is never
        predicted. All but the last are NaN where there is no pair at all. The truth as a prediction
        has 1 wherever a score is defined.

    Raises
    ------
    ArgumentError
        If `labels` is none of the three.

    References
    ----------
    Gorodkin (2004), https://doi.org/10.1016/j.compbiolchem.2004.09.006

    Examples
    --------
    >>> counts = np.array([[8, 2, 0], [5, 80, 5], [0, 4, 6]])
    >>> scores = ps.evaluation.scores_from_confusion(counts)
    >>> {name: round(float(scores[name]), 3) for name in ("accuracy", "macro_f1", "mcc")}
    {'accuracy': 0.855, 'macro_f1': 0.725, 'mcc': 0.576}
    """
    if labels not in get_args(Averaged):
        raise ArgumentError(f"labels={labels!r} is unknown; use 'observed', 'fixed' or 'present'")
    cells = np.asarray(counts, dtype=np.float64)
    hits = np.diagonal(cells, axis1=-2, axis2=-1)
    support = cells.sum(axis=-1)
    predicted = cells.sum(axis=-2)
    per_class = predicted[..., : len(CLASSES)]
    total = support.sum(axis=-1)
    there = support > 0
    recall = _ratio(hits, support)
    f1 = _ratio(2 * hits, support + per_class)
    averaged = {
        "observed": there,
        "fixed": np.ones_like(there),
        "present": support + per_class > 0,
    }[labels]
    scores = {
        "balanced_accuracy": _ratio(recall.sum(axis=-1), there.sum(axis=-1)),
        "macro_f1": _ratio((f1 * averaged).sum(axis=-1), averaged.sum(axis=-1)),
        "mcc": _matthews(hits.sum(axis=-1), support, predicted, total),
    }
    of_class = {"precision": _ratio(hits, per_class), "recall": recall, "f1": f1}
    if labels == "observed":
        several = there.sum(axis=-1) > 1
        scores = {name: np.where(several, value, np.nan) for name, value in scores.items()}
        of_class = {name: np.where(there, value, np.nan) for name, value in of_class.items()}
    scores["accuracy"] = _ratio(hits.sum(axis=-1), total)
    scores = {name: np.where(total > 0, value, np.nan) for name, value in scores.items()}
    return scores | of_class | {"support": support}


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
