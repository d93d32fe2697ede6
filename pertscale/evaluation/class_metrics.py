"""The metrics of classes, by level and name, as functions of counts and of areas (method F)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pertscale.evaluation.confusion_matrix import Averaged, scores_from_confusion
from pertscale.schema import CLASSES, Label

NON_DE: Final = CLASSES.index(Label.NON_DE)


@dataclass(frozen=True)
class ClassCounts:
    """Confusion counts (..., 3, 4), which metrics of calls and of the truth are functions of.

    `scores` are what :func:`scores_from_confusion` makes of them.
    """

    cells: NDArray[Any]
    scores: Mapping[str, NDArray[np.float64]]

    @classmethod
    def of(cls, cells: NDArray[Any], *, labels: Averaged = "observed") -> ClassCounts:
        """Return counts with their scores."""
        return cls(cells, scores_from_confusion(cells, labels=labels))

    @property
    def n(self) -> NDArray[Any]:
        """Pairs, (...)."""
        return np.asarray(self.cells.sum(axis=(-1, -2)))

    def share(self, n: NDArray[Any]) -> NDArray[np.float64]:
        """Divide numbers of pairs by all; NaN where there is none."""
        undefined = np.full(self.n.shape, np.nan)
        return np.divide(n, self.n, out=undefined, where=self.n > 0)

    @property
    def share_called(self) -> NDArray[np.float64]:
        """Share of the pairs that are called differentially expressed."""
        called = self.cells[..., : len(CLASSES)].sum(axis=(-1, -2))
        return self.share(called - self.cells[..., NON_DE].sum(axis=-1))

    @property
    def share_de(self) -> NDArray[np.float64]:
        """Share of the pairs that are differentially expressed."""
        return self.share(self.n - self.cells[..., NON_DE, :].sum(axis=-1))


@dataclass(frozen=True)
class ClassAreas:
    """What scores say without a call.

    Attributes
    ----------
    auroc, auprc : ndarray (..., 3)
        Of each class against the others.
    auprc_of_change : ndarray (...)
    by_perturbation : ndarray (perturbation,)
        Under the ROC curve of change within each perturbation, where they are known.
    """

    auroc: NDArray[np.float64]
    auprc: NDArray[np.float64]
    auprc_of_change: NDArray[np.float64]
    by_perturbation: NDArray[np.float64]

    @classmethod
    def of(
        cls, areas: NDArray[np.float64], by_perturbation: NDArray[np.float64] | None = None
    ) -> ClassAreas:
        """Return those of areas (..., class, 3): ROC, precision, precision of the negatives."""
        within = np.empty(0) if by_perturbation is None else by_perturbation
        return cls(areas[..., 0], areas[..., 1], areas[..., NON_DE, 2], within)

    @property
    def auprc_macro(self) -> NDArray[np.float64]:
        """Mean of the average precision of up and of down, where there are such pairs."""
        directions = np.delete(self.auprc, NON_DE, axis=-1)
        defined = ~np.isnan(directions)
        n = defined.sum(axis=-1)
        total = np.where(defined, directions, 0.0).sum(axis=-1)
        return np.divide(total, n, out=np.full(np.shape(total), np.nan), where=n > 0)


#: Metrics by level and name, as functions of confusion counts: a value for each class or
#: perturbation, or one.
OF_COUNTS: Final[Mapping[str, Mapping[str, Callable[[ClassCounts], NDArray[Any]]]]] = {
    "overall": {
        "accuracy": lambda counts: counts.scores["accuracy"],
        "balanced_accuracy": lambda counts: counts.scores["balanced_accuracy"],
        "macro_f1": lambda counts: counts.scores["macro_f1"],
        "mcc": lambda counts: counts.scores["mcc"],
        "share_called": lambda counts: counts.share_called,
        "share_de": lambda counts: counts.share_de,
    },
    "class": {
        "precision": lambda counts: counts.scores["precision"],
        "recall": lambda counts: counts.scores["recall"],
        "f1": lambda counts: counts.scores["f1"],
        "support": lambda counts: counts.scores["support"],
        "n_predicted_down": lambda counts: counts.cells[..., CLASSES.index(Label.DOWN)],
        "n_predicted_non_de": lambda counts: counts.cells[..., NON_DE],
        "n_predicted_up": lambda counts: counts.cells[..., CLASSES.index(Label.UP)],
        "n_predicted_none": lambda counts: counts.cells[..., len(CLASSES)],
    },
    "perturbation": {
        "accuracy": lambda counts: counts.scores["accuracy"],
        "balanced_accuracy": lambda counts: counts.scores["balanced_accuracy"],
        "macro_f1": lambda counts: counts.scores["macro_f1"],
    },
}
#: The same of areas.
OF_AREAS: Final[Mapping[str, Mapping[str, Callable[[ClassAreas], NDArray[np.float64]]]]] = {
    "overall": {
        "auprc_de": lambda areas: areas.auprc_of_change,
        "auprc_macro": lambda areas: areas.auprc_macro,
    },
    "class": {"auroc": lambda areas: areas.auroc, "auprc": lambda areas: areas.auprc},
    "perturbation": {"auroc": lambda areas: areas.by_perturbation},
}
