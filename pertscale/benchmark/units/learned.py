"""Vectors of genes that are learned from training profiles: named by these, made once, and kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr

from pertscale.baselines.expression.base import BLOCK_BYTES, blocks, rows_of
from pertscale.benchmark.units.kept import is_kept, keeping
from pertscale.benchmark.units.portable import Portable, once
from pertscale.benchmark.units.profiles import ContextProfiles
from pertscale.embeddings.components import principal_scores
from pertscale.embeddings.embedding import Embedding
from pertscale.hashing import digest
from pertscale.io.zarr_datasets import COMPRESSORS
from pertscale.schema import GENE, PERTURBATION


@dataclass(frozen=True, eq=False)
class TrainingProfiles:
    """Profiles of a context that vectors are learned from.

    Attributes
    ----------
    profiles : ContextProfiles
    names : tuple of str
        Conditions, the control among them.
    position : ndarray of intp, optional
        Position of each gene in the profiles; None for all of them.
    """

    profiles: ContextProfiles
    names: tuple[str, ...]
    position: np.ndarray | None = None

    def values(self) -> xr.DataArray:
        """Return them, (perturbation, gene); many are read when they are asked for."""
        found = rows_of(self.profiles.values, self.names)
        return found if self.position is None else found.isel({GENE: self.position})

    @property
    def key(self) -> str:
        """Hash of what they are."""
        genes = "" if self.position is None else self.position
        return digest(self.profiles.key, self.profiles.context, list(self.names), genes)


@dataclass(frozen=True, eq=False)
class LearnedVectors(Portable):
    """Principal components of genes over training conditions (method H4.1).

    Tasks that need them read them from the folder of the run, and make them where they are not
    there.

    Attributes
    ----------
    parts : tuple of TrainingProfiles
    genes : tuple of str
    dim : int
    folder : Path
    """

    parts: tuple[TrainingProfiles, ...]
    genes: tuple[str, ...]
    dim: int
    folder: Path

    @once
    def hash(self) -> str:
        """Hash of all that they depend on."""
        return digest([part.key for part in self.parts], list(self.genes), self.dim)

    @property
    def path(self) -> Path:
        """Where they are kept."""
        return self.folder / f"{self.hash[:20]}.zarr"

    @property
    def name(self) -> str:
        """What they are called in tables: what they are learned from."""
        return "training"

    @property
    def n_bytes(self) -> int:
        """What is held while they are made: all profiles, and a block of them."""
        return 8 * len(self.genes) * sum(len(part.names) for part in self.parts) + BLOCK_BYTES

    def describe(self) -> str:
        """Name them in messages."""
        return "vectors of " + ", ".join(part.profiles.context for part in self.parts)

    def make(self) -> None:
        """Write them, unless that is done."""
        if is_kept(self.path):
            return
        with keeping(self.path) as temporary:
            matrix = self.matrix
            array: Any = zarr.create_array(
                temporary,
                shape=matrix.shape,
                chunks=matrix.shape,
                dtype=np.float64,
                compressors=COMPRESSORS,
            )
            array[:] = matrix

    @once
    def matrix(self) -> np.ndarray:
        """The vectors, (gene, dim), of genes in their order."""
        if is_kept(self.path):
            array: Any = zarr.open_array(self.path, mode="r")
            return np.asarray(array[:])
        return principal_scores(self._profiles(), self.dim)

    def embedding(self) -> Embedding:
        """Return them as an embedding."""
        provenance = {
            "read as": "principal components of genes over training conditions",
            "n_conditions": sum(len(part.names) for part in self.parts),
            "dim": self.dim,
        }
        return Embedding(self.name, self.genes, self.matrix, provenance)

    def _profiles(self) -> xr.DataArray:
        if len(self.parts) == 1:
            return self.parts[0].values()
        joined = np.empty((sum(len(part.names) for part in self.parts), len(self.genes)))
        end = 0
        for part in self.parts:
            start, end = end, end + len(part.names)
            for rows, block in blocks(part.values(), range(end - start)):
                joined[start:end][rows] = block
        return xr.DataArray(joined, dims=(PERTURBATION, GENE))


#: Vectors that are given, or learned.
Vectors = Embedding | LearnedVectors


def opened(vectors: Vectors) -> Embedding:
    """Return vectors as an embedding; learned ones are read, or made."""
    return vectors if isinstance(vectors, Embedding) else vectors.embedding()


def covered(
    vectors: Vectors,
    perturbations: Sequence[str],
    *,
    targets: Mapping[str, Sequence[str]] | None = None,
) -> np.ndarray:
    """Return which perturbations have a vector, (n,) bool; learned ones are not needed for that."""
    found = _of_names(vectors).vectors(perturbations, targets=targets)
    return np.asarray(np.isfinite(found).all(axis=1))


def any_covered(
    vectors: Vectors,
    perturbations: Sequence[str],
    *,
    targets: Mapping[str, Sequence[str]] | None = None,
) -> bool:
    """Return whether any perturbation has a vector."""
    vectors = _of_names(vectors)
    return any(covered(vectors, [name], targets=targets).all() for name in perturbations)


def _of_names(vectors: Vectors) -> Embedding:
    """Return vectors, or others in place of those that are still to be learned."""
    if isinstance(vectors, Embedding):
        return vectors
    return Embedding(vectors.name, vectors.genes, np.ones((len(vectors.genes), 1)))
