"""What the name of a perturbation tells, and nothing else: its target changes (method O4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pertscale.arguments import checked
from pertscale.baselines.expression.base import ExpressionModel, blocks, mean_profile, row_of
from pertscale.errors import ArgumentError, InputError
from pertscale.evaluation.target_genes import own_targets
from pertscale.schema import CONTROL


@checked
class LabelOnly(ExpressionModel):
    """Predict that the target changes as targets did in training, and nothing else does.

    A floor: it knows which gene a perturbation is named after, and no biology. Where targets are
    left out of scores it has to score like what it stands on.

    Parameters
    ----------
    on : {'control', 'mean'}
        What all other genes are: the control's, or the mean over training perturbations.
    targets : mapping of str to sequence of str, optional
        Genes that each perturbation targets (``screen.targets``); by default as its name says.

    Attributes
    ----------
    share_ : float
        Median over the targets of training perturbations that the control expresses: mean log1p
        expression over that of the control. 1 without any.

    Examples
    --------
    >>> profiles = xr.DataArray(
    ...     [[1.0, 2.0, 0.5], [1.0, 0.5, 0.5], [0.75, 2.0, 0.5]],
    ...     dims=("perturbation", "gene"),
    ...     coords={
    ...         "perturbation": ["control", "KLF1", "GATA1"],
    ...         "gene": ["GATA1", "KLF1", "TP53"],
    ...     },
    ... )
    >>> model = ps.baselines.LabelOnly().fit(profiles)
    >>> model.share_  # KLF1 keeps a quarter, GATA1 three
    0.5
    >>> model.predict(["TP53"]).values
    array([[1.  , 2.  , 0.25]])
    """

    def __init__(
        self, *, on: str = "control", targets: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        self.on = on
        self.targets = targets

    def fitted_params(self) -> dict[str, Any]:
        """Return what the others stand on, and how far targets change."""
        return {"on": self.on, "share": self.share_}

    def _fit(self, profiles: xr.DataArray, names: list[str]) -> None:
        if self.on not in ("control", "mean"):
            raise ArgumentError(f"on={self.on!r} is not one of control, mean")
        self._control = row_of(profiles, names.index(CONTROL))
        trained = [i for i, name in enumerate(names) if name != CONTROL]
        self._base = self._control
        if self.on == "mean":
            if not trained:
                raise InputError("there is no training perturbation to take the mean of")
            self._base = mean_profile(profiles, trained)
        own = self._own([names[i] for i in trained]) & (self._control > 0)
        with_target = np.flatnonzero(own.any(axis=1))
        shares = [np.ones(0)]
        for at, block in blocks(profiles, [trained[i] for i in with_target]):
            mine = own[with_target[at]]
            shares.append((block / np.where(self._control > 0, self._control, 1.0))[mine])
        every = np.concatenate(shares)
        self.share_ = float(np.median(every)) if len(every) else 1.0

    def _own(self, names: Sequence[str]) -> NDArray[np.bool_]:
        return own_targets(names, self.genes_.tolist(), target_genes=self.targets)

    def _predict(self, names: list[str]) -> NDArray:
        return np.where(self._own(names), self.share_ * self._control, self._base)
