"""What the same perturbation does in other contexts: its labels there, its effect there."""

from __future__ import annotations

from functools import partial
from typing import Any

import dask
import numpy as np
from numpy.typing import NDArray

from pertscale.arguments import checked
from pertscale.baselines.classifiers._votes import class_counts, class_shares
from pertscale.baselines.classifiers.base import Block, LabelClassifier, without_embedding
from pertscale.baselines.classifiers.neighbors import voted_labels
from pertscale.errors import InputError
from pertscale.schema import CLASSES


@checked
class CopiedLabels(LabelClassifier):
    """Predict the label that the same perturbation has in the training contexts.

    ``X`` holds one number per perturbation that says which one it is (NaN for none). Contexts vote
    where there are several; among equals Non-DE, then Up, then Down. Where no training context has
    a label, the gene's majority label is predicted.
    """

    def _fit(self, X: NDArray[np.float64], y: Any) -> None:
        if X.shape[1] != 1:
            raise InputError(
                f"X has {X.shape[1]} columns; one number says which perturbation it is"
            )
        self._codes = X[:, 0]
        self._labels = y.rechunk({0: -1}) if dask.is_dask_collection(y) else y

    def _plan(self, X: NDArray[np.float64]) -> tuple[Any, Block]:
        known = ~without_embedding(X)
        rows = [np.flatnonzero(self._codes == code) if ok else np.empty(0, np.intp)
                for code, ok in zip(X[:, 0], known, strict=True)]  # fmt: skip
        return self._labels, partial(_copy, rows=rows)


def _copy(y: NDArray, genes: NDArray, *, rows: list[NDArray[np.intp]]) -> tuple[NDArray, NDArray]:
    counts = class_counts(y)
    votes = np.stack(
        [np.stack([(y[mine] == code).sum(axis=0) for mine in rows]) for code in CLASSES]
    ).astype(np.float64)
    shares = np.where(votes.any(axis=0), class_shares(votes), class_shares(counts)[:, None, :])
    return voted_labels(votes, counts), np.moveaxis(shares, 0, -1)
