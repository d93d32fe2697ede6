"""Majority vote per gene (method E1)."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pertscale.arguments import checked
from pertscale.baselines.classifiers._random import gene_streams
from pertscale.baselines.classifiers._votes import (
    DE_FIRST,
    NON_DE_FIRST,
    class_counts,
    class_shares,
    winning_class,
)
from pertscale.baselines.classifiers.base import (
    LabelClassifier,
    PredictBlock,
    check_choice,
    gene_chunks,
    per_gene,
)
from pertscale.errors import InputError
from pertscale.schema import CLASSES, Label

Ties = Literal["de_first", "nonde_first", "random"]


@checked
class MajorityVote(LabelClassifier):
    """Predict the label a gene has most often among the training perturbations (method E1).

    The perturbation is ignored. A gene without any training label is Non-DE. The class scores are
    the class frequencies of the gene.

    Parameters
    ----------
    ties
        Which class wins a tie: ``"de_first"``, Up, then Down, then Non-DE (agrees best with the
        published numbers); ``"nonde_first"``, Non-DE, Up, Down; ``"random"``, one of the tied.
    seed
        Seed of the random ties.

    Attributes
    ----------
    counts_ : ndarray of int64, shape (3, gene)
        Training labels of each class, in the order of ``schema.CLASSES``.

    References
    ----------
    Sun, Zhu and Chen (2026), https://openreview.net/forum?id=EZ2KZwM1mR

    Examples
    --------
    >>> labels = np.array([[1, 0, -1], [1, 0, 0], [0, 0, -1]], np.int8)  # (perturbation, gene)
    >>> model = ps.baselines.MajorityVote().fit(np.empty((3, 0)), labels)
    >>> model.predict(np.empty((1, 0)))
    array([[ 1,  0, -1]], dtype=int8)
    """

    counts_: NDArray[np.int64]

    def __init__(self, *, ties: Ties = "de_first", seed: int = 0) -> None:
        self.ties = ties
        self.seed = seed

    def partial_fit(self, X: ArrayLike, y: Any) -> Self:
        """Add the labels of further training perturbations; the order does not matter.

        Parameters
        ----------
        X, y
            As in :meth:`fit`, with the same genes as before.

        Returns
        -------
        Self

        Raises
        ------
        InputError
            As :meth:`fit`, and if the number of genes differs.
        """
        if not hasattr(self, "counts_"):
            return self.fit(X, y)
        X, y = self._training(X, y)
        if y.shape[1] != self.n_genes_:
            raise InputError(
                f"y has {y.shape[1]} genes, earlier labels had {self.n_genes_}; align the genes"
            )
        self.counts_ = self.counts_ + class_counts(y)
        return self

    def _fit(self, X: NDArray[np.float64], y: Any, groups: ArrayLike | None) -> None:
        check_choice("ties", self.ties, ("de_first", "nonde_first", "random"))
        self.counts_ = class_counts(y)
        self._gene_chunks = gene_chunks(y)

    def _prepare(self, X: NDArray[np.float64]) -> tuple[Any, PredictBlock]:
        block = partial(_most_frequent, ties=self.ties, seed=self.seed)
        return per_gene(self.counts_, self._gene_chunks), block


def _most_frequent(
    counts: NDArray[np.int64], genes: NDArray[np.int64], *, ties: Ties, seed: int
) -> tuple[NDArray, NDArray]:
    order = DE_FIRST if ties == "de_first" else NON_DE_FIRST
    labels = winning_class(counts, order=order)
    if ties == "random":
        tied = (counts == counts.max(axis=0)) & (counts > 0)
        columns = np.flatnonzero(tied.sum(axis=0) > 1)
        for column, stream in zip(columns, gene_streams(seed, genes[columns]), strict=True):
            candidates = np.flatnonzero(tied[:, column])
            labels[column] = CLASSES[candidates[int(stream.integers(len(candidates)))]]
    labels[counts.sum(axis=0) == 0] = Label.NON_DE  # never seen: Non-DE, whatever the order
    return labels, class_shares(counts).T
