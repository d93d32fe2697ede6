"""Nearest neighbours with k chosen by cross-validation over perturbations (method D2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pertscale.arguments import checked
from pertscale.baselines.classifiers._folds import (
    CRITERIA,
    Criterion,
    best_candidate,
    cross_validate,
    folds,
    row_groups,
)
from pertscale.baselines.classifiers._search import Metric, Weights, unit_rows
from pertscale.baselines.classifiers._votes import class_counts, majority_labels
from pertscale.baselines.classifiers.base import (
    PredictBlock,
    VotingClassifier,
    check_choice,
    with_embedding,
    without_embedding,
)
from pertscale.baselines.classifiers.neighbors import (
    Ballot,
    Missing,
    Neighbors,
    WeightedKNN,
    ballot_of,
    check_voting,
)
from pertscale.errors import ArgumentError
from pertscale.schema import CLASSES

GRID = (1, 3, 5, 10, 20, 30, 50, 100)


@checked
class WeightedKNNCV(VotingClassifier):
    """:class:`WeightedKNN` with k chosen by cross-validation over perturbations (method D2).

    The training perturbations are permuted with ``RandomState(seed)`` and split into nearly equal
    folds; each fold is predicted from the others. The confusion matrices of the folds are added
    up, then scored; the smallest of the best k is taken. Perturbations without an embedding are
    neither neighbours nor predicted, as their prediction is the same for every k. All k share one
    neighbour search and one sweep over the genes.

    With fewer groups than folds there is a fold per group. Where the folds leave no neighbour, k is
    the smallest of the grid, and :meth:`fitted_params` has a note that it was not chosen.

    Parameters
    ----------
    grid
        Candidates for k. Those above the number of neighbours that the smallest training part
        has are left out.
    n_folds
        Number of folds.
    criterion
        ``"macro_f1"``, ``"balanced_accuracy"`` or ``"accuracy"``.
    seed
        Seed of the folds.
    metric, weights, exponent, missing, normalize, neighbors
        As of :class:`WeightedKNN`.

    Attributes
    ----------
    k_ : int
        The chosen k.
    cv_scores_ : dict of int to float
        The criterion for every k that was tried.
    model_ : WeightedKNN
        Fitted with ``k_`` on all training perturbations.
    notes_ : list of str
        What cross-validation could not do with too few training perturbations.

    Notes
    -----
    A Dask `y` is swept once, chunk by chunk, for the confusion matrices; rows of a group stay in
    one fold. A grid without a k that fits is refused.

    References
    ----------
    Sun, Zhu and Chen (2026), https://openreview.net/forum?id=EZ2KZwM1mR

    Examples
    --------
    >>> vectors = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])  # of the training perturbations
    >>> labels = np.array([[1, 0, -1], [1, 0, 0], [0, 0, -1]], np.int8)  # (perturbation, gene)
    >>> model = ps.baselines.WeightedKNNCV(grid=(1, 2), n_folds=3).fit(vectors, labels)
    >>> model.k_, sorted(model.cv_scores_)
    (1, [1, 2])
    """

    k_: int
    cv_scores_: dict[int, float]
    model_: WeightedKNN
    notes_: list[str]

    def __init__(
        self,
        *,
        grid: Sequence[int] = GRID,
        n_folds: int = 5,
        criterion: Criterion = "macro_f1",
        seed: int = 0,
        metric: Metric = "euclidean",
        weights: Weights = "distance",
        exponent: float = 1.0,
        missing: Missing = "majority",
        normalize: bool = True,
        neighbors: Neighbors = "nearest",
    ) -> None:
        self.grid = grid
        self.n_folds = n_folds
        self.criterion = criterion
        self.seed = seed
        self.metric = metric
        self.weights = weights
        self.exponent = exponent
        self.missing = missing
        self.normalize = normalize
        self.neighbors = neighbors

    def fitted_params(self) -> dict[str, Any]:
        """Return the parameters, and as ``k`` the chosen one."""
        params = super().fitted_params() | {"k": self.k_}
        return params | ({"note": "; ".join(self.notes_)} if self.notes_ else {})

    def _fit(self, X: NDArray[np.float64], y: Any, groups: ArrayLike | None) -> None:
        check_choice("criterion", self.criterion, CRITERIA)
        check_voting(self.metric, self.weights, self.exponent)
        check_choice("neighbors", self.neighbors, get_args(Neighbors))
        self.notes_, self.cv_scores_ = [], {}
        named = row_groups(groups, len(X))
        n_folds = self._usable_folds(len(np.unique(named)))
        grid: list[int] = []
        if n_folds > 1:
            part_of_row = folds(named, n_folds=n_folds, seed=self.seed)
            grid = self._usable_grid(part_of_row[with_embedding(X)], n_folds)
        if grid:
            plan = [self._fold(X, part_of_row == part, grid) for part in range(n_folds)]
            self.cv_scores_ = cross_validate(y, plan, grid, criterion=self.criterion)
            self.k_ = best_candidate(self.cv_scores_)
        else:
            self.k_ = min(self.grid)
            n = len(with_embedding(X))
            self.notes_.append(f"k was not chosen: {n} training perturbations have an embedding")
        self.model_ = WeightedKNN(
            k=self.k_,
            metric=self.metric,
            weights=self.weights,
            exponent=self.exponent,
            missing=self.missing,
            normalize=self.normalize,
            neighbors=self.neighbors,
        ).fit(X, y)

    def _prepare(self, X: NDArray[np.float64]) -> tuple[Any, PredictBlock]:
        return self.model_._prepare(X)

    def _usable_folds(self, n_groups: int) -> int:
        """Return the number of folds: not more than there are groups."""
        if self.n_folds >= 2 and n_groups < self.n_folds:
            self.notes_.append(f"{n_groups} folds, not {self.n_folds}: there are no more groups")
            return n_groups
        return self.n_folds

    def _usable_grid(self, part_of_neighbor: NDArray[np.intp], n_folds: int) -> list[int]:
        """Return the candidates, ascending, that every fold has enough neighbours for.

        None if a fold has no neighbour at all.
        """
        n_neighbors = len(part_of_neighbor)
        held_out = np.bincount(part_of_neighbor, minlength=n_folds)
        available = int(n_neighbors - held_out.max())
        grid = sorted({int(k) for k in self.grid if 1 <= k <= available})
        if available and not grid:
            raise ArgumentError(
                f"grid={tuple(self.grid)!r} has no k from 1 to {available}, the number of "
                f"training perturbations with an embedding that {n_folds} folds leave; add "
                "a smaller k"
            )
        return grid

    def _fold(
        self, X: NDArray[np.float64], held_out: NDArray[np.bool_], grid: list[int]
    ) -> _NeighborFold:
        """Find the neighbours of a held-out fold, once for all candidates."""
        vectors = unit_rows(X) if self.normalize or self.metric == "cosine" else X
        known = ~without_embedding(X)
        train, query = np.flatnonzero(known & ~held_out), np.flatnonzero(known & held_out)
        ballot = ballot_of(
            vectors[query],
            vectors[train],
            train,
            k=grid[-1],
            neighbors=self.neighbors,
            metric=self.metric,
            weights=self.weights,
            exponent=self.exponent,
        )
        return _NeighborFold(held_out, query, ballot, grid)


@dataclass(frozen=True)
class _NeighborFold:
    """A held-out fold: its rows, those to predict, and their neighbours."""

    held_out: NDArray[np.bool_]
    query: NDArray[np.intp]
    ballot: Ballot
    grid: list[int]

    def count(
        self, y: NDArray[np.int8], genes: NDArray[np.intp], counts: NDArray[np.int64]
    ) -> None:
        """Add the confusion matrices of every candidate k."""
        fallback = majority_labels(class_counts(y[~self.held_out])) - min(CLASSES)
        self.ballot.count(y, self.query, np.array(self.grid), fallback.astype(np.intp), counts)
