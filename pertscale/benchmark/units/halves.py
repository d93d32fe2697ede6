"""What was measured on halves of the cells of a context, where a run has written it.

It is named, not held: a unit that is sent to a worker opens it there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from pertscale.baselines.expression.base import rows_of
from pertscale.benchmark.units.label_matrix import GENE_CHUNK, is_held
from pertscale.benchmark.units.portable import Portable, once
from pertscale.io.guards.damage import file_errors
from pertscale.schema import GENE, HALF, PERTURBATION, REPLICATE
from pertscale.stats.halves import open_first_halves
from pertscale.stats.labels.table import REMEDY
from pertscale.stats.pseudobulk import open_pseudobulk


@dataclass(frozen=True, eq=False)
class Direction:
    """One half of the cells as what is known, and the other as what is measured (method R3).

    Attributes
    ----------
    known, measured : int
        The halves, 0 and 1.
    change : ndarray (perturbation, gene)
        Of the known half, from its own half of the controls.
    control : ndarray (gene,)
        Of the measured half: what a known change is put on, so that both share no noise.
    truth : ndarray (perturbation, gene)
        Profiles of the measured half.
    """

    known: int
    measured: int
    change: np.ndarray
    control: np.ndarray
    truth: np.ndarray

    @property
    def replicate(self) -> np.ndarray:
        """What the known half predicts of the measured one, (perturbation, gene)."""
        return np.asarray(self.control + self.change)


def both_directions(means: np.ndarray, controls: np.ndarray) -> Iterator[Direction]:
    """Yield each half as a prediction of the other one.

    Parameters
    ----------
    means : ndarray (half, perturbation, gene)
        Mean log1p expression.
    controls : ndarray (half, gene)
    """
    for known, measured in ((0, 1), (1, 0)):
        change = means[known] - controls[known]
        yield Direction(known, measured, change, controls[measured], means[measured])


@dataclass(frozen=True)
class ContextHalves(Portable):
    """Halves of the cells of a context.

    Attributes
    ----------
    folder : Path
        Of the run that has made them.
    context : str
    n_replicates : int
        Ways to halve the cells.
    key : str
        Hash of the labels, which are made in the same pass.
    left_out : frozenset of str
        Perturbations that the run leaves out.
    """

    folder: Path
    context: str
    n_replicates: int
    key: str
    left_out: frozenset[str] = frozenset()

    def labels(self, half: int, names: Sequence[str], genes: Sequence[str]) -> tuple[Any, Any]:
        """Return labels and statistics of a half of the first way, (perturbation, gene).

        Those of many are Dask arrays. They are -128 and NaN where a perturbation has no halves.
        """
        opened = self._first if is_held(len(names) * len(genes)) else self._lazy
        at = pd.Index(self._first[GENE].values.astype(str)).get_indexer(list(genes))
        label, z = (
            rows_of(opened[name].isel({HALF: half}), names)[:, at] for name in ("label", "z")
        )
        if opened is self._first:
            with file_errors(str(self.folder), remedy=REMEDY):
                return label.values, z.values
        return label.data.rechunk((-1, GENE_CHUNK)), z.data.rechunk((-1, GENE_CHUNK))

    def means(
        self, replicate: int, names: Sequence[str], genes: np.ndarray, whole: np.ndarray
    ) -> np.ndarray:
        """Return mean log1p expression over both halves, (half, perturbation, gene).

        Parameters
        ----------
        replicate : int
        names : sequence of str
        genes : ndarray of int
            Positions.
        whole : ndarray (perturbation, gene)
            Means over all cells.

        Returns
        -------
        ndarray
            NaN where a perturbation has no halves.
        """
        first = self._values("mean_log1p_first", names, genes, {REPLICATE: replicate})
        n_first, n_second = self.n_cells(names)[replicate][..., None]
        with np.errstate(invalid="ignore", divide="ignore"):
            second = (whole * (n_first + n_second) - first * n_first) / n_second
        return np.stack([first, second])

    def variances(self, names: Sequence[str], genes: np.ndarray) -> np.ndarray:
        """Return the variances of log1p expression over all cells, (perturbation, gene)."""
        return self._values("variance_log1p", names, genes)

    def n_cells(self, names: Sequence[str]) -> np.ndarray:
        """Return the cells of each half, (replicate, half, perturbation); 0 without halves."""
        return self._n_cells[:, :, self._index.get_indexer(list(names))]

    def sizes(self, names: Sequence[str]) -> np.ndarray:
        """Return the cells of each perturbation, whether it has halves or not."""
        return self._sizes[self._index.get_indexer(list(names))]

    def _values(
        self, name: str, names: Sequence[str], genes: np.ndarray, at: dict[str, int] | None = None
    ) -> np.ndarray:
        chosen = rows_of(self._first[name].isel(at or {}), names)[:, genes]
        with file_errors(str(self.folder), remedy=REMEDY):
            return chosen.values.astype(np.float64)

    @once
    def _first(self) -> xr.Dataset:
        return open_first_halves(self.folder, context=self.context)

    @once
    def _lazy(self) -> xr.Dataset:
        return open_first_halves(self.folder, context=self.context, dask=True)

    @once
    def _index(self) -> pd.Index:
        return pd.Index(self._first[PERTURBATION].values.astype(str))

    @once
    def _n_cells(self) -> np.ndarray:
        with file_errors(str(self.folder), remedy=REMEDY):
            return np.asarray(self._first["n_cells"].values)

    @once
    def _sizes(self) -> np.ndarray:
        opened = open_pseudobulk(self.folder, context=self.context, dask=False)
        with file_errors(str(self.folder), remedy=REMEDY):
            return np.asarray(opened["n_cells"].values)
