"""Models of expression that fit nothing, or a mean (method H1-H3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pertscale import perturbation_names
from pertscale.arguments import checked
from pertscale.baselines.expression.base import (
    ExpressionModel,
    blocks,
    mean_profile,
    row_of,
)
from pertscale.errors import ArgumentError, InputError
from pertscale.schema import CONTROL


@checked
class NoChange(ExpressionModel):
    """Predict the control for every perturbation (method H1).

    References
    ----------
    Ahlmann-Eltze, Huber and Anders (2025), https://doi.org/10.1038/s41592-025-02772-6

    Examples
    --------
    >>> profiles = xr.DataArray(
    ...     [[1.0, 2.0, 0.5], [1.5, 2.0, 0.5], [1.0, 1.0, 0.5]],
    ...     dims=("perturbation", "gene"),
    ...     coords={"perturbation": ["control", "GATA1", "KLF1"], "gene": ["HBG1", "ACTB", "TP53"]},
    ... )
    >>> ps.baselines.NoChange().fit(profiles).predict(["TP53"]).values
    array([[1. , 2. , 0.5]])
    """

    def _fit(self, profiles: xr.DataArray, names: list[str]) -> None:
        self._control = row_of(profiles, names.index(CONTROL))

    def _predict(self, names: list[str]) -> NDArray:
        return np.broadcast_to(self._control, (len(names), len(self._control))).copy()


@checked
class MeanExpression(ExpressionModel):
    """Predict the mean over the training conditions, each counting once (method H3).

    Parameters
    ----------
    over : {'conditions', 'perturbations'}
        'conditions' counts the control in, as the second paper does; 'perturbations' does not.

    References
    ----------
    Ahlmann-Eltze, Huber and Anders (2025), https://doi.org/10.1038/s41592-025-02772-6

    Examples
    --------
    >>> profiles = xr.DataArray(
    ...     [[1.0, 2.0, 0.5], [1.5, 2.0, 0.5], [1.0, 1.0, 0.5]],
    ...     dims=("perturbation", "gene"),
    ...     coords={"perturbation": ["control", "GATA1", "KLF1"], "gene": ["HBG1", "ACTB", "TP53"]},
    ... )
    >>> ps.baselines.MeanExpression(over="perturbations").fit(profiles).predict(["TP53"]).values
    array([[1.25, 1.5 , 0.5 ]])
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

    def _predict(self, names: list[str]) -> NDArray:
        return np.broadcast_to(self._mean, (len(names), len(self._mean))).copy()


@checked
class Additive(ExpressionModel):
    """Add the changes of the single perturbations to the control (method H2).

    For any number of genes; a training single predicts itself. A combination with a gene whose
    single perturbation is not in the training part has no prediction.

    Parameters
    ----------
    targets : mapping of str to sequence of str, optional
        Genes that each perturbation targets (``screen.targets``), where names are those of guides:
        two guides of a gene count once, by the guide itself where that is trained on, else by the
        mean over the guides of the gene. By default a name's parts are its targets.

    References
    ----------
    Ahlmann-Eltze, Huber and Anders (2025), https://doi.org/10.1038/s41592-025-02772-6

    Examples
    --------
    >>> profiles = xr.DataArray(
    ...     [[1.0, 2.0, 0.5], [1.5, 2.0, 0.5], [1.0, 1.0, 0.5]],
    ...     dims=("perturbation", "gene"),
    ...     coords={"perturbation": ["control", "GATA1", "KLF1"], "gene": ["HBG1", "ACTB", "TP53"]},
    ... )
    >>> ps.baselines.Additive().fit(profiles).predict(["GATA1+KLF1"]).values
    array([[1.5, 1. , 0.5]])
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

    def _predict(self, names: list[str]) -> NDArray:
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
