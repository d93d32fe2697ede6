"""Profiles that models of expression are fitted on and compared with, where a run has written them.

They are named, not held: a unit that is sent to a worker opens them there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from pertscale.baselines.expression.base import BLOCK_BYTES, blocks, rows_of
from pertscale.baselines.expression.linear import own_components
from pertscale.benchmark.units.held import held_arrays
from pertscale.benchmark.units.label_matrix import is_held
from pertscale.benchmark.units.portable import Portable, once
from pertscale.hashing import digest
from pertscale.schema import CONTROL, GENE, PERTURBATION
from pertscale.stats.pseudobulk import open_pseudobulk


class Profiles(Protocol):
    """The mean log1p expression that a unit is fitted on and compared with."""

    @property
    def shape(self) -> tuple[int, int]:
        """Training perturbations and genes."""

    @property
    def key(self) -> str:
        """Hash of all of it."""

    def train(self) -> xr.DataArray:
        """Return the profiles to fit on, (perturbation, gene), the control among them."""

    def observed(self) -> xr.DataArray:
        """Return the context's own profiles, (perturbation, gene), its control among them."""

    def components(self, train: xr.DataArray) -> np.ndarray:
        """Return the principal components of genes, (gene, dim), over the profiles to fit on."""

    @property
    def n_bytes(self) -> int:
        """What :meth:`train` holds, beside what units share."""


class Components(Protocol):
    """Principal components that several units share; those of :class:`LearnedVectors`."""

    @property
    def matrix(self) -> np.ndarray:
        """The components, (gene, dim)."""


@dataclass(frozen=True, eq=False)
class ContextProfiles(Portable):
    """Mean log1p expression (perturbation, gene) of a context, its control among the rows.

    Attributes
    ----------
    folder : Path
        Of the run that has made them.
    context : str
    n_genes : int
    key : str
        Hash of the labels, which are made in the same pass.
    """

    folder: Path
    context: str
    n_genes: int
    key: str

    @property
    def values(self) -> xr.DataArray:
        """The profiles; many of them are read when they are asked for.

        Few are held for a while. Those that are picked of them are copied as late as those that are
        read: a model takes them block by block.
        """
        lazy = self.lazy
        if not is_held(lazy.nbytes // 2):
            return lazy
        key = "profiles", self.folder, self.context, self.key
        # of a view: xarray keeps what it has read of an array in that array
        values = held_arrays.get(key, lazy.nbytes, lambda: lazy[...].values)
        held = xr.Variable(lazy.dims, indexing.LazilyIndexedArray(_Held(values)))
        return xr.DataArray(held, lazy.coords, name=lazy.name)

    @once
    def lazy(self) -> xr.DataArray:
        """The same, read each time that they are asked for."""
        return open_pseudobulk(self.folder, context=self.context, dask=False)["mean_log1p"]


class _Held(BackendArray):
    """A matrix in memory, of which xarray copies rows and columns when their values are needed."""

    def __init__(self, values: np.ndarray) -> None:
        self._values = values
        self.shape, self.dtype = values.shape, values.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> np.ndarray:
        outer = indexing.IndexingSupport.OUTER
        return np.asarray(
            indexing.explicit_indexing_adapter(key, self.shape, outer, self._rows_and_columns)
        )

    def _rows_and_columns(self, key: tuple[Any, ...]) -> np.ndarray:
        rows, columns = key
        found = np.asarray(self._values[rows][..., columns])
        return found.copy() if np.may_share_memory(found, self._values) else found


@dataclass(frozen=True, eq=False)
class OwnProfiles:
    """Profiles of the context that is predicted, of which some are trained on.

    Attributes
    ----------
    own : ContextProfiles
    training : tuple of str
    shared : Components, optional
        Of these and the control; None if they are too few for any.
    """

    own: ContextProfiles
    training: tuple[str, ...]
    shared: Components | None

    @property
    def shape(self) -> tuple[int, int]:
        """Training perturbations and genes."""
        return len(self.training), self.own.n_genes

    @property
    def key(self) -> str:
        """Hash of all profiles."""
        return self.own.key

    def train(self) -> xr.DataArray:
        """Return those of the control and the training perturbations."""
        return rows_of(self.own.values, [CONTROL, *self.training])

    def observed(self) -> xr.DataArray:
        """Return all of them."""
        return self.own.values

    def components(self, train: xr.DataArray) -> np.ndarray:
        """Return the shared ones."""
        return self.shared.matrix if self.shared is not None else own_components(train)

    @property
    def n_bytes(self) -> int:
        """Nothing: they are picked of the context's when they are asked for."""
        return 0


@dataclass(frozen=True, eq=False)
class SourceProfiles:
    """Profiles of another context, and where the genes of the predicted one are among its genes.

    Attributes
    ----------
    name : str
        Of the context, in score tables.
    profiles : ContextProfiles
    position : ndarray of intp, (n_genes,)
        Position of each gene that is predicted, -1 where the source does not read it out.
    """

    name: str
    profiles: ContextProfiles
    position: np.ndarray


@dataclass(frozen=True, eq=False)
class TransferProfiles:
    """Profiles of the sources as training profiles of a target.

    The effect of a perturbation in the sources, put on the target's own control, is a training
    profile of the target; where several sources have it, the mean of their effects. Genes that a
    source does not read out are unchanged in it.

    Attributes
    ----------
    own : ContextProfiles
        Of the target.
    sources : tuple of SourceProfiles
    names : dict of str to list of (int, str)
        Perturbation in the target's spelling → numbers of sources, and its name there.
    """

    own: ContextProfiles
    sources: tuple[SourceProfiles, ...]
    names: Mapping[str, Sequence[tuple[int, str]]]

    @property
    def shape(self) -> tuple[int, int]:
        """Training perturbations and genes."""
        return len(self.names), self.own.n_genes

    @property
    def key(self) -> str:
        """Hash of all profiles."""
        keys = [source.profiles.key for source in self.sources]
        listed = {
            name: [self.sources[i].name + theirs for i, theirs in where]
            for name, where in self.names.items()
        }
        return digest(self.own.key, keys, listed, *[source.position for source in self.sources])

    def observed(self) -> xr.DataArray:
        """Return the target's own profiles."""
        return self.own.values

    def components(self, train: xr.DataArray) -> np.ndarray:
        """Return those of `train`."""
        return own_components(train)

    @property
    def n_bytes(self) -> int:
        """All of them, and a block of a source's."""
        n_rows, n_genes = self.shape
        return 8 * (1 + n_rows) * n_genes + BLOCK_BYTES

    def train(self) -> xr.DataArray:
        """Return the training profiles, the target's control first; in memory, float64.

        Those of the sources pass in blocks: all of several would fill what units hold together.
        """
        observed = self.observed()
        control = rows_of(observed, [CONTROL]).values[0]
        values = np.tile(control, (1 + len(self.names), 1))
        row_of = {name: i + 1 for i, name in enumerate(self.names)}
        for number, source in enumerate(self.sources):
            trained = [(n, name) for name, of in self.names.items() for i, n in of if i == number]
            profiles = source.profiles.lazy
            covered = np.flatnonzero(source.position >= 0)
            columns = source.position[covered]
            own = rows_of(profiles, [CONTROL]).values[0][columns]
            chosen = rows_of(profiles, [n for n, _ in trained])
            for rows, block in blocks(chosen, range(len(trained))):
                for (_, name), profile in zip(trained[rows], block, strict=True):
                    effect = profile[columns] - own
                    values[row_of[name], covered] += effect / len(self.names[name])
        return xr.DataArray(
            values,
            dims=(PERTURBATION, GENE),
            coords={
                PERTURBATION: np.array([CONTROL, *self.names], object),
                GENE: observed[GENE].values.astype(object),
            },
        )
