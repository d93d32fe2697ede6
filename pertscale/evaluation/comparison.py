"""Several methods' predictions side by side: common genes and perturbations, ratios (SPEC I)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import pandas as pd

from pertscale.arguments import checked
from pertscale.errors import ArgumentError, InputError
from pertscale.evaluation.expression import N_GENES, evaluate_expression, top_genes
from pertscale.schema import GENE, PERTURBATION

if TYPE_CHECKING:
    import xarray as xr

Genes = Literal["common", "per_model"]
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
        'per_model': each method on the genes that it has, as the second paper does (SPEC I4).

    Returns
    -------
    DataFrame
        Columns ``method, level, group, metric, value, n`` as of
        :func:`pertscale.evaluation.evaluate_expression`. Means at level ``overall`` are over the
        perturbations that as many methods as possible predict (SPEC H10).

    Raises
    ------
    InputError
        If no gene is left.
    """
    if genes not in ("common", "per_model"):
        raise ArgumentError(f"genes={genes!r} is not one of common, per_model")
    chosen = truth[GENE].values[top_genes(control.values, n_genes)]
    aligned = {
        name: prediction.reindex({PERTURBATION: truth[PERTURBATION], GENE: chosen}).values
        for name, prediction in predictions.items()
    }
    if genes == "common":
        chosen, aligned = _on_common_genes(chosen, aligned)
    names = [str(n) for n in truth[PERTURBATION].values]
    observed = truth.sel({GENE: chosen}).values
    levels = [x.sel({GENE: chosen}).values for x in (control, background)]
    common = common_perturbations(aligned)
    tables = [
        evaluate_expression(
            observed,
            predicted,
            levels[0],
            background=levels[1],
            perturbations=names,
            n_genes=len(chosen),
            skip_missing_genes=genes == "per_model",
            averaged=common,
        ).assign(method=method)
        for method, predicted in aligned.items()
    ]
    table = pd.concat(tables, ignore_index=True)
    return table[["method", *(c for c in table.columns if c != "method")]]


def _on_common_genes(
    chosen: np.ndarray, aligned: dict[str, np.ndarray]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Keep the genes that every method predicts for some perturbation."""
    kept = np.logical_and.reduce([~np.isnan(p).all(axis=0) for p in aligned.values()])
    if not kept.any():
        poorest = min(aligned, key=lambda m: (~np.isnan(aligned[m]).all(axis=0)).sum())
        raise InputError(
            f"no gene is predicted by all of {', '.join(aligned)}; {poorest!r} has the fewest. "
            "Compare without it, or pass genes='per_model'"
        )
    return chosen[kept], {name: p[:, kept] for name, p in aligned.items()}


@checked
def common_perturbations(
    predictions: Mapping[str, np.ndarray], *, rule: Literal["all_genes", "first_gene"] = "all_genes"
) -> np.ndarray:
    """Return which rows as many methods as possible predict (SPEC H10).

    Parameters
    ----------
    predictions : mapping of str to ndarray (perturbation, gene)
    rule : {'all_genes', 'first_gene'}
        A row counts as predicted if all genes that the method has anywhere are there; or, as in the
        second paper, if the first gene is.
    """
    counts: np.ndarray | int = 0
    for predicted in predictions.values():
        missing = np.isnan(predicted)
        if rule == "first_gene":
            counts = counts + ~missing[:, 0]
        else:
            anywhere = ~missing.all(axis=0)
            counts = counts + (~missing[:, anywhere].any(axis=1) & anywhere.any())
    counts = np.asarray(counts)
    return counts == counts.max(initial=0)


@checked
def ratio_to_reference(
    scores: pd.DataFrame,
    *,
    reference: str = "mean",
    metric: str = "l2",
    n_bootstrap: int = 10_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Divide a metric by a reference method's, perturbation by perturbation (SPEC I6).

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
            values[random.integers(0, len(values), (min(_RESAMPLES, n_bootstrap - i), len(values)))]
            .mean(axis=1)
            for i in range(0, n_bootstrap, _RESAMPLES)
        ]
    )  # fmt: skip
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
