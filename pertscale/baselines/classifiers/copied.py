"""What the same perturbation does in other contexts: its labels there, its effect there."""

from __future__ import annotations

from functools import partial
from typing import Any

import dask
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pertscale.arguments import checked
from pertscale.baselines.classifiers._votes import class_counts, class_shares
from pertscale.baselines.classifiers.base import Block, LabelClassifier, without_embedding
from pertscale.baselines.classifiers.neighbors import voted_labels
from pertscale.baselines.expression.base import ExpressionModel, Matrix, blocks
from pertscale.errors import InputError
from pertscale.schema import CLASSES, CONTROL


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


@checked
class CopiedEffect(ExpressionModel):
    """Predict the training profile of the same name: its effect elsewhere on the own control.

    Perturbations that the training contexts do not have are not predicted.
    """

    def _fit(self, profiles: xr.DataArray, names: list[str]) -> None:
        self._profiles = profiles
        self._row = {name: i for i, name in enumerate(names) if name != CONTROL}

    def _predict(self, names: list[str]) -> Matrix:
        out = np.full((len(names), self._profiles.shape[1]), np.nan)
        known = [i for i, name in enumerate(names) if name in self._row]
        for at, block in blocks(self._profiles, [self._row[names[i]] for i in known]):
            out[known[at]] = block
        return out
