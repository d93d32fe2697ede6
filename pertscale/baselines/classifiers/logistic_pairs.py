"""One logistic regression on pairs of a perturbation and a gene (method E3)."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

import dask
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from pertscale.arguments import checked
from pertscale.baselines.classifiers._descent import AveragedDescent
from pertscale.baselines.classifiers._folds import (
    CRITERIA,
    Criterion,
    best_candidate,
    cross_validate,
    folds,
    row_groups,
)
from pertscale.baselines.classifiers._pairs import Pairs, Scale, Window, count_tested
from pertscale.baselines.classifiers._votes import (
    NON_DE_FIRST,
    class_counts,
    class_shares,
    majority_labels,
    winning_class,
)
from pertscale.baselines.classifiers.base import (
    LabelClassifier,
    PredictBlock,
    check_choice,
    check_dimensions,
    check_embedding,
    gene_chunks,
    per_gene,
    with_embedding,
    without_embedding,
)
from pertscale.baselines.classifiers.logistic import GRID, check_penalties
from pertscale.errors import ArgumentError, InputError
from pertscale.evaluation import confusion

if TYPE_CHECKING:
    from dask_ml.wrappers import Incremental

#: Steps that ``n_epochs="auto"`` makes, and the most passes that it takes for them.
STEPS: Final = 5_000_000
MOST_EPOCHS: Final = 20
#: First step of the descent; features have a mean squared length of 1.
FIRST_STEP: Final = 1.0


#: Dask's settings are those of all threads.
_SETTING: Final = threading.Lock()


@checked
class LogisticPairs(LabelClassifier):
    """Logistic regression of the label on [perturbation vector, gene vector] (method E3, `pair`).

    One model for all genes, of the three classes, each against the rest. It is fitted out of core
    by averaged stochastic gradient descent, in the steps of scikit-learn's ``SGDClassifier``, over
    the pairs in a seeded random order; of lazy labels blocks of pairs go through ``dask_ml``'s
    ``Incremental``. Scores are the classes' probabilities divided by their sum. Equal inputs give
    equal bits, whatever the chunks.

    Untested pairs are left out. Pairs whose perturbation or gene has no vector are not learned
    from, and get the majority vote of the gene (:class:`MajorityVote`).

    Parameters
    ----------
    gene_vectors
        Embedding of the genes, shape (gene, d), in the order of the labels; a row of NaN for a
        gene that has none. Needed by `fit`; the benchmark sets it.
    C
        Inverse strength of the penalty, as in ``sklearn.linear_model.LogisticRegression(C=C)`` on
        all pairs at once: ``alpha = 1 / (C * number of pairs)``. Or ``"cv"``: chosen from `grid`
        as in :class:`LogisticPerGene`; that takes as long as ``len(grid) * n_folds`` fits.
    n_epochs
        Passes over the pairs; ``"auto"`` takes as many as make five million steps, from 1 to 20.
        The weights are averaged over the second half of all steps.
    grid, n_folds, criterion
        As of :class:`LogisticPerGene`.
    seed
        Seed of the folds and of the order of the pairs.

    Attributes
    ----------
    C_ : float
        The value of C in use.
    cv_scores_ : dict of float to float
        With ``C="cv"``, the criterion for every C.
    model_ : AveragedDescent
        The fitted model, with ``coef_``, ``intercept_`` and ``predict_proba``. Its features are
        scaled.

    Notes
    -----
    A gradient descent needs features of one scale: each has its mean over the training
    perturbations (or the genes) subtracted, and is divided by its standard deviation times the
    square root of the number of features. The penalty acts on the weights of these.

    A Dask `y` is read once per pass, some genes at a time. Rows of a group stay in one fold. Gene
    vectors that are not one per gene, and labels without a tested pair that has both vectors, are
    refused.

    Memory: less than 64 MB for a block of pairs, 30 MB for the labels of a million pairs, and
    the two tables of vectors.

    References
    ----------
    Wu et al. (2025), PerturbQA, https://arxiv.org/abs/2502.21290

    Examples
    --------
    >>> vectors = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])  # of the training perturbations
    >>> labels = np.array([[1, 0, -1], [1, 0, 0], [0, 0, -1]], np.int8)  # (perturbation, gene)
    >>> genes = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    >>> model = ps.baselines.LogisticPairs(gene_vectors=genes, n_epochs=5).fit(vectors, labels)
    >>> model.predict([[1.0, 0.1]]).shape
    (1, 3)
    """

    C_: float
    cv_scores_: dict[float, float]
    model_: AveragedDescent

    def __init__(
        self,
        gene_vectors: ArrayLike | None = None,
        *,
        C: float | Literal["cv"] = 1.0,
        n_epochs: int | Literal["auto"] = "auto",
        grid: Sequence[float] = GRID,
        n_folds: int = 5,
        criterion: Criterion = "macro_f1",
        seed: int = 0,
    ) -> None:
        self.gene_vectors = gene_vectors
        self.C = C
        self.n_epochs = n_epochs
        self.grid = grid
        self.n_folds = n_folds
        self.criterion = criterion
        self.seed = seed

    def fitted_params(self) -> dict[str, Any]:
        """Return the parameters but for the gene vectors, and as ``C`` the one in use."""
        params = super().fitted_params() | {"C": self.C_}
        del params["gene_vectors"]
        return params

    def _fit(self, X: NDArray[np.float64], y: Any, groups: ArrayLike | None) -> None:
        grid = check_penalties(self.C, self.grid)
        check_choice("criterion", self.criterion, CRITERIA)
        if self.n_epochs != "auto" and (
            not isinstance(self.n_epochs, int | np.integer) or self.n_epochs < 1
        ):
            raise ArgumentError(
                f"n_epochs={self.n_epochs!r}: use a number of passes from 1 on, or 'auto'"
            )
        genes = check_gene_vectors(self.gene_vectors, y.shape[1])
        rows = with_embedding(X)
        if self.C == "cv":
            parts = folds(row_groups(groups, len(X)), n_folds=self.n_folds, seed=self.seed)
            plan = [self._fold(X, genes, y, parts == part, grid) for part in range(self.n_folds)]
            self.cv_scores_ = cross_validate(y, plan, grid, criterion=self.criterion)
        self.C_ = best_candidate(self.cv_scores_) if self.C == "cv" else grid[0]
        (self._scores,) = self._train(X, genes, y, rows, [self.C_])
        self.model_ = self._scores.model
        self.counts_ = class_counts(y)
        self._gene_chunks = gene_chunks(y)

    def _prepare(self, X: NDArray[np.float64]) -> tuple[Any, PredictBlock]:
        check_dimensions(X, len(self._scores.rows.mean))
        genes = check_gene_vectors(self.gene_vectors, self.n_genes_)
        of_rows, of_genes = self._scores(X, genes)
        block = partial(_predict, of_rows=of_rows, of_genes=of_genes)
        return per_gene(self.counts_, self._gene_chunks), block

    def _fold(
        self,
        X: NDArray[np.float64],
        genes: NDArray[np.float64],
        y: Any,
        held_out: NDArray[np.bool_],
        grid: list[float],
    ) -> _PairsFold:
        """Fit all candidates without a fold."""
        known = ~without_embedding(X)
        query = np.flatnonzero(known & held_out)
        models = self._train(X, genes, y, np.flatnonzero(known & ~held_out), grid)
        return _PairsFold(held_out, query, [model(X[query], genes) for model in models])

    def _train(
        self,
        X: NDArray[np.float64],
        genes: NDArray[np.float64],
        y: Any,
        rows: NDArray[np.intp],
        penalties: list[float],
    ) -> list[_Scores]:
        """Fit a model for every C on some rows."""
        known = np.flatnonzero(~without_embedding(genes))
        n_pairs = count_tested(y, rows, known)
        if not n_pairs:
            raise InputError(
                f"none of the tested pairs has a vector of both; {len(rows)} perturbations to "
                f"train on and {len(known)} of {len(genes)} genes have one, so check the names "
                "and the labels"
            )
        n_features = X.shape[1] + genes.shape[1]
        of_rows, of_genes = Scale.of(X[rows], n_features), Scale.of(genes[known], n_features)
        pairs = Pairs(y, rows, known, of_rows(X[rows]), of_genes(genes[known]))
        n_epochs = self._passes(n_pairs)
        models: list[Any] = [self._descent(C, n_pairs, n_epochs) for C in penalties]
        lazy = dask.is_dask_collection(y)
        learn = _learn_lazily if lazy else _learn
        if lazy:
            from dask_ml.wrappers import Incremental  # takes a second, as long as a small screen

            models = [Incremental(model, shuffle_blocks=False) for model in models]
        random = np.random.default_rng(self.seed)
        for _ in range(n_epochs):
            for window in pairs.epoch(random):
                learn(models, window)
        fitted = [model.estimator_ if lazy else model for model in models]
        return [_Scores(of_rows, of_genes, model) for model in fitted]

    def _passes(self, n_pairs: int) -> int:
        if self.n_epochs != "auto":
            return self.n_epochs
        return int(np.clip(-(-STEPS // n_pairs), 1, MOST_EPOCHS))

    def _descent(self, C: float, n_pairs: int, n_epochs: int) -> AveragedDescent:
        return AveragedDescent(
            alpha=1 / (C * n_pairs), eta0=FIRST_STEP, average=max(1, n_epochs * n_pairs // 2)
        )


def _learn(models: list[AveragedDescent], window: Window) -> None:
    for model in models:
        model.learn(window.tables, window.labels, window.pairs)


def _learn_lazily(models: list[Incremental], window: Window) -> None:
    """Let Dask make one block after the other: the next one needs the model anyway."""
    features, labels = window.lazy()
    with _SETTING, dask.config.set(scheduler="sync"):
        for model in models:
            model.partial_fit(features, labels)


def check_gene_vectors(gene_vectors: ArrayLike | None, n_genes: int) -> NDArray[np.float64]:
    """Return the gene vectors as float64; there is one for every gene, or a row of NaN."""
    if gene_vectors is None:
        raise ArgumentError("pairs need vectors of the genes; pass gene_vectors=")
    vectors = check_embedding(gene_vectors, "gene_vectors")
    if len(vectors) != n_genes:
        raise InputError(
            f"gene_vectors has {len(vectors)} rows and y {n_genes} genes; both need the same genes "
            "in the same order, with a row of NaN for a gene that has no vector"
        )
    return vectors


@dataclass(frozen=True)
class _Scores:
    """A fitted model: the score of a pair is the sum of a perturbation's and a gene's."""

    rows: Scale
    genes: Scale
    model: AveragedDescent

    def __call__(
        self, X: NDArray[np.float64], genes: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the scores of perturbations and genes, (3, n); NaN for those without a vector."""
        of_rows, of_genes = np.split(self.model.coef_, [X.shape[1]], axis=1)
        return of_rows @ self.rows(X).T + self.model.intercept_[:, None], (
            of_genes @ self.genes(genes).T
        )


@dataclass(frozen=True)
class _PairsFold:
    """A held-out fold: its rows, those to predict, and for every C the scores of both sides."""

    held_out: NDArray[np.bool_]
    query: NDArray[np.intp]
    scores: list[tuple[NDArray[np.float64], NDArray[np.float64]]]

    def count(
        self, y: NDArray[np.int8], genes: NDArray[np.intp], counts: NDArray[np.int64]
    ) -> None:
        """Add the confusion matrices of every C."""
        label_counts = class_counts(y[~self.held_out])
        for matrix, (of_rows, of_genes) in zip(counts, self.scores, strict=True):
            labels, _ = _predict(label_counts, genes, of_rows=of_rows, of_genes=of_genes)
            matrix += confusion(y[self.query], labels)


def _predict(
    counts: NDArray[np.int64],
    genes: NDArray[np.int64],
    *,
    of_rows: NDArray[np.float64],
    of_genes: NDArray[np.float64],
) -> tuple[NDArray, NDArray]:
    """Predict a block of genes; the majority vote where a score is missing."""
    odds = of_rows[:, :, None] + of_genes[:, None, genes]
    missing = np.isnan(odds[0])
    scores = np.where(missing, class_shares(counts)[:, None], class_shares(expit(odds)))
    labels = np.where(missing, majority_labels(counts), winning_class(odds, order=NON_DE_FIRST))
    return labels, np.moveaxis(scores, 0, -1)
