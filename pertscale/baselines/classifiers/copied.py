"""What the same perturbation does in other contexts: its labels there."""

from __future__ import annotations

from functools import partial
from typing import Any

import dask
import numpy as np
from numpy.typing import ArrayLike, NDArray

from pertscale.arguments import checked
from pertscale.baselines.classifiers._votes import class_counts, class_shares
from pertscale.baselines.classifiers.base import LabelClassifier, PredictBlock
from pertscale.baselines.classifiers.neighbors import voted_labels
from pertscale.errors import ArgumentError, InputError
from pertscale.schema import CLASSES


@checked
class CopiedLabels(LabelClassifier):
    """Predict the label that the same perturbation has in the training contexts (method E4).

    Perturbations are identified by their targets: ``fit`` needs ``groups``, and ``predict`` takes
    such groups in place of vectors; the vectors in ``fit`` are ignored. Contexts vote where there
    are several; among equals Non-DE, then Up, then Down. Where no training context has a label, the
    gene's majority label is predicted.

    Examples
    --------
    >>> labels = np.array([[1, 0, -1], [1, 0, 0], [0, 0, -1]], np.int8)  # (perturbation, gene)
    >>> model = ps.baselines.CopiedLabels().fit(
    ...     np.empty((3, 0)), labels, groups=["GATA1", "KLF1", "GATA1"]  # two contexts have GATA1
    ... )
    >>> model.predict(["KLF1"])
    array([[1, 0, 0]], dtype=int8)
    """

    def _fit(self, X: NDArray[np.float64], y: Any, groups: ArrayLike | None) -> None:
        if groups is None:
            raise ArgumentError("labels are copied by the targets of perturbations; pass groups=")
        self._groups = np.asarray(groups)
        if self._groups.shape != (len(X),):
            raise InputError(
                f"groups has shape {self._groups.shape}, needed is the target of each of the "
                f"{len(X)} training perturbations"
            )
        self._labels = y.rechunk({0: -1}) if dask.is_dask_collection(y) else y

    def _asked(self, X: Any) -> NDArray[Any]:
        self._check_fitted()
        groups = np.asarray(X)
        if groups.ndim != 1:
            raise InputError(f"X has shape {groups.shape}; needed are targets of perturbations")
        return groups

    def _prepare(self, X: NDArray[Any]) -> tuple[Any, PredictBlock]:
        rows = [np.flatnonzero(self._groups == group) for group in X]
        return self._labels, partial(_copy, rows=rows)


def _copy(y: NDArray, genes: NDArray, *, rows: list[NDArray[np.intp]]) -> tuple[NDArray, NDArray]:
    counts = class_counts(y)
    votes = np.stack(
        [np.stack([(y[same] == code).sum(axis=0) for same in rows]) for code in CLASSES]
    ).astype(np.float64)
    shares = np.where(votes.any(axis=0), class_shares(votes), class_shares(counts)[:, None, :])
    return voted_labels(votes, counts), np.moveaxis(shares, 0, -1)
