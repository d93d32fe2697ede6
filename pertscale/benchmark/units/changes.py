"""Predicted changes of expression, which become classes: of a fitted model, or of a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np

from pertscale.baselines import ExpressionMethod, ExpressionModel
from pertscale.baselines.expression.base import rows_of
from pertscale.benchmark.units.learned import Vectors, opened
from pertscale.benchmark.units.portable import Portable, once
from pertscale.benchmark.units.profiles import Profiles
from pertscale.errors import InputError
from pertscale.predictions.predictions import AlignedPredictions
from pertscale.schema import CONTROL, GENE

#: Pairs that a model predicts at a time, as float64.
_STRIP_PAIRS = 2_000_000


class Changes(Protocol):
    """Changes from control, by perturbation and gene."""

    def __call__(self, names: Sequence[str]) -> np.ndarray:
        """Return the changes of perturbations, (n, gene), float32; NaN where there are none."""

    def params(self) -> dict[str, Any]:
        """Return the parameters of what predicts them, for the record."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ModelChanges(Portable):
    """Changes that a model predicts, which is fitted when it is first asked.

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

    @once
    def _model(self) -> ExpressionModel:
        if isinstance(self.embedding, str):
            raise InputError(self.embedding)
        train, vectors = self.profiles.train(), self.embedding
        return self.method.fit(
            train,
            seed=self.seed,
            embedding=None if vectors is None else opened(vectors),
            targets=self.targets,
            components=partial(self.profiles.components, train),
        )

    def __call__(self, names: Sequence[str]) -> np.ndarray:
        """Return predicted profiles less the control's; see :class:`Changes`."""
        observed = self.profiles.observed()
        genes = observed[GENE].values.astype(object)
        control = rows_of(observed, [CONTROL]).values[0]
        changes = np.empty((len(names), len(genes)), np.float32)
        step = max(1, _STRIP_PAIRS // len(genes))
        for start in range(0, len(names), step):
            strip = slice(start, start + step)
            predicted = self._model.predict(names[strip])
            if not np.array_equal(predicted[GENE].values, genes):
                predicted = predicted.reindex({GENE: genes})
            np.subtract(predicted.values, control, out=changes[strip], casting="same_kind")
        return changes

    def params(self) -> dict[str, Any]:
        """Return those of the fitted model."""
        return self._model.fitted_params()


@dataclass(frozen=True, eq=False)
class FileChanges:
    """Changes from the control, (n_genes,), that a file predicts."""

    predictions: AlignedPredictions
    control: np.ndarray

    def __call__(self, names: Sequence[str]) -> np.ndarray:
        """Return predicted profiles less the control's; see :class:`Changes`."""
        return self.predictions.profiles(names) - self.control.astype(np.float32)

    def params(self) -> dict[str, Any]:
        """Return what is recorded of the file."""
        return self.predictions.params()
