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
