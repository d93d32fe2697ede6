"""Predicted changes of expression, which become classes: of a fitted model, or of a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import xarray as xr

from pertscale.baselines import ExpressionMethod, ExpressionModel
from pertscale.baselines.expression.base import rows_of
from pertscale.benchmark.units.learned import Vectors, opened
from pertscale.benchmark.units.portable import Portable
from pertscale.benchmark.units.profiles import Profiles
from pertscale.errors import InputError
from pertscale.predictions.predictions import AlignedPredictions
from pertscale.schema import CONTROL, GENE

#: Pairs that a model predicts at a time, as float64.
_STRIP_PAIRS = 2_000_000


class Changes(Protocol):
    """What changes of expression come from; it is kept as long as there are units."""

    def fitted(self) -> FittedChanges:
        """Return it ready to predict, with all that this needs in memory."""


class FittedChanges(Protocol):
    """Changes from control, by perturbation and gene."""

    def __call__(self, names: Sequence[str]) -> np.ndarray:
        """Return the changes of perturbations, (n, gene), float32; NaN where there are none."""

    def params(self) -> dict[str, Any]:
        """Return the parameters of what predicts them, for the record."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ModelChanges(Portable):
    """Changes that a model predicts.

    Attributes
    ----------
    method : ExpressionMethod
    profiles : Profiles
    embedding : Vectors or str, optional
        For a method that needs one; or why there is none.
    targets : dict of str to sequence of str
        Genes that each perturbation targets.
    seed : int
    """

    method: ExpressionMethod
    profiles: Profiles
    embedding: Vectors | str | None
    targets: Mapping[str, Sequence[str]]
    seed: int

    def fitted(self) -> FittedChanges:
        """Fit the model; it may hold all profiles."""
        if isinstance(self.embedding, str):
            raise InputError(self.embedding)
        train, vectors = self.profiles.train(), self.embedding
        model = self.method.fit(
            train,
            seed=self.seed,
            embedding=None if vectors is None else opened(vectors),
            targets=self.targets,
            components=partial(self.profiles.components, train),
        )
        return _ChangesOfModel(model, self.profiles.observed())


@dataclass(frozen=True, eq=False)
class _ChangesOfModel:
    """Predicted profiles less the observed one of the control."""

    model: ExpressionModel
    observed: xr.DataArray

    def __call__(self, names: Sequence[str]) -> np.ndarray:
        genes = self.observed[GENE].values.astype(object)
        control = rows_of(self.observed, [CONTROL]).values[0]
        changes = np.empty((len(names), len(genes)), np.float32)
        step = max(1, _STRIP_PAIRS // len(genes))
        for start in range(0, len(names), step):
            strip = slice(start, start + step)
            predicted = self.model.predict(names[strip])
            if not np.array_equal(predicted[GENE].values, genes):
                predicted = predicted.reindex({GENE: genes})
            np.subtract(predicted.values, control, out=changes[strip], casting="same_kind")
        return changes

    def params(self) -> dict[str, Any]:
        return self.model.fitted_params()


@dataclass(frozen=True, eq=False)
class FileChanges:
    """Changes from the control, (n_genes,), that a file predicts."""

    predictions: AlignedPredictions
    control: np.ndarray

    def fitted(self) -> FittedChanges:
        """Return itself."""
        return self

    def __call__(self, names: Sequence[str]) -> np.ndarray:
        """Return predicted profiles less the control's."""
        return self.predictions.profiles(names) - self.control.astype(np.float32)

    def params(self) -> dict[str, Any]:
        """Return what is recorded of the file."""
        return self.predictions.params()
