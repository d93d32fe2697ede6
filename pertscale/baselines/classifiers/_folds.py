"""Cross-validation over perturbations: the folds, and one score per candidate (method D2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, Protocol, TypeVar

import dask
import numpy as np
from numpy.typing import ArrayLike, NDArray

from pertscale._computing import compute
from pertscale.baselines.classifiers.base import GENE_STEP
from pertscale.errors import InputError
from pertscale.evaluation import scores_from_confusion
from pertscale.schema import CLASSES

Criterion = Literal["macro_f1", "balanced_accuracy", "accuracy"]
CRITERIA: Final = ("macro_f1", "balanced_accuracy", "accuracy")

Candidate = TypeVar("Candidate", int, float)


class Fold(Protocol):
    """A held-out fold, able to predict itself from the others."""

    def count(
        self, y: NDArray[np.int8], genes: NDArray[np.intp], counts: NDArray[np.int64]
    ) -> None:
        """Add the confusion matrices of every candidate to `counts`, (candidate, 3, 4).

        `y` holds all rows of a few genes, `genes` the positions of these.
        """


def row_groups(groups: ArrayLike | None, n_rows: int) -> NDArray:
    """Return the group of each row; without groups every row is one of its own."""
    names = np.arange(n_rows) if groups is None else np.asarray(groups)
    if names.shape != (n_rows,):
        raise InputError(f"groups has shape {names.shape}; X has {n_rows} rows, one group each")
    return names


def folds(groups: NDArray, *, n_folds: int, seed: int) -> NDArray[np.intp]:
    """Assign every row to a fold, the rows of a group to the same one (method D2).

    Parameters
    ----------
    groups
        Group of each row, shape (n,).
    n_folds
        Number of folds.
    seed
        Seed of the legacy ``RandomState`` that permutes the sorted groups.

    Returns
    -------
    ndarray of intp, shape (n,)
        Fold of each row, from 0.
    """
    names, group_of_row = np.unique(groups, return_inverse=True)
    if not 2 <= n_folds <= len(names):
        raise InputError(
            f"n_folds={n_folds} with {len(names)} training perturbations or groups; use from 2 "
            "folds up to one per group"
        )
    part_of_group = np.empty(len(names), dtype=np.intp)
    order = np.random.RandomState(seed).permutation(len(names))
    for part, members in enumerate(np.array_split(order, n_folds)):
        part_of_group[members] = part
    return part_of_group[group_of_row]


def cross_validate(
    y: Any, plan: Sequence[Fold], grid: Sequence[Candidate], *, criterion: Criterion
) -> dict[Candidate, float]:
    """Score every candidate on the confusion matrices of all folds, added up.

    Parameters
    ----------
    y
        Labels, shape (perturbation, gene); a Dask array is swept once, chunk by chunk.
    plan
        The folds.
    grid
        Candidates, in the order in which the folds predict them.
    criterion
        One of :data:`CRITERIA`.
    """
    counts = _pooled_confusions(y, plan, n_candidates=len(grid))
    values = scores_from_confusion(counts, labels="fixed")[criterion]
    return dict(zip(grid, values.tolist(), strict=True))


def best_candidate(scores: dict[Candidate, float]) -> Candidate:
    """Return the candidate with the highest score, the smallest of equals."""
    return max(scores, key=lambda candidate: (scores[candidate], -candidate))


def _pooled_confusions(y: Any, plan: Sequence[Fold], *, n_candidates: int) -> NDArray[np.int64]:
    """Add up the confusion matrices of all folds and genes, shape (candidate, 3, 4)."""
    if not dask.is_dask_collection(y):
        return _confusions(y, np.arange(y.shape[1]), plan, n_candidates)
    shared = dask.delayed(plan)
    sweep = dask.delayed(_confusions)
    chunks = y.rechunk({0: -1}).to_delayed().ravel()
    genes = np.split(np.arange(y.shape[1]), np.cumsum(y.chunks[1])[:-1])
    parts = (
        sweep(chunk, positions, shared, n_candidates)
        for chunk, positions in zip(chunks, genes, strict=True)
    )
    return sum(compute(*parts))


def _confusions(
    y: NDArray[np.int8], genes: NDArray[np.intp], plan: Sequence[Fold], n_candidates: int
) -> NDArray[np.int64]:
    total = np.zeros((n_candidates, len(CLASSES), len(CLASSES) + 1), dtype=np.int64)
    for start in range(0, len(genes), GENE_STEP):
        part = slice(start, start + GENE_STEP)
        labels = np.ascontiguousarray(y[:, part])
        for fold in plan:
            fold.count(labels, genes[part], total)
    return total
