"""What a unit hands to a method, and what the method hands back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False, kw_only=True)
class UnitInputs:
    """All that a classifier can be given to fit and predict one unit.

    Methods need different things; what takes time or memory is a function, which is called only for
    methods that need it.

    Attributes
    ----------
    labels : array
        Labels of the training perturbations, (n_train, gene); NumPy or Dask.
    groups : sequence of str
        Target group of each training perturbation.
    test_groups : sequence of str
        Target group of each perturbation to predict.
    seed : int
    vectors : callable
        Returns the vectors of the training, then of the test perturbations, (n_train + n_test, d).
    gene_vectors : callable
        Returns the vectors of the genes, (gene, d).
    truth : callable
        Returns the observed labels of the test perturbations, (n_test, gene).
    """

    labels: Any
    groups: Sequence[str]
    test_groups: Sequence[str]
    seed: int
    vectors: Callable[[], NDArray[np.float64]]
    gene_vectors: Callable[[], NDArray[np.float64]]
    truth: Callable[[], Any]


@dataclass(frozen=True, eq=False)
class Predicted:
    """What a method predicts of the test perturbations.

    Attributes
    ----------
    labels, scores : array
        Labels (perturbation, gene), and class scores (perturbation, gene, 3).
    params : dict
        Parameters of the method, for the record.
    fell_back : array of bool, optional
        Pairs that got the majority label of their gene, as nobody voted; of methods that vote.
    """

    labels: Any
    scores: Any
    params: dict[str, Any]
    fell_back: Any = None

    @property
    def is_held_as_written(self) -> bool:
        """Whether it is in memory, in the types that predictions are written in."""
        written = ((self.labels, np.int8), (self.scores, np.float32))
        return all(
            isinstance(found, np.ndarray) and found.dtype == dtype for found, dtype in written
        )
