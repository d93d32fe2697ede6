"""Pairs of a perturbation and a gene as rows of features, a block at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Self

import dask
import dask.array as da
import numpy as np
from numpy.typing import NDArray

from pertscale._computing import compute
from pertscale.baselines.classifiers._kernels.shuffling import shuffle
from pertscale.schema import Label

#: Pairs whose labels are read and shuffled together.
WINDOW: Final = 2**20
#: Numbers in a block of features, 32 MB.
BLOCK: Final = 2**22


@dataclass(frozen=True)
class Scale:
    """Shifts and factors of features: variance 1 each, divided by the number of features."""

    mean: NDArray[np.float64]
    factor: NDArray[np.float64]

    @classmethod
    def of(cls, vectors: NDArray[np.float64], n_features: int) -> Self:
        """Return the scale of vectors that are finite; columns that do not vary become 0."""
        mean, deviation = vectors.mean(axis=0), vectors.std(axis=0)
        varies = deviation > 1e-12 * np.abs(vectors).max(axis=0, initial=0)
        factor = np.divide(n_features**-0.5, deviation, out=np.zeros_like(mean), where=varies)
        return cls(mean, factor)

    def __call__(self, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        return (vectors - self.mean) * self.factor


@dataclass(frozen=True)
class Pairs:
    """The tested pairs of perturbations and genes that have vectors.

    Attributes
    ----------
    labels
        Shape (perturbation, gene), NumPy or Dask; only `rows` and `genes` are used.
    rows, genes
        Positions of those with vectors.
    row_features, gene_features
        Their features, in the same order.
    """

    labels: Any
    rows: NDArray[np.intp]
    genes: NDArray[np.intp]
    row_features: NDArray[np.float64]
    gene_features: NDArray[np.float64]

    def epoch(self, random: np.random.Generator) -> Iterator[Window]:
        """Yield all pairs, each once, a window at a time.

        The genes are cut into windows that do not depend on the chunks of the labels. Windows come
        in random order, the pairs of a window in random order too.
        """
        step = max(1, WINDOW // len(self.rows))
        starts = random.permutation(np.arange(0, len(self.genes), step))
        for start in starts:
            part = slice(start, start + step)
            (labels,) = compute(self.labels[:, self.genes[part]])
            labels = labels[self.rows]
            pairs = np.flatnonzero(labels != Label.UNTESTED).astype(np.int32)
            shuffle(pairs, random.random(len(pairs)))
            if len(pairs):
                yield Window((self.row_features, self.gene_features[part]), labels, pairs)


@dataclass(frozen=True)
class Window:
    """Pairs that are learned from together.

    Attributes
    ----------
    tables
        Features of the rows and of the genes.
    labels
        Shape (row, gene).
    pairs
        Positions in the flattened labels, in random order.
    """

    tables: tuple[NDArray[np.float64], NDArray[np.float64]]
    labels: NDArray[np.int8]
    pairs: NDArray[np.int32]

    def lazy(self) -> tuple[da.Array, da.Array]:
        """Return features (pair, feature) and labels, a block at a time."""
        n_features = sum(table.shape[1] for table in self.tables)
        row, gene = np.divmod(self.pairs, self.labels.shape[1])
        step = max(1, BLOCK // n_features)
        tables = dask.delayed(self.tables, traverse=False)
        features = []
        for start in range(0, len(row), step):
            block = slice(start, start + step)
            made = dask.delayed(block_of_features)(tables, row[block], gene[block])
            shape = (len(row[block]), n_features)
            features.append(da.from_delayed(made, shape=shape, dtype=np.float64))
        return da.concatenate(features), da.from_array(self.labels[row, gene], chunks=step)


def count_tested(labels: Any, rows: NDArray[np.intp], genes: NDArray[np.intp]) -> int:
    """Count the tested pairs of these rows and genes, in one sweep."""
    tested = labels[rows][:, genes] != Label.UNTESTED
    return int(compute(tested.sum(dtype=np.int64))[0])


def block_of_features(
    tables: tuple[NDArray[np.float64], NDArray[np.float64]],
    row: NDArray[np.intp],
    gene: NDArray[np.intp],
) -> NDArray[np.float64]:
    """Return the features of pairs, shape (pair, feature): the perturbation's, then the gene's."""
    n_row_features = tables[0].shape[1]
    block = np.empty((len(row), n_row_features + tables[1].shape[1]))
    block[:, :n_row_features] = tables[0][row]
    block[:, n_row_features:] = tables[1][gene]
    return block
