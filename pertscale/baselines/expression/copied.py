"""The change of the same perturbation in another context (method H9)."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pertscale.arguments import checked
from pertscale.baselines.expression.base import ExpressionModel, blocks
from pertscale.schema import CONTROL


@checked
class CopiedEffect(ExpressionModel):
    """Predict the training profile of the same name: its effect elsewhere on the own control.

    Perturbations that the training contexts do not have are not predicted.

    Examples
    --------
    >>> profiles = xr.DataArray(
    ...     [[1.0, 2.0, 0.5], [1.5, 2.0, 0.5], [1.0, 1.0, 0.5]],
    ...     dims=("perturbation", "gene"),
    ...     coords={"perturbation": ["control", "GATA1", "KLF1"], "gene": ["HBG1", "ACTB", "TP53"]},
    ... )
    >>> ps.baselines.CopiedEffect().fit(profiles).predict(["KLF1", "TP53"]).values
    array([[1. , 1. , 0.5],
           [nan, nan, nan]])
    """

    def _fit(self, profiles: xr.DataArray, names: list[str]) -> None:
        self._profiles = profiles
        self._row = {name: i for i, name in enumerate(names) if name != CONTROL}

    def _predict(self, names: list[str]) -> NDArray:
        out = np.full((len(names), self._profiles.shape[1]), np.nan)
        known = [i for i, name in enumerate(names) if name in self._row]
        for at, block in blocks(self._profiles, [self._row[names[i]] for i in known]):
            out[known[at]] = block
        return out
