"""What models of expression share: their interface, checks, and the walk over profiles.

Models are fitted on the pseudobulk profiles of the training perturbations, an ``xarray.DataArray``
over (perturbation, gene) with the control among the perturbations, and predict the profiles of
perturbations by their names. What a model can't predict is a row of NaN.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Final, Self

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from pertscale.errors import InputError, NotFittedError
from pertscale.schema import CONTROL, GENE, PERTURBATION

#: Profiles that are in memory at a time, as float64; lazy ones may be larger than memory.
BLOCK_BYTES: Final = 16_000_000


class ExpressionModel(BaseEstimator, ABC):
    """Base of the models of expression, following scikit-learn's conventions.

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
    def _predict(self, names: list[str]) -> NDArray:
        """Return (perturbation, gene)."""


def row_of(profiles: xr.DataArray, at: int) -> np.ndarray:
    """Return one profile, float64; refuse values that are not finite."""
    return next(block for _, block in blocks(profiles, [at]))[0]


def mean_profile(profiles: xr.DataArray, chosen: Sequence[int]) -> np.ndarray:
    """Return the mean of some profiles, float64."""
    total = np.zeros(profiles.shape[1])
    for _, block in blocks(profiles, chosen):
        total += block.sum(axis=0)
    return total / len(chosen)


def blocks(profiles: xr.DataArray, chosen: Sequence[int]) -> Iterator[tuple[slice, NDArray]]:
    """Yield ranges of the chosen rows and their profiles, float64, a part at a time.

    The arrays are the caller's to change. Raises InputError for values that are not finite.
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


def rows_of(profiles: xr.DataArray, names: Sequence[str]) -> xr.DataArray:
    """Return the profiles of some perturbations."""
    at = pd.Index(profiles[PERTURBATION].values.astype(str)).get_indexer(list(names))
    return profiles.isel({PERTURBATION: at})
