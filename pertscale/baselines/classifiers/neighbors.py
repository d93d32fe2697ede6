"""Weighted nearest neighbours of a perturbation's embedding (method E2)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol, get_args

import dask
import numpy as np
from numpy.typing import ArrayLike, NDArray

from pertscale.arguments import checked
from pertscale.baselines.classifiers._kernels.votes import (
    add_labelled_votes,
    add_votes,
    count_labelled_votes,
    count_votes,
)
from pertscale.baselines.classifiers._search import (
    Metric,
    Weights,
    nearest,
    unit_rows,
    vote_weights,
)
from pertscale.baselines.classifiers._votes import (
    NON_DE,
    NON_DE_FIRST,
    class_counts,
    class_shares,
    majority_labels,
    winning_class,
)
from pertscale.baselines.classifiers.base import (
    PredictBlock,
    VotingClassifier,
    check_choice,
    check_dimensions,
    with_embedding,
    without_embedding,
)
from pertscale.errors import ArgumentError
from pertscale.schema import CLASSES, Label

Missing = Literal["majority", "nonde", "mean_vector", "drop"]
Neighbors = Literal["nearest", "labelled"]


@checked
class WeightedKNN(VotingClassifier):
    """Vote of the nearest training perturbations, weighted by distance (method E2).

    For a perturbation, the k nearest training perturbations that have an embedding are found once
    and vote on every gene. The class with the largest sum of weights wins; among equals Non-DE,
    then Up, then Down. Neighbours at the same distance at rank k: the lower row wins, so sort the
    training perturbations by name. Untested labels carry no vote. A gene for which no neighbour
    has a vote gets its majority label (:class:`MajorityVote` over all training perturbations), or
    Non-DE if it was never tested. Class scores are shares of the weights.

    Parameters
    ----------
    k
        Number of neighbours, or ``"all"``. More than there are means all.
    metric
        ``"euclidean"``, or ``"cosine"`` (``1 - cos``): on unit vectors the same neighbours, but
        other weights.
    weights
        ``"distance"``, 1/d; ``"power"``, 1/d^exponent; ``"uniform"``. With the first two,
        neighbours at distance 0 weigh 1 and all others 0.
    exponent
        Exponent of ``weights="power"``.
    missing
        What a perturbation without an embedding is predicted as: ``"majority"``, the majority
        label of each gene; ``"nonde"``; ``"mean_vector"``, as if its embedding were the mean of the
        training perturbations'; ``"drop"``, not at all: UNTESTED, and scores of NaN.
    normalize
        Scale embeddings to length 1, as the paper does. Cosine distances are of unit vectors
        in any case.
    neighbors
        Who votes on a gene: ``"nearest"``, the k nearest, whether or not they have a label of it;
        ``"labelled"``, the k nearest that have one. Where all pairs of the training part were
        tested that is the same (method Q4). On curated pairs most of the k nearest have no label,
        and most pairs get the gene's majority label, so that the vote of neighbours is hardly one.

    Notes
    -----
    With ``neighbors="labelled"`` every training perturbation is a neighbour.
    Memory: 12 bytes per test perturbation and neighbour, and for the genes in work (256 at a time)
    8 bytes per training and 50 per test perturbation each.

    References
    ----------
    Sun, Zhu and Chen (2026), https://openreview.net/forum?id=EZ2KZwM1mR

    Examples
    --------
    >>> vectors = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])  # of the training perturbations
    >>> labels = np.array([[1, 0, -1], [1, 0, 0], [0, 0, -1]], np.int8)  # (perturbation, gene)
    >>> model = ps.baselines.WeightedKNN(k=2).fit(vectors, labels)
    >>> model.predict([[1.0, 0.1], [0.1, 1.0]])
    array([[ 1,  0,  0],
           [ 0,  0, -1]], dtype=int8)
    """

    def __init__(
        self,
        *,
        k: int | Literal["all"] = 10,
        metric: Metric = "euclidean",
        weights: Weights = "distance",
        exponent: float = 1.0,
        missing: Missing = "majority",
        normalize: bool = True,
        neighbors: Neighbors = "nearest",
    ) -> None:
        self.k = k
        self.metric = metric
        self.weights = weights
        self.exponent = exponent
        self.missing = missing
        self.normalize = normalize
        self.neighbors = neighbors

    def _fit(self, X: NDArray[np.float64], y: Any, groups: ArrayLike | None) -> None:
        check_voting(self.metric, self.weights, self.exponent)
        check_choice("neighbors", self.neighbors, get_args(Neighbors))
        check_choice("missing", self.missing, ("majority", "nonde", "mean_vector", "drop"))
        if self.k != "all" and (not isinstance(self.k, int | np.integer) or self.k < 1):
            raise ArgumentError(f"k={self.k!r}: use a number of neighbours from 1 on, or 'all'")
        vectors = unit_rows(X) if self.normalize or self.metric == "cosine" else X
        self._rows = with_embedding(X)
        self._vectors = vectors[self._rows]
        self._labels = y.rechunk({0: -1}) if dask.is_dask_collection(y) else y

    def _prepare(self, X: NDArray[np.float64]) -> tuple[Any, PredictBlock]:
        X, missing = self._queries(X)
        known = np.flatnonzero(~without_embedding(X))
        k = len(self._rows) if self.k == "all" else min(int(self.k), len(self._rows))
        ballot = ballot_of(
            X[known],
            self._vectors,
            self._rows,
            k=k,
            neighbors=self.neighbors,
            metric=self.metric,
            weights=self.weights,
            exponent=self.exponent,
        )
        policy = self.missing if missing.any() else "majority"
        block = partial(_vote, ballot=ballot, known=known, missing=missing, policy=policy)
        return self._labels, block

    def _queries(self, X: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return the vectors to search for, and which perturbations have none of their own."""
        check_dimensions(X, self._vectors.shape[1])
        missing = without_embedding(X)
        unit = self.normalize or self.metric == "cosine"
        X = unit_rows(X) if unit else X.copy()
        if self.missing == "mean_vector" and missing.any():
            mean = self._vectors.mean(axis=0, keepdims=True)
            X[missing] = unit_rows(mean) if unit else mean
        return X, missing


class Ballot(Protocol):
    """Neighbours of some perturbations, able to vote."""

    def add(self, y: NDArray[np.int8], rows: NDArray[np.intp], sums: NDArray[np.float64]) -> None:
        """Add the votes of all neighbours to `sums`.

        `y` holds the labels of all training perturbations, `rows` the rows of `sums` (class,
        perturbation, gene) that the perturbations have.
        """

    def count(
        self,
        y: NDArray[np.int8],
        queries: NDArray[np.intp],
        grid: NDArray[np.intp],
        fallback: NDArray[np.intp],
        counts: NDArray[np.int64],
    ) -> None:
        """Count the classes that the nearest vote for, for every number of neighbours of a grid.

        `queries` are the rows of `y` of the perturbations, `fallback` the classes, from 0, of genes
        for which nobody votes. Confusion matrices are added to `counts` (candidate, 3, 4).
        """


@dataclass(frozen=True)
class NearestBallot:
    """The nearest vote, where they have a label; rows of neighbours, and their weights."""

    index: NDArray[np.intp]
    weight: NDArray[np.float64]

    def add(self, y: NDArray[np.int8], rows: NDArray[np.intp], sums: NDArray[np.float64]) -> None:
        """Add votes; see :class:`Ballot`."""
        add_votes(self.index, self.weight, np.ascontiguousarray(y), rows, sums)

    def count(
        self,
        y: NDArray[np.int8],
        queries: NDArray[np.intp],
        grid: NDArray[np.intp],
        fallback: NDArray[np.intp],
        counts: NDArray[np.int64],
    ) -> None:
        """Count what is voted for; see :class:`Ballot`."""
        y = np.ascontiguousarray(y)
        count_votes(self.index, self.weight, grid, y, queries, fallback, counts)


@dataclass(frozen=True)
class LabelledBallot:
    """The nearest `k` with a label vote: rows of all neighbours in their order, and distances.

    They weigh 1/d^exponent; 0 is for equal weights.
    """

    index: NDArray[np.int32]
    distance: NDArray[np.float64]
    k: int
    exponent: float

    def add(self, y: NDArray[np.int8], rows: NDArray[np.intp], sums: NDArray[np.float64]) -> None:
        """Add votes; see :class:`Ballot`."""
        y = np.ascontiguousarray(y)
        add_labelled_votes(self.index, self.distance, self.k, self.exponent, y, rows, sums)

    def count(
        self,
        y: NDArray[np.int8],
        queries: NDArray[np.intp],
        grid: NDArray[np.intp],
        fallback: NDArray[np.intp],
        counts: NDArray[np.int64],
    ) -> None:
        """Count what is voted for; see :class:`Ballot`."""
        y = np.ascontiguousarray(y)
        count_labelled_votes(
            self.index, self.distance, grid, self.exponent, y, queries, fallback, counts
        )


def ballot_of(
    query: NDArray[np.float64],
    train: NDArray[np.float64],
    rows: NDArray[np.intp],
    *,
    k: int,
    neighbors: Neighbors,
    metric: Metric,
    weights: Weights,
    exponent: float,
) -> Ballot:
    """Find the neighbours of `query` among `train`, whose labels are in `rows` of all labels."""
    n = len(train) if neighbors == "labelled" else k
    index, distance = nearest(query, train, k=n)
    if neighbors == "labelled":
        near = rows[index].astype(np.int32)
        apart = distance**2 / 2 if metric == "cosine" else distance
        power = {"uniform": 0.0, "distance": 1.0, "power": float(exponent)}[weights]
        return LabelledBallot(near, apart, k, power)
    weight = vote_weights(distance, metric=metric, weights=weights, exponent=exponent)
    return NearestBallot(rows[index], weight)


def check_voting(metric: str, weights: str, exponent: float) -> None:
    """Refuse parameters of the vote that are not among the allowed ones."""
    check_choice("metric", metric, ("euclidean", "cosine"))
    check_choice("weights", weights, ("distance", "uniform", "power"))
    if not (0 < exponent < np.inf):
        raise ArgumentError(f"exponent={exponent!r}: use a positive number")


def voted_labels(votes: NDArray[np.float64], counts: NDArray[np.int64]) -> NDArray[np.int8]:
    """Return the winning labels; where there is no vote, the majority label of the gene.

    Parameters
    ----------
    votes
        Weights per class, shape (3, perturbation, gene).
    counts
        Training labels per class, shape (3, gene).
    """
    labels = winning_class(votes, order=NON_DE_FIRST)
    return np.where(votes.any(axis=0), labels, majority_labels(counts))


def _vote(
    y: NDArray[np.int8],
    genes: NDArray[np.int64],
    *,
    ballot: Ballot,
    known: NDArray[np.intp],
    missing: NDArray[np.bool_],
    policy: Missing,
) -> tuple[NDArray, NDArray, NDArray[np.bool_]]:
    """Predict a block of genes from the training labels `y` (training perturbation, gene).

    Returns labels, class scores, and where the label is the gene's majority since nobody voted.
    """
    counts = class_counts(y)
    sums = np.zeros((len(CLASSES), len(missing), y.shape[1]))
    ballot.add(y, known, sums)
    labels = voted_labels(sums, counts)
    fell_back = np.asarray(~sums.any(axis=0))
    scores = np.where(~fell_back, class_shares(sums), class_shares(counts)[:, None, :])
    scores = np.moveaxis(scores, 0, -1)
    if policy == "nonde":
        labels[missing], scores[missing] = Label.NON_DE, np.eye(len(CLASSES))[NON_DE]
    elif policy == "drop":
        labels[missing], scores[missing] = Label.UNTESTED, np.nan
    if policy in ("nonde", "drop"):
        fell_back[missing] = False
    return labels, scores, fell_back
