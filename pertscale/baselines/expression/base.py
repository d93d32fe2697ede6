"""Deliberately simple models of expression: no change, mean, additive (SPEC H1-H3).

Models are fitted on the pseudobulk profiles of the training perturbations, an ``xarray.DataArray``
over (perturbation, gene) with the control among the perturbations, and predict the profiles of
perturbations by their names. What a model can't predict is a row of NaN.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Self

import numpy as np
import pandas as pd
import xarray as xr
from sklearn.base import BaseEstimator

from pertscale import perturbation_names
from pertscale.arguments import checked
from pertscale.errors import ArgumentError, InputError, NotFittedError
from pertscale.schema import CONTROL, GENE, PERTURBATION

Matrix = np.ndarray

#: Profiles that are in memory at a time, as float64; lazy ones may be larger than memory.
BLOCK_BYTES: Final = 64_000_000


class ExpressionModel(BaseEstimator, ABC):
    """Base of the models of expression, after the manners of scikit-learn.

    Attributes
    ----------
    genes_ : ndarray of str, shape (n_genes,)
        Genes that are predicted.
    """

    genes_: np.ndarray

    def fit(self, profiles: xr.DataArray) -> Self:
        """Fit the model.

        Parameters
        ----------
        profiles : DataArray (perturbation, gene)
            Mean log1p expression of the training perturbations, the control among them. NumPy or
            Dask.

        Returns
        -------
        Self

        Raises
        ------
        InputError
            If the control is not there, a name occurs twice, or values are not finite.
        """
        names, genes = _checked_names(profiles)
        self.genes_ = genes
        self._fit(profiles.transpose(PERTURBATION, GENE), names)
        return self

    def predict(self, perturbations: Sequence[str]) -> xr.DataArray:
        """Return predicted profiles, float64 (perturbation, gene); NaN where there is none.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        """
        if not hasattr(self, "genes_"):
            raise NotFittedError(f"{type(self).__name__} is not fitted; call fit(profiles) first")
        names = [str(n) for n in perturbations]
        return xr.DataArray(
            self._predict(names),
            dims=(PERTURBATION, GENE),
            coords={PERTURBATION: np.array(names, object), GENE: self.genes_},
            name="prediction",
        )

    def fitted_params(self) -> dict[str, Any]:
        """Return the parameters, for the record of a run."""
        return dict(self.get_params(deep=False))

    @abstractmethod
    def _fit(self, profiles: xr.DataArray, names: list[str]) -> None:
        """Learn from checked profiles."""

    @abstractmethod
    def _predict(self, names: list[str]) -> Matrix:
        """Return (perturbation, gene)."""


@checked
class NoChange(ExpressionModel):
    """Predict the control for every perturbation (SPEC H1)."""

    def _fit(self, profiles: xr.DataArray, names: list[str]) -> None:
        self._control = row_of(profiles, names.index(CONTROL))

    def _predict(self, names: list[str]) -> Matrix:
        return np.broadcast_to(self._control, (len(names), len(self._control))).copy()


@checked
class MeanExpression(ExpressionModel):
    """Predict the mean over the training conditions, each counting once (SPEC H3).

    Parameters
    ----------
    over : {'conditions', 'perturbations'}
        'conditions' counts the control in, as the second paper does; 'perturbations' does not.
    """

    def __init__(self, *, over: str = "conditions") -> None:
        self.over = over

    def _fit(self, profiles: xr.DataArray, names: list[str]) -> None:
        if self.over not in ("conditions", "perturbations"):
            raise ArgumentError(f"over={self.over!r} is not one of conditions, perturbations")
        chosen = [i for i, n in enumerate(names) if self.over == "conditions" or n != CONTROL]
        if not chosen:
            raise InputError("there is no training perturbation to take the mean of")
        self._mean = mean_profile(profiles, chosen)

    def _predict(self, names: list[str]) -> Matrix:
        return np.broadcast_to(self._mean, (len(names), len(self._mean))).copy()


@checked
class Additive(ExpressionModel):
    """Add the changes of the single perturbations to the control (SPEC H2).

    For any number of genes; a training single predicts itself. A combination with a gene whose
    single perturbation is not in the training part has no prediction.

    Parameters
    ----------
    targets : mapping of str to sequence of str, optional
        Genes that each perturbation targets (``screen.targets``), where names are those of guides:
        two guides of a gene count once, by the guide itself where that is trained on, else by the
        mean over the guides of the gene. By default a name's parts are its targets.
    """

    def __init__(self, *, targets: Mapping[str, Sequence[str]] | None = None) -> None:
        self.targets = targets

    def fitted_params(self) -> dict[str, Any]:
        """Return nothing: the only parameter is the screen's."""
        return {}

    def _targets_of(self, name: str) -> tuple[str, ...]:
        return tuple((self.targets or {}).get(name, perturbation_names.targets(name)))

    def _fit(self, profiles: xr.DataArray, names: list[str]) -> None:
        self._profiles = profiles  # read when they are asked for
        self._control = row_of(profiles, names.index(CONTROL))
        self._row: dict[str, int] = {}
        self._guides: dict[str, list[int]] = {}
        for i, name in enumerate(names):
            found = self._targets_of(name)
            if len(found) == 1:
                self._row[name] = i
                self._guides.setdefault(found[0], []).append(i)

    def _rows(self, name: str) -> list[list[int]] | None:
        """Return the training rows of each target of a perturbation; None if one has none."""
        own = {t: self._row[t] for t in (name, *perturbation_names.targets(name)) if t in self._row}
        guides: dict[str, list[int]] = {}
        for guide, row in own.items():
            guides.setdefault(self._targets_of(guide)[0], []).append(row)
        rows = [guides.get(t) or self._guides.get(t, []) for t in self._targets_of(name)]
        return rows if all(rows) else None

    def _predict(self, names: list[str]) -> Matrix:
        out = np.full((len(names), len(self._control)), np.nan)
        added: dict[int, list[tuple[int, float]]] = {}
        for i, name in enumerate(names):
            rows = self._rows(name)
            if rows is None:
                continue
            out[i] = self._control
            for row, weight in ((row, 1 / len(mine)) for mine in rows for row in mine):
                added.setdefault(row, []).append((i, weight))
        needed = list(added)
        for at, block in blocks(self._profiles, needed):
            for row, profile in zip(needed[at], block, strict=True):
                change = profile - self._control
                for i, weight in added[row]:
                    out[i] += change * weight
        return out


def row_of(profiles: xr.DataArray, at: int) -> np.ndarray:
    """Return one profile, float64; refuse values that are not finite."""
    return next(block for _, block in blocks(profiles, [at]))[0]


def mean_profile(profiles: xr.DataArray, chosen: Sequence[int]) -> np.ndarray:
    """Return the mean of some profiles, float64."""
    total = np.zeros(profiles.shape[1])
    for _, block in blocks(profiles, chosen):
        total += block.sum(axis=0)
    return total / len(chosen)


def blocks(profiles: xr.DataArray, chosen: Sequence[int]) -> Iterator[tuple[slice, Matrix]]:
    """Yield ranges of the chosen rows and their profiles, float64, a part at a time.

    Raises InputError for values that are not finite.
    """
    step = max(1, BLOCK_BYTES // (8 * max(1, profiles.shape[1])))
    for start in range(0, len(chosen), step):
        at = slice(start, min(start + step, len(chosen)))
        part = list(chosen[at])
        values = np.asarray(profiles[part].values, np.float64)
        if not np.isfinite(values).all():
            i, gene = np.argwhere(~np.isfinite(values))[0]
            raise InputError(
                f"the profile of {str(profiles[PERTURBATION].values[part[i]])!r} is "
                f"{values[i, gene]} for gene {str(profiles[GENE].values[gene])!r}; training "
                "profiles have to be finite"
            )
        yield at, values


def _checked_names(profiles: xr.DataArray) -> tuple[list[str], np.ndarray]:
    if set(profiles.dims) != {PERTURBATION, GENE}:
        raise InputError(
            f"profiles have dimensions {profiles.dims}, needed are ({PERTURBATION}, {GENE})"
        )
    names = [str(n) for n in profiles[PERTURBATION].values]
    twice = pd.Index(names).duplicated()
    if twice.any():
        raise InputError(f"profiles have {names[int(np.argmax(twice))]!r} twice; give it once")
    if CONTROL not in names:
        raise InputError(
            f"profiles have no row {CONTROL!r}; every model needs the control, beside the training "
            "perturbations"
        )
    return names, profiles[GENE].values.astype(str).astype(object)
