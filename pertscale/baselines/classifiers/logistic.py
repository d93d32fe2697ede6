"""Logistic regression of each gene's label on the perturbation's embedding (method E3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal, Self

import dask
import dask.array as da
import numpy as np
from numpy.typing import ArrayLike, NDArray

from pertscale._computing import compute
from pertscale.arguments import checked
from pertscale.baselines.classifiers._folds import (
    CRITERIA,
    Criterion,
    best_candidate,
    cross_validate,
    folds,
    row_groups,
)
from pertscale.baselines.classifiers._search import unit_rows
from pertscale.baselines.classifiers._softmax import DesignMatrix, probabilities, ridge_path
from pertscale.baselines.classifiers._votes import (
    NON_DE_FIRST,
    class_counts,
    class_shares,
    majority_labels,
    winning_class,
)
from pertscale.baselines.classifiers.base import (
    GENE_STEP,
    LabelClassifier,
    PredictBlock,
    check_choice,
    check_dimensions,
    with_embedding,
    without_embedding,
)
from pertscale.errors import ArgumentError, InputError
from pertscale.evaluation import confusion
from pertscale.execution.blas import one_blas_thread
from pertscale.schema import CLASSES

#: Candidates for C.
GRID: Final = (1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2)


@checked
class LogisticPerGene(LabelClassifier):
    """Multinomial ridge regression of each gene's label on the embedding (method E3, `per_gene`).

    For every gene, the log loss over its tested training perturbations plus ``|weights|^2 / (2 C)``
    is minimised, as ``sklearn.linear_model.LogisticRegression(C=C)`` does on that gene; the
    intercept is free. Classes that a gene never has get probability 0, and a single class 1. All
    genes share one singular value decomposition and are fitted in batches, to about 1e-7 in the
    probabilities. The most probable class is predicted; among equals Non-DE, then Up, then Down.

    Training perturbations without an embedding are left out. Test perturbations without one, and
    genes without a label among the others, get the majority vote of the gene over all training
    perturbations (:class:`MajorityVote`), or Non-DE if it was never tested.

    Parameters
    ----------
    C
        Inverse strength of the penalty, or ``"cv"``: the one of `grid`, for all genes together,
        that predicts held-out perturbations best, as :class:`WeightedKNNCV` chooses k. The
        smallest of the best is taken.
    grid
        Candidates of ``C="cv"``.
    n_folds
        Number of folds.
    criterion
        ``"macro_f1"``, ``"balanced_accuracy"`` or ``"accuracy"``.
    seed
        Seed of the folds.
    normalize
        Scale embeddings to length 1.

    Attributes
    ----------
    C_ : float
        The value of C in use.
    cv_scores_ : dict of float to float
        With ``C="cv"``, the criterion for every C.

    Notes
    -----
    ``C="cv"`` sweeps a Dask `y` once, chunk by chunk; rows of a group stay in one fold.
    Memory: 24 bytes per gene and dimension of the embedding (or per training perturbation, if
    there are fewer). With a Dask `y` that is held for the chunks in work only: the regressions are
    part of the prediction, and fitted again by the next one.

    References
    ----------
    Sun, Zhu and Chen (2026), https://openreview.net/forum?id=EZ2KZwM1mR

    Examples
    --------
    >>> vectors = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])  # of the training perturbations
    >>> labels = np.array([[1, 0, -1], [1, 0, 0], [0, 0, -1]], np.int8)  # (perturbation, gene)
    >>> model = ps.baselines.LogisticPerGene(C=10).fit(vectors, labels)
    >>> model.predict([[1.0, 0.1]])
    array([[ 1,  0, -1]], dtype=int8)
    >>> model.predict_proba([[1.0, 0.1]]).shape  # (perturbation, gene, class)
    (1, 3, 3)
    """

    C_: float
    cv_scores_: dict[float, float]

    def __init__(
        self,
        *,
        C: float | Literal["cv"] = 1.0,
        grid: Sequence[float] = GRID,
        n_folds: int = 5,
        criterion: Criterion = "macro_f1",
        seed: int = 0,
        normalize: bool = True,
    ) -> None:
        self.C = C
        self.grid = grid
        self.n_folds = n_folds
        self.criterion = criterion
        self.seed = seed
        self.normalize = normalize

    def fitted_params(self) -> dict[str, Any]:
        """Return the parameters, and as ``C`` the one in use."""
        return super().fitted_params() | {"C": self.C_}

    def predict_both(self, X: Any) -> tuple[Any, Any]:
        """Return labels and class scores; see :meth:`LabelClassifier.predict_both`."""
        with one_blas_thread():  # once, not for each block: it looks at all libraries
            return super().predict_both(X)

    @one_blas_thread()
    def _fit(self, X: NDArray[np.float64], y: Any, groups: ArrayLike | None) -> None:
        grid = check_penalties(self.C, self.grid)
        check_choice("criterion", self.criterion, CRITERIA)
        self._n_dimensions = X.shape[1]
        rows = with_embedding(X)
        vectors = self._vectors(X)
        in_memory = not dask.is_dask_collection(y)
        if in_memory:  # in parallel nevertheless
            y = da.from_array(y, chunks=(-1, GENE_STEP), name=False)
        if self.C == "cv":
            parts = folds(row_groups(groups, len(X)), n_folds=self.n_folds, seed=self.seed)
            plan = [_RidgeFold.of(vectors, parts == part, grid) for part in range(self.n_folds)]
            self.cv_scores_ = cross_validate(y, plan, grid, criterion=self.criterion)
        self.C_ = best_candidate(self.cv_scores_) if self.C == "cv" else grid[0]
        self._design = DesignMatrix.of(vectors[rows])
        columns = _fitted(y, rows, self._design, self.C_)
        self._columns = compute(columns)[0] if in_memory else columns

    def _vectors(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        return unit_rows(X) if self.normalize else X

    def _prepare(self, X: NDArray[np.float64]) -> tuple[Any, PredictBlock]:
        check_dimensions(X, self._n_dimensions)
        known = ~without_embedding(X)
        features = self._design.features(self._vectors(X[known]))
        return self._columns, partial(_predict, features=features, known=known)


def check_penalties(C: float | str, grid: Sequence[float]) -> list[float]:
    """Return the values of C to try, ascending: one, or those of the grid with ``"cv"``."""
    values = list(grid) if C == "cv" else [C]
    if not values or not all(_is_positive(value) for value in values):
        raise ArgumentError(
            f"C={C!r}, grid={grid!r}: use a positive number for C, or 'cv' and a grid of them"
        )
    return sorted({float(value) for value in values})


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float | np.number) and bool(0 < value < np.inf)


@dataclass(frozen=True, kw_only=True)
class _RidgeFold:
    """A held-out fold: its rows, those to fit on and to predict, and their features."""

    held_out: NDArray[np.bool_]
    train: NDArray[np.intp]
    query: NDArray[np.intp]
    design: DesignMatrix
    features: NDArray[np.float64]
    grid: list[float]

    @classmethod
    def of(cls, vectors: NDArray, held_out: NDArray[np.bool_], grid: list[float]) -> Self:
        known = ~without_embedding(vectors)
        train, query = np.flatnonzero(known & ~held_out), np.flatnonzero(known & held_out)
        if not len(train):
            raise InputError(
                "a fold holds out all training perturbations with an embedding; use more folds, "
                "smaller groups, or a number for C"
            )
        design = DesignMatrix.of(vectors[train])
        return cls(
            held_out=held_out,
            train=train,
            query=query,
            design=design,
            features=design.features(vectors[query]),
            grid=grid,
        )

    def count(
        self, y: NDArray[np.int8], genes: NDArray[np.intp], counts: NDArray[np.int64]
    ) -> None:
        """Add the confusion matrices of every C."""
        label_counts = class_counts(y[~self.held_out])
        with one_blas_thread():
            path = ridge_path(self.design, y[self.train], self.grid)
            for matrix, weights in zip(counts, path, strict=True):
                labels = _labels_and_scores(self.features, weights, label_counts)[0]
                matrix += confusion(y[self.query], labels)


def _fitted(y: da.Array, rows: NDArray[np.intp], design: DesignMatrix, C: float) -> da.Array:
    """Return weights (class by feature) and label counts per gene, lazily."""
    n_columns = len(CLASSES) * (design.matrix.shape[1] + 1)
    return da.map_blocks(
        _fit_genes,
        y.rechunk({0: -1}),
        rows=rows,
        design=dask.delayed(design),  # one node of the graph, not a copy per task
        C=C,
        chunks=((n_columns,), y.chunks[1]),
        dtype=np.float64,
        meta=np.empty((0, 0)),
    )


@one_blas_thread()
def _fit_genes(
    y: NDArray[np.int8], *, rows: NDArray[np.intp], design: DesignMatrix, C: float
) -> NDArray[np.float64]:
    n_weights = len(CLASSES) * design.matrix.shape[1]
    columns = np.empty((n_weights + len(CLASSES), y.shape[1]))
    for start in range(0, y.shape[1], GENE_STEP):
        part = slice(start, start + GENE_STEP)
        (weights,) = ridge_path(design, y[rows, part], [C])
        columns[:n_weights, part] = weights.reshape(n_weights, -1)
        columns[n_weights:, part] = class_counts(y[:, part])
    return columns


@one_blas_thread()
def _predict(
    columns: NDArray[np.float64],
    genes: NDArray[np.int64],
    *,
    features: NDArray[np.float64],
    known: NDArray[np.bool_],
) -> tuple[NDArray, NDArray]:
    """Predict a block of genes: the majority vote, and the regression where there is a vector."""
    counts = columns[-len(CLASSES) :].astype(np.int64)
    weights = columns[: -len(CLASSES)].reshape(len(CLASSES), -1, len(genes))
    labels = np.tile(majority_labels(counts), (len(known), 1))
    scores = np.tile(class_shares(counts)[:, None], (1, len(known), 1))
    labels[known], scores[:, known] = _labels_and_scores(features, weights, counts)
    return labels, np.moveaxis(scores, 0, -1)


def _labels_and_scores(
    features: NDArray[np.float64], weights: NDArray[np.float64], counts: NDArray[np.int64]
) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """Return labels (row, gene) and probabilities (3, row, gene)."""
    logits = features[:, 1:] @ weights[:, 1:] + weights[:, :1]
    fitted = ~np.isnan(weights[0, 0])
    scores = np.where(fitted, probabilities(logits, axis=0), class_shares(counts)[:, None])
    labels = winning_class(scores, order=NON_DE_FIRST)
    return np.where(fitted, labels, majority_labels(counts)), scores
