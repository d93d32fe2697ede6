"""A linear model of the three classes, each against the rest, by stochastic gradient descent."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin

from pertscale.baselines.classifiers._kernels.descent import descend
from pertscale.schema import CLASSES

Floats = NDArray[np.float64]


class AveragedDescent(ClassifierMixin, BaseEstimator):
    """Logistic regressions of the classes by averaged stochastic gradient descent.

    Takes the steps of scikit-learn's ``SGDClassifier`` (``loss="log_loss", shuffle=False,
    learning_rate="invscaling", power_t=0.25``), all classes in one pass. Where the examples are cut
    into calls does not matter.

    Parameters
    ----------
    alpha
        Strength of the L2 penalty.
    eta0
        Length of the first step; that of step t is divided by t^(1/4).
    average
        Step, counted from 1, from which on the weights are averaged.

    Attributes
    ----------
    classes_ : ndarray of int8, shape (3,)
    coef_, intercept_ : ndarray of float64, shape (3, feature) and (3,)
        Averaged, once `average` steps were taken.
    """

    def __init__(self, *, alpha: float = 1e-4, eta0: float = 1.0, average: int = 1) -> None:
        self.alpha = alpha
        self.eta0 = eta0
        self.average = average

    def fit(self, X: Floats, y: NDArray[np.int8]) -> Self:
        """Take the steps of :meth:`partial_fit`, from the start."""
        if hasattr(self, "classes_"):
            del self.classes_
        return self.partial_fit(X, y)

    def partial_fit(self, X: Floats, y: NDArray[np.int8], classes: Any = None) -> Self:
        """Take a step for every row of `X`, in their order.

        Parameters
        ----------
        X
            Shape (n, feature).
        y
            Labels, shape (n,).
        classes
            Not needed: they are those of labels.
        """
        return self.learn((X, np.empty((1, 0))), y[:, None], np.arange(len(X), dtype=np.int32))

    def learn(
        self, tables: tuple[Floats, Floats], labels: NDArray[np.int8], pairs: NDArray[np.integer]
    ) -> Self:
        """Take a step for each of some pairs, whose features are those of a row and of a gene.

        Parameters
        ----------
        tables
            Features of the rows and of the genes.
        labels
            Shape (row, gene); those of `pairs` are not untested.
        pairs
            Positions in the flattened `labels`, in the order of the steps.
        """
        if not hasattr(self, "classes_"):
            n_features = sum(table.shape[1] for table in tables)
            self.classes_ = np.array(CLASSES, dtype=np.int8)
            self._weights, self._sums = np.zeros((2, len(CLASSES), n_features))
            self._intercepts = np.zeros((2, len(CLASSES)))
            self._state = np.array([1.0, 1.0, 0.0, 1.0])
        rows, genes = map(np.ascontiguousarray, tables)
        descend(
            rows,
            genes,
            np.ascontiguousarray(labels),
            pairs,
            self.alpha,
            self.eta0,
            float(self.average),
            self._weights,
            self._sums,
            self._intercepts,
            self._state,
        )
        return self

    @property
    def coef_(self) -> Floats:
        """The weights of every class."""
        t, scale, share, divisor = self._state
        if t > self.average:
            return (self._sums + share * self._weights) / divisor
        return scale * self._weights

    @property
    def intercept_(self) -> Floats:
        """The intercept of every class."""
        return self._intercepts[int(self._state[0] > self.average)].copy()

    def decision_function(self, X: Floats) -> Floats:
        """Return the score of every class, shape (n, 3)."""
        return X @ self.coef_.T + self.intercept_

    def predict_proba(self, X: Floats) -> Floats:
        """Return the probabilities of the classes, divided by their sum, shape (n, 3)."""
        odds = expit(self.decision_function(X))
        return odds / odds.sum(axis=1, keepdims=True)

    def predict(self, X: Floats) -> NDArray[np.int8]:
        """Return the label with the highest score, shape (n,)."""
        return np.asarray(self.classes_[self.decision_function(X).argmax(axis=1)])
