"""Several methods' predictions side by side: common genes and perturbations, ratios (method I)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, get_args

import numpy as np
import pandas as pd

from pertscale.arguments import checked
from pertscale.errors import ArgumentError, InputError
from pertscale.evaluation.expression import (
    N_CHANGED,
    N_GENES,
    Observed,
    count_row,
    score,
    top_genes,
    ways_of,
)
from pertscale.evaluation.target_genes import Targets, check_targets, own_targets
from pertscale.schema import GENE, PERTURBATION

if TYPE_CHECKING:
    import xarray as xr

Genes = Literal["common", "per_model"]
Perturbations = Literal["same", "common", "most_methods"]
#: Resamples whose means are held at a time.
_RESAMPLES: Final = 1000


@checked
def compare_expression(
    truth: xr.DataArray,
    predictions: Mapping[str, xr.DataArray],
    *,
    control: xr.DataArray,
    background: xr.DataArray,
    n_genes: int = N_GENES,
    genes: Genes = "common",
    perturbations: Perturbations = "same",
    no_change: Collection[str] = (),
    targets: Targets = "exclude",
    target_genes: Mapping[str, Sequence[str]] | None = None,
    no_effect: Mapping[str, np.ndarray] | None = None,
    noise: xr.DataArray | None = None,
    controls: np.ndarray | None = None,
) -> pd.DataFrame:
    """Score predictions of several methods on the same footing.

    Parameters
    ----------
    truth : DataArray (perturbation, gene)
        Observed profiles of the held-out perturbations, mean log1p expression.
    predictions : mapping of str to DataArray (perturbation, gene)
        By method. Perturbations and genes may be missing, or NaN.
    control, background : DataArray (gene,)
        Observed control; mean of the training perturbations.
    n_genes : int
        The most expressed genes of the control that are scored.
    genes : {'common', 'per_model'}
        'common': the genes that all methods predict, so that none gains by leaving genes out.
        'per_model': each method on the genes that it has, as the second paper does (method I4).
    perturbations : {'same', 'common', 'most_methods'}
        Which perturbations the methods are compared on. 'same': those that the methods that predict
        the most predict, see :func:`compared_set`; a method that predicts fewer stands apart, on
        those that it predicts. 'common': those that all predict. 'most_methods': those that as many
        methods as possible predict, the others' means being over fewer, as in the second paper
        (method H10).
    no_change : collection of str
        Methods that count as predicting no change where they predict nothing.
    targets : {'exclude', 'include'}
        Whether the genes that a perturbation targets are left out of its scores, see
        :func:`pertscale.evaluation.evaluate_expression`. 'include' scores as the second paper does.
    target_genes : mapping, optional
        Perturbation → genes that it targets; by default as its name says.
    no_effect : mapping of str to ndarray (perturbation,), optional
        As of :func:`pertscale.evaluation.no_effect`, in the order of the truth.
    noise : DataArray (perturbation, gene), optional
        Variances of the truth, see :func:`pertscale.evaluation.evaluate_expression`.
    controls : ndarray (half, gene), optional
        Means of two halves of the control cells over the genes of the truth; see the same.

    Returns
    -------
    DataFrame
        Columns ``method, apart, level, group, metric, value, n, no_effect``: those of
        :func:`pertscale.evaluation.evaluate_expression`, and whether the method stands apart. Rows
        and means are of the perturbations that a method is compared on, and ranks are among these;
        ``n_without_prediction`` is of all. Memory: the chosen genes of one method at a time.

    Raises
    ------
    InputError
        If no gene is left.

    References
    ----------
    Ahlmann-Eltze, Huber and Anders (2025), https://doi.org/10.1038/s41592-025-02772-6

    Examples
    --------
    >>> profiles = ps.stats.read_pseudobulk("k562.labels")["mean_log1p"]
    >>> train, truth = profiles[:9], profiles[9:13]
    >>> models = {"no_change": ps.baselines.NoChange(), "mean": ps.baselines.MeanExpression()}
    >>> names = list(truth["perturbation"].values)
    >>> table = ps.evaluation.compare_expression(
    ...     truth,
    ...     {name: model.fit(train).predict(names) for name, model in models.items()},
    ...     control=train[0], background=train[1:].mean("perturbation"),
    ... )
    >>> table.query("level == 'overall' and metric == 'rmse'")[["method", "metric", "n"]]
           method metric  n
    41  no_change   rmse  4
    95       mean   rmse  4
    """
    _check_choice("genes", genes, Genes)
    _check_choice("perturbations", perturbations, Perturbations)
    check_targets(targets)
    names = [str(name) for name in truth[PERTURBATION].values]
    chosen = truth[GENE].values[top_genes(control.values, n_genes)]
    read = {
        name: partial(_aligned, prediction, truth, control if name in no_change else None)
        for name, prediction in predictions.items()
    }
    if genes == "common":
        chosen = _common_genes(chosen, read)
    own = np.zeros((len(names), len(chosen)), bool)
    if targets == "exclude":
        own = own_targets(names, list(chosen), target_genes=target_genes)
    levels = [x.sel({GENE: chosen}).values.astype(np.float64) for x in (control, background)]
    at = pd.Index(truth[GENE].values).get_indexer(chosen)
    observed = Observed(
        names=np.array(names, object),
        truth=truth.sel({GENE: chosen}).values.astype(np.float64),
        control=levels[0],
        background=levels[1],
        own=own,
        no_effect=dict(no_effect or {}),
        noise=None if noise is None else noise.sel({GENE: chosen}).values.astype(np.float64),
        ways=ways_of(controls, at),
    )
    predicts = {name: _predicted(one(chosen), own) for name, one in read.items()}
    compared = _chosen_set(predicts, perturbations)
    together = observed.of(compared.perturbations)
    tables = []
    for method, one in read.items():
        apart = method in compared.apart
        rows = predicts[method] if apart else compared.perturbations
        table, _ = score(
            observed.of(rows) if apart else together,
            one(chosen)[rows],
            n_changed=N_CHANGED,
            skip_missing_genes=genes == "per_model",
        )
        lacking = _lacking(predictions[method], truth, chosen)
        both = pd.concat([table, count_row(lacking, len(names))], ignore_index=True)
        both.insert(0, "method", method)
        both.insert(1, "apart", apart)
        tables.append(both)
    return pd.concat(tables, ignore_index=True)


def _check_choice(what: str, value: str, choices: object) -> None:
    if value not in get_args(choices):
        raise ArgumentError(f"{what}={value!r} is not one of {', '.join(get_args(choices))}")


# --- genes and perturbations that are compared ----------------------------------------------------


def _aligned(
    prediction: xr.DataArray, truth: xr.DataArray, filling: xr.DataArray | None, genes: np.ndarray
) -> np.ndarray:
    """Return a prediction of the perturbations of the truth and some genes, float64."""
    found = prediction.reindex({PERTURBATION: truth[PERTURBATION], GENE: genes})
    values = found.transpose(PERTURBATION, GENE).values.astype(np.float64)
    if filling is not None:
        values = np.where(np.isnan(values), filling.sel({GENE: genes}).values, values)
    return values


def _common_genes(
    chosen: np.ndarray, read: Mapping[str, Callable[[np.ndarray], np.ndarray]]
) -> np.ndarray:
    """Keep the genes that every method predicts for some perturbation."""
    there = {name: ~np.isnan(one(chosen)).all(axis=0) for name, one in read.items()}
    kept = np.logical_and.reduce(list(there.values()))
    if not kept.any():
        poorest = min(there, key=lambda method: there[method].sum())
        raise InputError(
            f"no gene is predicted by all of {', '.join(there)}; {poorest!r} has the fewest. "
            "Compare without it, or pass genes='per_model'"
        )
    return np.asarray(chosen[kept])


def _predicted(values: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Return which rows have all genes that are anywhere in the prediction, targets left out."""
    missing = np.isnan(values)
    anywhere = ~missing.all(axis=0)
    return np.asarray(~(missing & ~own)[:, anywhere].any(axis=1) & anywhere.any())


def _lacking(prediction: xr.DataArray, truth: xr.DataArray, genes: np.ndarray) -> int:
    """Count the perturbations that a method says nothing of."""
    return int(np.isnan(_aligned(prediction, truth, None, genes)).all(axis=1).sum())


@dataclass(frozen=True, eq=False)
class ComparedSet:
    """The perturbations that methods are compared on.

    Attributes
    ----------
    perturbations : ndarray (perturbation,), bool
    methods : tuple of str
        Those that are compared, which predict all of them.
    apart : tuple of str
        The others, which are to stand apart.
    """

    perturbations: np.ndarray
    methods: tuple[str, ...]
    apart: tuple[str, ...]


@checked
def compared_set(predicts: Mapping[str, np.ndarray]) -> ComparedSet:
    """Choose one set of perturbations to compare methods on (method O9).

    It is what the methods that predict the most have in common, whatever the others do: a method
    that predicts little does not shrink the comparison of the rest.

    Parameters
    ----------
    predicts : mapping of str to ndarray (perturbation,), bool
        By method, which perturbations it predicts.

    Examples
    --------
    >>> predicts = {
    ...     "mean": np.array([True, True, True]),
    ...     "linear": np.array([True, True, True]),
    ...     "mine": np.array([True, False, False]),
    ... }
    >>> chosen = ps.evaluation.compared_set(predicts)
    >>> chosen.methods, chosen.apart
    (('mean', 'linear'), ('mine',))
    """
    most = max((int(rows.sum()) for rows in predicts.values()), default=0)
    largest = [rows for rows in predicts.values() if rows.sum() == most]
    chosen = np.logical_and.reduce(largest) if largest else np.zeros(0, bool)
    methods = tuple(m for m, rows in predicts.items() if chosen.any() and rows[chosen].all())
    return ComparedSet(chosen, methods, tuple(m for m in predicts if m not in methods))


def _chosen_set(predicts: Mapping[str, np.ndarray], rule: Perturbations) -> ComparedSet:
    if rule == "same":
        return compared_set(predicts)
    if rule == "common":
        return ComparedSet(np.logical_and.reduce(list(predicts.values())), tuple(predicts), ())
    return ComparedSet(_most_methods(predicts.values()), tuple(predicts), ())


def _most_methods(predicts: Collection[np.ndarray]) -> np.ndarray:
    counts = np.sum(list(predicts), axis=0)
    return np.asarray(counts == counts.max(initial=0))


@checked
def common_perturbations(
    predictions: Mapping[str, np.ndarray], *, rule: Literal["all_genes", "first_gene"] = "all_genes"
) -> np.ndarray:
    """Return which rows as many methods as possible predict (method H10).

    Parameters
    ----------
    predictions : mapping of str to ndarray (perturbation, gene)
    rule : {'all_genes', 'first_gene'}
        A row counts as predicted if all genes that the method has anywhere are there; or, as in the
        second paper, if the first gene is.

    References
    ----------
    Ahlmann-Eltze, Huber and Anders (2025), https://doi.org/10.1038/s41592-025-02772-6

    Examples
    --------
    >>> whole = np.ones((3, 2))
    >>> partly = np.array([[1.0, 2.0], [np.nan, 1.0], [1.0, 1.0]])
    >>> ps.evaluation.common_perturbations({"mean": whole, "mine": partly})
    array([ True, False,  True])
    """
    found = []
    for predicted in predictions.values():
        if rule == "first_gene":
            found.append(~np.isnan(predicted[:, 0]))
        else:
            found.append(_predicted(predicted, np.zeros(predicted.shape, bool)))
    return _most_methods(found)


@checked
def ratio_to_reference(
    scores: pd.DataFrame,
    *,
    reference: str = "mean",
    metric: str = "l2",
    n_bootstrap: int = 10_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Divide a metric by a reference method's, perturbation by perturbation (method I6).

    Parameters
    ----------
    scores : DataFrame
        With ``method, group, metric, value`` and possibly ``split``; rows of level
        ``perturbation``. The splits are pooled.
    reference : str
        Method to divide by.
    metric : str
    n_bootstrap : int
        Resamples of the perturbations for the interval.
    seed : int
        Seed of the resamples; a method's do not depend on the other methods.

    Returns
    -------
    DataFrame
        One row per method: ``method, n, ratio, low, high, contains_one``: the mean ratio and the
        2.5 and 97.5 % quantiles of the bootstrap means.

    Raises
    ------
    InputError
        If the reference is not among the methods.

    References
    ----------
    Ahlmann-Eltze, Huber and Anders (2025), https://doi.org/10.1038/s41592-025-02772-6

    Examples
    --------
    >>> scores = pd.DataFrame(
    ...     {
    ...         "method": ["mean", "mean", "mine", "mine"],
    ...         "group": ["GATA1", "KLF1"] * 2,
    ...         "metric": "l2",
    ...         "value": [2.0, 4.0, 1.0, 3.0],
    ...     }
    ... )
    >>> ps.evaluation.ratio_to_reference(scores)[["method", "n", "ratio", "contains_one"]]
      method  n  ratio  contains_one
    0   mean  2  1.000          True
    1   mine  2  0.625         False
    """
    rows = scores[scores["metric"] == metric]
    if "level" in rows:
        rows = rows[rows["level"] == "perturbation"]
    keys = [c for c in ("context", "split", "group") if c in rows]
    wide = rows.pivot_table(index=keys, columns="method", values="value", sort=False)
    if reference not in wide:
        raise InputError(
            f"the scores have no {metric!r} of {reference!r}; there are "
            f"{', '.join(map(str, wide.columns)) or 'none'}"
        )
    found = []
    for method in wide.columns:
        pair = wide[[method]].assign(reference=wide[reference]).dropna()
        ratios = (pair[method] / pair["reference"]).to_numpy()
        low, high = bootstrap_interval(ratios, n_bootstrap=n_bootstrap, seed=seed)
        mean = float(ratios.mean()) if len(ratios) else np.nan
        found.append((str(method), len(ratios), mean, low, high, low <= 1 <= high))
    return pd.DataFrame(found, columns=["method", "n", "ratio", "low", "high", "contains_one"])


def bootstrap_interval(values: np.ndarray, *, n_bootstrap: int, seed: int) -> tuple[float, float]:
    """Return the 2.5 and 97.5 % quantiles of the means of resamples; NaN without values."""
    if not len(values):
        return np.nan, np.nan
    random = np.random.default_rng(seed)
    means = np.concatenate(
        [
            values[
                random.integers(0, len(values), (min(_RESAMPLES, n_bootstrap - i), len(values)))
            ].mean(axis=1)
            for i in range(0, n_bootstrap, _RESAMPLES)
        ]
    )
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
