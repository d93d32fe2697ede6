"""Score predicted expression against observed profiles (SPEC I), on arrays.

Arrays are (perturbation, gene) in float64, mean log1p expression. A row of NaN in a prediction is a
perturbation that the method does not predict; its scores are NaN and are counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
import pandas as pd

from pertscale.arguments import checked
from pertscale.errors import ArgumentError, InputError

Matrix = np.ndarray

#: Genes of the sets by default: the most expressed of the control, the most changed.
N_GENES: Final = 1000
N_CHANGED: Final = 20
#: Perturbations whose distances to all others are held at a time.
_ROWS: Final = 256
#: Predictions are kept as float32: what differs by less than this share of a value is the same.
_ROUNDING: Final = 1e-6
_CORRELATIONS: Final = ("pearson_delta", "pearson_delta_mean", "pearson_changed")
_COLUMNS: Final = ("level", "group", "metric", "value", "n")

By = Literal["expression", "change"]


@checked
def evaluate_expression(
    truth: Matrix,
    predicted: Matrix,
    control: np.ndarray,
    *,
    background: np.ndarray,
    perturbations: Sequence[str],
    n_genes: int = N_GENES,
    n_changed: int = N_CHANGED,
    skip_missing_genes: bool = False,
    averaged: np.ndarray | None = None,
) -> pd.DataFrame:
    """Score one method.

    Parameters
    ----------
    truth, predicted : ndarray (perturbation, gene)
    control : ndarray (gene,)
        Observed control.
    background : ndarray (gene,)
        Mean of the training perturbations: what every method knows of the average perturbation.
    perturbations : sequence of str
        Names of the rows.
    n_genes : int
        The most expressed genes of the control that are scored.
    n_changed : int
        The genes that the truth changes most, for metrics on those.
    skip_missing_genes : bool
        Sum over the genes that the method predicts, as the second paper does (SPEC I4). By default
        a perturbation without all genes has no score.
    averaged : ndarray (perturbation,), bool, optional
        Perturbations that the means are over; all by default.

    Returns
    -------
    DataFrame
        Columns ``level, group, metric, value, n``. Level ``perturbation``: ``l2, rmse,
        pearson_delta, pearson_delta_mean, direction, l2_changed, pearson_changed, overlap_changed,
        rank_l1, rank_cosine``, n = genes. Level ``overall``: their means over the perturbations
        where they are defined, n = perturbations (a correlation that is not, as the prediction is
        constant, counts as 0 unless all are); ``spread_ratio, effective_rank,
        effective_rank_truth``; ``n_without_prediction``. Memory: a few copies of the chosen genes.

    Raises
    ------
    InputError
        If shapes do not fit.
    """
    truth, predicted, control, background = _checked(
        truth, predicted, control, background, perturbations
    )
    genes = top_genes(control, n_genes)
    truth, predicted, control, background = (
        values[..., genes] for values in (truth, predicted, control, background)
    )
    missing = np.isnan(predicted)
    if not skip_missing_genes:
        missing = np.broadcast_to(missing.any(axis=1, keepdims=True), missing.shape)
    scores, n = _per_perturbation(truth, predicted, control, background, missing, n_changed)
    rows = [
        ("perturbation", name, metric, float(values[i]), int(n[i]))
        for i, name in enumerate(perturbations)
        for metric, values in scores.items()
    ]
    kept = np.ones(len(truth), bool) if averaged is None else np.asarray(averaged, bool)
    predicts = ~missing.all(axis=1)
    for metric, values in scores.items():
        mean, n_defined = _mean(metric, values[kept], predicts[kept])
        rows.append(("overall", "", metric, mean, n_defined))
    whole = kept & ~missing.any(axis=1)
    collapse = collapse_figures(truth[whole], predicted[whole])
    rows += [("overall", "", m, value, int(whole.sum())) for m, value in collapse.items()]
    lacking = float(missing.all(axis=1).sum())
    rows.append(("overall", "", "n_without_prediction", lacking, len(truth)))
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def _mean(metric: str, values: np.ndarray, predicts: np.ndarray) -> tuple[float, int]:
    """Return the mean over perturbations and how many it is over.

    A correlation with a constant is not defined. Where a method has others, it counts as none: to
    predict no change for the hard perturbations must not raise the mean over the rest.
    """
    defined = np.isfinite(values)
    if not defined.any():
        return np.nan, 0
    if metric in _CORRELATIONS:
        values, defined = np.nan_to_num(values), defined | predicts
    return float(values[defined].mean()), int(defined.sum())


def _per_perturbation(
    truth: Matrix,
    predicted: Matrix,
    control: np.ndarray,
    background: np.ndarray,
    missing: Matrix,
    n_changed: int,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the scores of each perturbation, and the genes that they are of."""
    there = ~missing
    n = there.sum(axis=1)
    rounding = _ROUNDING * float(np.abs(control).max(initial=0))
    predicted = np.where(np.abs(predicted - control) <= rounding, control, predicted)
    delta, change = predicted - control, truth - control
    l2 = _l2(predicted - truth, there)
    changed = there & _most_changed(change, n_changed)
    with np.errstate(invalid="ignore", divide="ignore"):
        rmse = l2 / np.sqrt(n)
    scores = {
        "l2": l2,
        "rmse": rmse,
        "pearson_delta": _pearson(delta, change, there, rounding),
        "pearson_delta_mean": _pearson(predicted - background, truth - background, there, rounding),
        "direction": _share(np.sign(delta) == np.sign(change), there & (change != 0)),
        "l2_changed": _l2(predicted - truth, changed),
        "pearson_changed": _pearson(delta, change, changed, rounding),
        "overlap_changed": _overlap(delta, change, there, n_changed),
        **retrieval(truth, predicted, control, np.asarray(missing.any(axis=1))),
    }
    return scores, n


def top_genes(control: np.ndarray, n: int) -> np.ndarray:
    """Return the positions of the `n` most expressed genes, the first of equal ones (SPEC I1)."""
    if n < 1:
        raise ArgumentError(f"n_genes has to be at least 1, got {n}")
    return np.argsort(-np.asarray(control, np.float64), kind="stable")[:n]


# --- metrics of a perturbation --------------------------------------------------------------------


def _l2(difference: Matrix, there: Matrix) -> np.ndarray:
    """Return the root of the sum of squares (SPEC I2); NaN where no gene is there."""
    squares = np.where(there, difference, 0.0) ** 2
    return np.where(there.any(axis=1), np.sqrt(squares.sum(axis=1)), np.nan)


def _pearson(one: Matrix, two: Matrix, there: Matrix, rounding: float) -> np.ndarray:
    """Return the correlation over genes; NaN where a side is constant (SPEC I3).

    Values that lie within `rounding` of each other are constant.
    """
    n = np.maximum(there.sum(axis=1, keepdims=True), 1)
    centred = []
    for values in (one, two):
        kept = np.where(there, values, 0.0)
        top = np.where(there, values, -np.inf).max(axis=1)
        constant = top - np.where(there, values, np.inf).min(axis=1) <= rounding
        kept = np.where(there, kept - kept.sum(axis=1, keepdims=True) / n, 0.0)
        kept[constant] = 0.0  # and not the rounding of its mean
        centred.append(kept)
    a, b = centred
    scale = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    return np.divide((a * b).sum(axis=1), scale, out=np.full(len(a), np.nan), where=scale > 0)


def _share(hits: Matrix, among: Matrix) -> np.ndarray:
    n = among.sum(axis=1)
    return np.divide((hits & among).sum(axis=1), n, out=np.full(len(n), np.nan), where=n > 0)


def _most_changed(change: Matrix, n: int) -> Matrix:
    """Mark the `n` genes of each row that change most; of equal ones the first."""
    order = np.argsort(-np.abs(change), axis=1, kind="stable")[:, :n]
    marked = np.zeros(change.shape, bool)
    np.put_along_axis(marked, order, True, axis=1)
    return marked


def _overlap(delta: Matrix, change: Matrix, there: Matrix, n: int) -> np.ndarray:
    """Return the share of the most changed genes that are also predicted to be.

    A gene with a predicted change of 0 is none of them.
    """
    claimed = _most_changed(np.where(there, delta, 0.0), n) & there & (delta != 0)
    truly = _most_changed(np.where(there, change, 0.0), n) & there
    return _share(claimed, truly)


def retrieval(
    truth: Matrix, predicted: Matrix, control: np.ndarray, missing: np.ndarray
) -> dict[str, np.ndarray]:
    """Return where the own truth stands among all by its distance to the prediction.

    1: no other truth is nearer; 0: all others are; ties count half. By L1 distance, and by cosine
    of the changes from the control. NaN without a prediction, or with a single truth.
    """
    n = len(truth)
    found = {name: np.full(n, np.nan) for name in ("rank_l1", "rank_cosine")}
    rows = np.flatnonzero(~missing)
    unit = _unit(truth - control)
    for i in rows:
        if n < 2:
            break
        l1 = np.abs(truth - predicted[i]).sum(axis=1)
        change = _unit((predicted[i] - control)[None])[0]
        for name, distance in (("rank_l1", l1), ("rank_cosine", -(unit @ change))):
            others = np.delete(distance, i)
            nearer = (others < distance[i]).sum() + (others == distance[i]).sum() / 2
            found[name][i] = 1 - nearer / (n - 1)
    return found


def _unit(values: Matrix) -> Matrix:
    length = np.linalg.norm(values, axis=1, keepdims=True)
    return np.divide(values, length, out=np.zeros_like(values), where=length > 0)


# --- all perturbations together -------------------------------------------------------------------


def collapse_figures(truth: Matrix, predicted: Matrix) -> dict[str, float]:
    """Say whether a method predicts the same for every perturbation.

    ``spread_ratio`` is the standard deviation over perturbations, averaged over genes, divided by
    the truth's; ``effective_rank`` the exponential of the entropy of the shares of variance, 1 for
    predictions along one direction.
    """
    if len(truth) < 2:
        return dict.fromkeys(("spread_ratio", "effective_rank", "effective_rank_truth"), np.nan)
    observed = truth.std(axis=0, ddof=1).mean()
    return {
        "spread_ratio": float(predicted.std(axis=0, ddof=1).mean() / observed)
        if observed > 0
        else np.nan,
        "effective_rank": _effective_rank(predicted),
        "effective_rank_truth": _effective_rank(truth),
    }


def _effective_rank(values: Matrix) -> float:
    """Return exp(entropy) of the shares of variance; 0 where rows are the same but for rounding."""
    centred = values - values.mean(axis=0)
    variances = np.linalg.eigvalsh(centred @ centred.T)
    variances = variances[variances > 1e-12 * np.sum(values**2)]
    if not len(variances):
        return 0.0
    shares = variances / variances.sum()
    return float(np.exp(-np.sum(shares * np.log(shares))))


# --- error against the number of genes ------------------------------------------------------------


def gene_numbers(n_genes: int) -> np.ndarray:
    """Return the numbers of genes that curves are drawn at (SPEC I7)."""
    numbers = [*range(1, 101), *range(101, 1001, 10), *range(1001, 19_202, 100)]
    return np.array([n for n in numbers if n <= n_genes])


@checked
def error_by_genes(
    truth: Matrix, predicted: Matrix, control: np.ndarray, *, by: By = "expression"
) -> Matrix:
    """Return the L2 of each perturbation over the first 1, 2, … genes (SPEC I7).

    Parameters
    ----------
    truth, predicted : ndarray (perturbation, gene)
    control : ndarray (gene,)
    by : {'expression', 'change'}
        Genes in the order of the control's expression, or of each perturbation's true change.

    Returns
    -------
    ndarray (perturbation, gene)
        NaN from the first gene on that is not predicted.
    """
    if by not in ("expression", "change"):
        raise ArgumentError(f"by={by!r} is not one of expression, change")
    if by == "expression":
        order = np.broadcast_to(top_genes(control, truth.shape[1]), truth.shape)
    else:
        order = np.argsort(-np.abs(truth - control), axis=1, kind="stable")
    squares = np.take_along_axis((predicted - truth) ** 2, order, axis=1)
    return np.sqrt(np.cumsum(squares, axis=1))


def _checked(
    truth: Matrix,
    predicted: Matrix,
    control: np.ndarray,
    background: np.ndarray,
    perturbations: Sequence[str],
) -> tuple[Matrix, Matrix, np.ndarray, np.ndarray]:
    arrays = tuple(np.asarray(a, np.float64) for a in (truth, predicted, control, background))
    shape = (len(perturbations), arrays[0].shape[-1])
    wanted = (shape, shape, shape[1:], shape[1:])
    names = ("truth", "predicted", "control", "background")
    for name, array, needed in zip(names, arrays, wanted, strict=True):
        if array.shape != needed:
            raise InputError(f"{name} has shape {array.shape}, needed is {needed}")
    if np.isnan(arrays[0]).any() or np.isnan(arrays[2]).any():
        raise InputError("the observed profiles have NaN; leave out what was not observed")
    return arrays  # type: ignore[return-value]
