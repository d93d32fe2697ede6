"""How well predicted deviations from additivity find the interactions (method J6, J7)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import pandas as pd

from pertscale.arguments import checked
from pertscale.errors import ArgumentError, InputError
from pertscale.schema import GENE, MODEL, PERTURBATION

if TYPE_CHECKING:
    import xarray as xr

#: False discovery proportions that curves of several splits are averaged at.
FDP_GRID: Final = np.linspace(0.0, 1.0, 101)
#: Deviations below this are the rounding of float32.
_ROUNDING: Final = 1e-5
_AREAS: Final = ("proper", "paper")


@dataclass(frozen=True, eq=False)
class CallCurve:
    """True and false calls as the threshold on the absolute deviation goes down.

    Attributes
    ----------
    magnitude : ndarray (n,)
        Absolute predicted deviations in the order of calling, largest first; pairs without a
        prediction come last, as -1.
    true_calls, false_calls : ndarray (n,), int64
        Interactions and others among the first 1, 2, …, n pairs.

    References
    ----------
    Ahlmann-Eltze, Huber and Anders (2025), https://doi.org/10.1038/s41592-025-02772-6

    Examples
    --------
    >>> deviation = np.array([0.9, -0.7, 0.2, 0.1])
    >>> curve = ps.evaluation.call_curve(deviation, np.array([True, False, True, False]))
    >>> curve.tpr_at(np.array([0.0, 0.5]))
    array([0.5, 1. ])
    """

    magnitude: np.ndarray
    true_calls: np.ndarray
    false_calls: np.ndarray

    @property
    def n_positive(self) -> int:
        """Number of interactions."""
        return int(self.true_calls[-1])

    @property
    def n_negative(self) -> int:
        """Number of other pairs."""
        return int(self.false_calls[-1])

    @cached_property
    def fdp(self) -> np.ndarray:
        """False discovery proportion of the first 1, 2, …, n calls."""
        return self.false_calls / np.maximum(1, self.false_calls + self.true_calls)

    @cached_property
    def recall(self) -> np.ndarray:
        """Share of the interactions among the first calls: the true positive rate."""
        return self.true_calls / max(self.n_positive, 1)

    def tpr_at(self, fdp: np.ndarray = FDP_GRID) -> np.ndarray:
        """Return the largest true positive rate at false discovery proportions (method J6).

        Linear between those that occur, 0 below the lowest, 1 above the highest.
        """
        order = np.argsort(self.fdp, kind="stable")
        best = np.maximum.accumulate(self.recall[order])
        x, group = np.unique(self.fdp[order], return_inverse=True)
        y = np.bincount(group, best) / np.bincount(group)
        return np.interp(fdp, x, y, left=0.0, right=1.0)

    def auprc(self, area: Literal["proper", "paper"] = "proper") -> float:
        """Return the area under precision and recall.

        'proper' is average precision over distinct thresholds; 'paper' the second paper's formula,
        which sorts by precision and is too small.
        """
        _check_area(area)
        precision = 1 - self.fdp
        if area == "proper":
            last = self._distinct
            return float(np.sum(np.diff(self.recall[last], prepend=0.0) * precision[last]))
        order = np.argsort(self.fdp, kind="stable")
        order = order[np.argsort(precision[order], kind="stable")]
        x, y = precision[order], self.recall[order]
        return float(-np.sum((x[1:] + x[:-1]) / 2 * np.diff(y)))

    def auroc(self, area: Literal["proper", "paper"] = "proper") -> float:
        """Return the area under the ROC curve; 'paper' follows the second paper's order of ties."""
        _check_area(area)
        fpr = self.false_calls / max(self.n_negative, 1)
        if area == "proper":
            x, y = (np.append(0.0, v[self._distinct]) for v in (fpr, self.recall))
        else:
            order = np.argsort(self.fdp, kind="stable")
            order = order[np.argsort(fpr[order], kind="stable")]
            x, y = fpr[order], self.recall[order]
        return float(np.sum((y[1:] + y[:-1]) / 2 * np.diff(x)))

    @cached_property
    def _distinct(self) -> np.ndarray:
        """Position of the last pair of each run of equal magnitudes."""
        return np.flatnonzero(np.append(np.diff(self.magnitude) != 0, True))


@checked
def call_curve(deviation: np.ndarray, interaction: np.ndarray) -> CallCurve:
    """Order pairs by the size of their predicted deviation and count true and false calls.

    Parameters
    ----------
    deviation : ndarray (n,)
        Prediction minus the observed additive expectation; NaN where there is no prediction: these
        pairs are called last. Equal ones are called in their order.
    interaction : ndarray (n,), bool
        Whether the pair interacts.

    Raises
    ------
    InputError
        If shapes differ, or there is no interaction or nothing else.

    References
    ----------
    Ahlmann-Eltze, Huber and Anders (2025), https://doi.org/10.1038/s41592-025-02772-6

    Examples
    --------
    >>> deviation = np.array([0.9, -0.7, 0.2, 0.1])
    >>> curve = ps.evaluation.call_curve(deviation, np.array([True, False, True, False]))
    >>> curve.fdp.round(2), round(curve.auprc(), 3), curve.auroc()
    (array([0.  , 0.5 , 0.33, 0.5 ]), 0.833, 0.75)
    """
    magnitude = np.abs(np.asarray(deviation, np.float64))
    truth = np.asarray(interaction, bool)
    if magnitude.ndim != 1 or magnitude.shape != truth.shape:
        raise InputError(
            f"deviations have shape {magnitude.shape} and interactions {truth.shape}; needed are "
            "two vectors of one length"
        )
    if truth.all() or not truth.any():
        raise InputError(
            f"{int(truth.sum())} of {len(truth)} pairs interact; curves need some that do and some "
            "that do not"
        )
    magnitude = np.where(np.isnan(magnitude), -1.0, magnitude)
    order = np.argsort(-magnitude, kind="stable")
    found = truth[order]
    return CallCurve(magnitude[order], np.cumsum(found), np.cumsum(~found))


@checked
def predicted_pairs(
    judged: pd.DataFrame, predictions: xr.DataArray
) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield per model the judged pairs of predicted doubles with what it predicts (method J5).

    What a model does not predict counts as no change. A model that is additive deviates nowhere
    and is left out.

    Parameters
    ----------
    judged : DataFrame
        As ``Interactions.table``: every double on the same genes.
    predictions : DataArray (model, perturbation, gene), float32
        Mean log1p expression; NaN where there is none.

    Yields
    ------
    tuple of (str, DataFrame)
        The model; the rows of `judged` with the columns ``predicted`` and ``predicted_deviation``,
        the prediction minus the observed additive expectation.

    References
    ----------
    Ahlmann-Eltze, Huber and Anders (2025), https://doi.org/10.1038/s41592-025-02772-6

    Examples
    --------
    >>> profiles = ps.stats.read_pseudobulk("k562.labels")["mean_log1p"]
    >>> judged = ps.stats.find_interactions(profiles).table
    >>> doubles = judged["perturbation"].unique()
    >>> mean = ps.baselines.MeanExpression().fit(profiles[:13]).predict(doubles)
    >>> predictions = mean.astype(np.float32).expand_dims(model=["mean"])
    >>> for model, pairs in ps.evaluation.predicted_pairs(judged, predictions):
    ...     print(model, len(pairs), list(pairs.columns[-2:]))
    mean 480 ['predicted', 'predicted_deviation']
    """
    for found in deviating_models(judged, predictions):
        yield found.model, found.rows(judged, slice(None))


@dataclass(frozen=True, eq=False)
class DeviatingModel:
    """What a model predicts of judged pairs, from whose additive expectation it deviates.

    Attributes
    ----------
    model : str
    at : ndarray (n,), intp
        Rows of the pairs in the table of those that were judged.
    predicted, deviation : ndarray (n,), float32
        The prediction, and that minus the observed additive expectation.
    """

    model: str
    at: np.ndarray
    predicted: np.ndarray
    deviation: np.ndarray

    def rows(self, judged: pd.DataFrame, chosen: np.ndarray | slice) -> pd.DataFrame:
        """Return some of the pairs, with what is predicted of them."""
        return judged.iloc[self.at[chosen]].assign(
            predicted=self.predicted[chosen], predicted_deviation=self.deviation[chosen]
        )


def deviating_models(judged: pd.DataFrame, predictions: xr.DataArray) -> Iterator[DeviatingModel]:
    """Yield what :func:`predicted_pairs` does, without copies of the table."""
    at = np.flatnonzero(judged[PERTURBATION].isin(predictions[PERTURBATION].values))
    if not len(at):
        return
    doubles, genes = (pd.unique(judged[c].to_numpy()[at]) for c in (PERTURBATION, GENE))
    chosen = predictions.sel({PERTURBATION: doubles, GENE: genes}).values
    additive, control = (judged[c].to_numpy(np.float32)[at] for c in ("additive", "control"))
    for model, values in zip(predictions[MODEL].values, chosen, strict=True):
        predicted = np.where(np.isnan(values.ravel()), control, values.ravel())
        deviation = predicted - additive
        if np.abs(deviation).max() >= _ROUNDING:
            yield DeviatingModel(str(model), at, predicted, deviation)


@checked
def strongest(table: pd.DataFrame, *, by: str, n: int) -> pd.DataFrame:
    """Return the `n` rows with the largest absolute values in a column, the first of equal ones.

    Examples
    --------
    >>> table = pd.DataFrame({"gene": ["HBG1", "HBZ", "ACTB"], "deviation": [0.4, -0.9, 0.1]})
    >>> ps.evaluation.strongest(table, by="deviation", n=2)
       gene  deviation
    1   HBZ       -0.9
    0  HBG1        0.4
    """
    return table.iloc[largest(table[by].to_numpy(), n)]


def largest(values: np.ndarray, n: int) -> np.ndarray:
    """Return where the `n` largest absolute values are, the first of equal ones; NaN are last."""
    size = np.abs(values)
    size = np.where(np.isnan(size), -1, size)
    at = np.arange(len(size))
    if n < len(size):  # those that are as large as the n-th, of which there may be many
        at = np.flatnonzero(size >= np.partition(size, -n)[-n])
    return at[np.argsort(-size[at], kind="stable")][:n]


@checked
def recurrence(calls: Mapping[str, pd.DataFrame], *, of: str) -> pd.DataFrame:
    """Count how often each gene, or double, is among the calls of each method (method J8).

    Parameters
    ----------
    calls : mapping of str to DataFrame
        By method, such as :func:`strongest` returns them; columns ``perturbation`` and ``gene``.
    of : {'gene', 'perturbation'}

    Returns
    -------
    DataFrame
        One row per name, the most frequent first; one column per method.

    References
    ----------
    Ahlmann-Eltze, Huber and Anders (2025), https://doi.org/10.1038/s41592-025-02772-6

    Examples
    --------
    >>> calls = {
    ...     "mean": pd.DataFrame({"perturbation": ["A+B", "A+C"], "gene": ["HBG1", "HBG1"]}),
    ...     "mine": pd.DataFrame({"perturbation": ["A+B", "A+B"], "gene": ["HBG1", "HBZ"]}),
    ... }
    >>> ps.evaluation.recurrence(calls, of="gene")
          mean  mine
    gene
    HBG1     2     1
    HBZ      0     1
    """
    counts = pd.DataFrame({m: table[of].value_counts() for m, table in calls.items()})
    counts = counts.fillna(0).astype(int)
    return counts.loc[counts.sum(axis=1).sort_values(ascending=False, kind="stable").index]


@checked
def agreement(calls: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the number of calls that each two methods share (method J11), methods x methods.

    `calls` as for :func:`recurrence`; rows that stand several times, as over splits, count once.

    References
    ----------
    Ahlmann-Eltze, Huber and Anders (2025), https://doi.org/10.1038/s41592-025-02772-6

    Examples
    --------
    >>> calls = {
    ...     "mean": pd.DataFrame({"perturbation": ["A+B", "A+C"], "gene": ["HBG1", "HBG1"]}),
    ...     "mine": pd.DataFrame({"perturbation": ["A+B", "A+B"], "gene": ["HBG1", "HBZ"]}),
    ... }
    >>> ps.evaluation.agreement(calls)
          mean  mine
    mean     2     1
    mine     1     2
    """
    sets = {
        method: set(zip(table["perturbation"], table["gene"], strict=True))
        for method, table in calls.items()
    }
    shared = [[len(one & other) for other in sets.values()] for one in sets.values()]
    return pd.DataFrame(shared, index=list(sets), columns=list(sets))


def _check_area(area: str) -> None:
    if area not in _AREAS:
        raise ArgumentError(f"area={area!r} is not one of {', '.join(_AREAS)}")
