"""Reference methods that mark the scale: no change, chance, and the truth itself."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pertscale.arguments import checked
from pertscale.baselines.classifiers._random import gene_streams
from pertscale.baselines.classifiers._votes import NON_DE, class_counts, class_shares
from pertscale.baselines.classifiers.base import (
    PAIR,
    LabelClassifier,
    PredictBlock,
    gene_chunks,
    over_genes,
    per_gene,
    unnamed,
)
from pertscale.errors import ArgumentError, InputError
from pertscale.schema import CLASSES, Label


@checked
class AllNonDE(LabelClassifier):
    """Predict that no perturbation changes any gene. Ignores the embedding and the labels.

    Examples
    --------
    >>> labels = np.array([[1, 0, -1], [1, 0, 0], [0, 0, -1]], np.int8)  # (perturbation, gene)
    >>> ps.baselines.AllNonDE().fit(np.empty((3, 0)), labels).predict(np.empty((1, 0)))
    array([[0, 0, 0]], dtype=int8)
    """

    def _fit(self, X: NDArray[np.float64], y: Any, groups: ArrayLike | None) -> None:
        self._gene_chunks = gene_chunks(y)

    def _prepare(self, X: NDArray[np.float64]) -> tuple[Any, PredictBlock]:
        return per_gene(np.zeros((1, self.n_genes_), dtype=np.int8), self._gene_chunks), _non_de


def _non_de(columns: NDArray, genes: NDArray) -> tuple[NDArray, NDArray]:
    return np.array(Label.NON_DE), np.eye(len(CLASSES))[NON_DE]


@checked
class ClassFrequencyRandom(LabelClassifier):
    """Draw every pair's label from the class frequencies of all training pairs.

    The level of chance. Embedding and gene are ignored, and the class scores are the frequencies,
    the same for each pair, so the areas under the curves are those of chance exactly.

    Parameters
    ----------
    seed
        Seed of the draws. A draw depends on the seed, the gene's position and the row predicted,
        not on the chunks.

    Attributes
    ----------
    frequencies_ : ndarray of float64, shape (3,)
        Share of each class among the training labels; all Non-DE without any label.

    Examples
    --------
    >>> labels = np.array([[1, 0, -1], [1, 0, 0], [0, 0, -1]], np.int8)  # (perturbation, gene)
    >>> model = ps.baselines.ClassFrequencyRandom(seed=0).fit(np.empty((3, 0)), labels)
    >>> model.frequencies_.round(2)  # down, non-DE, up
    array([0.22, 0.56, 0.22])
    """

    frequencies_: NDArray[np.float64]

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed

    def _fit(self, X: NDArray[np.float64], y: Any, groups: ArrayLike | None) -> None:
        self.frequencies_ = class_shares(class_counts(y).sum(axis=1))
        self._gene_chunks = gene_chunks(y)

    def _prepare(self, X: NDArray[np.float64]) -> tuple[Any, PredictBlock]:
        columns = per_gene(np.zeros((1, self.n_genes_), dtype=np.int8), self._gene_chunks)
        draw = partial(_draws, frequencies=self.frequencies_, seed=self.seed, n_rows=len(X))
        return columns, draw


def _draws(
    columns: NDArray,
    genes: NDArray[np.int64],
    *,
    frequencies: NDArray[np.float64],
    seed: int,
    n_rows: int,
) -> tuple[NDArray, NDArray]:
    uniform = np.stack([stream.random(n_rows) for stream in gene_streams(seed, genes)], axis=1)
    upper = np.cumsum(frequencies)[:-1]
    labels = np.array(CLASSES, dtype=np.int8)[np.searchsorted(upper, uniform, side="right")]
    return labels, frequencies


@checked
class Oracle(LabelClassifier):
    """Return the truth that it is given when predicting: the ceiling of every metric.

    It learns nothing. ``predict``, ``predict_proba`` and ``predict_both`` take the truth as a
    keyword, so no result can be mistaken for a prediction. Untested pairs stay untested, with
    scores of NaN.

    Examples
    --------
    >>> labels = np.array([[1, 0, -1], [1, 0, 0], [0, 0, -1]], np.int8)  # (perturbation, gene)
    >>> model = ps.baselines.Oracle().fit(np.empty((3, 0)), labels)
    >>> model.predict(np.empty((1, 0)), truth=np.array([[0, 1, -1]], np.int8))
    array([[ 0,  1, -1]], dtype=int8)
    """

    def predict(self, X: Any, *, truth: Any = None) -> Any:
        """Return the truth as labels; see :meth:`predict_both`."""
        return self.predict_both(X, truth=truth)[0]

    def predict_proba(self, X: Any, *, truth: Any = None) -> Any:
        """Return 1 for the true class and 0 for the others; see :meth:`predict_both`."""
        return self.predict_both(X, truth=truth)[1]

    def predict_both(self, X: Any, *, truth: Any = None) -> tuple[Any, Any]:
        """Return the truth as labels and scores.

        Parameters
        ----------
        X
            Ignored but for its number of rows.
        truth
            Observed labels, shape (perturbation, gene), NumPy or Dask. Required.

        Returns
        -------
        tuple of (labels, scores)
            Dask arrays if `truth` is one.

        Raises
        ------
        ArgumentError
            Without `truth`.
        InputError
            If it has another shape than the prediction should have.
        NotFittedError
            Before :meth:`fit`.
        """
        shape = (len(self._asked(X)), self.n_genes_)
        if truth is None:
            raise ArgumentError("the oracle needs the observed labels; pass truth=")
        truth = unnamed(truth)
        if tuple(truth.shape) != shape:
            raise InputError(f"truth has shape {tuple(truth.shape)}, the prediction needs {shape}")
        labels, scores = over_genes(_one_hot, truth, n_rows=shape[0])
        return labels, scores

    def _fit(self, X: NDArray[np.float64], y: Any, groups: ArrayLike | None) -> None:
        """Nothing to learn."""

    def _prepare(self, X: NDArray[np.float64]) -> tuple[Any, PredictBlock]:
        raise ArgumentError("the oracle needs the observed labels; pass truth=")


def _one_hot(truth: NDArray, genes: NDArray) -> tuple[NDArray, NDArray]:
    scores = (truth[..., None] == np.array(CLASSES)).astype(PAIR["scores"].base)
    scores[truth == Label.UNTESTED] = np.nan
    return truth, scores
