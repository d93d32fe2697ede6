"""Which effects a rank-sum test could have found (method P2): arrays, and columns of a label table.

The effect of a pair is theta = U/(n1 n2), the probability that a perturbed cell ranks above a
control, ties half. All of it follows from columns of the label table, a part of it at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, TypedDict

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

from pertscale._computing import compute
from pertscale.arguments import checked
from pertscale.errors import ArgumentError, InputError
from pertscale.schema import CONTEXT, GENE, PERTURBATION
from pertscale.stats.effect_spread import spread_with_effect
from pertscale.stats.labels.table import LabelTable

if TYPE_CHECKING:
    import dask.dataframe as dd

#: Power that `min_effect` is for.
POWER: Final = 0.8
#: Columns of the label table that are needed.
POWER_COLUMNS: Final = (
    PERTURBATION,
    GENE,
    "n_cells",
    "n_control",
    "mean",
    "mean_control",
    "u_statistic",
    "z",
    "fdr",
)


@checked
def power(labels: LabelTable) -> dd.DataFrame:
    """Return the effect of every pair, and the smallest that its test finds (method P2).

    Parameters
    ----------
    labels : LabelTable
        Made by :func:`pertscale.stats.rank_sum`.

    Returns
    -------
    dask DataFrame
        One row per tested pair, in the order of ``labels.frame``: ``perturbation`` and ``gene``
        (codes, int32); ``theta``, P(perturbed > control) + P(equal)/2, without unit, ½ where there
        is no effect; ``min_effect``, the smallest ``|theta - ½|`` that is found with a probability
        of 80 %, NaN for a gene without variance. It may be larger than any effect that is possible:
        of a gene that a share f of the controls express, a complete loss has ``|theta - ½| = f/2``.
        Memory: a part of the table, about half a million pairs, per task.

    Raises
    ------
    InputError
        If the table has labels alone, without U and z.

    See Also
    --------
    power_summary : One row per perturbation.
    power_at : Probability of finding a given effect.

    References
    ----------
    Noether (1987), https://doi.org/10.1080/01621459.1987.10478478

    Examples
    --------
    >>> labels = ps.read_labels("k562.labels")
    >>> pairs = ps.stats.power(labels).compute()
    >>> pairs.round(3).head(2)
       perturbation  gene  theta  min_effect
    0             0     0  0.465       0.203
    1             0     1  0.225       0.207
    """
    return _mapped(labels, _power_of_part, {"theta": np.float64, "min_effect": np.float64})


@checked
def power_at(labels: LabelTable, theta: float) -> dd.DataFrame:
    """Return the probability that the test of each pair finds an effect of a size (method P2).

    Normal approximation, with the standard deviation that U has with such an effect, if cells are
    shifted in a normal distribution and silent below a bound. Genes that few cells express are
    found more easily where they rise than where they fall.

    Parameters
    ----------
    labels : LabelTable
        Made by :func:`pertscale.stats.rank_sum`.
    theta : float
        The effect, P(perturbed > control) + P(equal)/2, between 0 and 1.

    Returns
    -------
    dask DataFrame
        As of :func:`power`: ``perturbation``, ``gene``, and ``power``, P(p < p* | theta), where p*
        is the largest p-value with which the pair would be called, beside the others that are. NaN
        for a gene without variance.

    Raises
    ------
    ArgumentError
        If `theta` is no probability.
    InputError
        If the table has labels alone, without U and z.

    Examples
    --------
    >>> labels = ps.read_labels("k562.labels")
    >>> found = ps.stats.power_at(labels, 0.7).compute()
    >>> round(float(found["power"].median()), 2)
    0.97
    """
    if not 0 <= theta <= 1:
        raise ArgumentError(f"theta={theta} is no probability: it has to lie between 0 and 1")
    return _mapped(labels, _power_at_of_part, {"power": np.float64}, theta=theta)


@checked
def power_summary(labels: LabelTable) -> pd.DataFrame:
    """Return which effects are found in each perturbation (method P2).

    Parameters
    ----------
    labels : LabelTable
        Made by :func:`pertscale.stats.rank_sum`.

    Returns
    -------
    DataFrame
        One row per tested perturbation: ``context``, ``perturbation``; ``n_cells``, ``n_control``;
        ``n_expressed``, genes that any of these cells expresses; ``p_threshold``, the largest
        p-value that is called; ``min_effect``, the median over the expressed genes of what
        :func:`power` says. Memory: this table, and a part of the label table per task.

    Raises
    ------
    InputError
        If the table has labels alone, without U and z.

    Examples
    --------
    >>> labels = ps.read_labels("k562.labels")
    >>> summary = ps.stats.power_summary(labels)
    >>> best = summary.sort_values("min_effect").head(2).round(3)
    >>> best[["perturbation", "n_cells", "min_effect"]]
      perturbation  n_cells  min_effect
    2     GENE0004      127       0.146
    12    GENE0072      108       0.154
    """
    kinds = {
        PERTURBATION: np.int32,
        "n_cells": np.int32,
        "n_control": np.int32,
        "n_expressed": np.int64,
        "p_threshold": np.float64,
        "min_effect": np.float64,
    }
    (found,) = compute(_of_parts(labels, _summary_of_part, kinds))
    chosen = labels.perturbations.iloc[found[PERTURBATION].to_numpy()]
    found = found.reset_index(drop=True)
    found[PERTURBATION] = chosen[PERTURBATION].to_numpy(object)
    found.insert(0, CONTEXT, chosen[CONTEXT].to_numpy(object))
    return found


# --- on arrays ------------------------------------------------------------------------------------


def sigma_of_u(
    u: np.ndarray, z: np.ndarray, n_cells: np.ndarray, n_control: np.ndarray, *, continuity: bool
) -> np.ndarray:
    """Return the standard deviation of U without an effect, by which the test has divided.

    Parameters
    ----------
    u, z : ndarray (pairs,)
        Mann-Whitney U of the perturbed cells, and the test statistic.
    n_cells, n_control : ndarray (pairs,)
    continuity : bool
        Whether ½ was subtracted from the deviation of U (``test="mannwhitney"``).

    Returns
    -------
    ndarray (pairs,), float64
        NaN where z is 0, which says nothing.
    """
    gap = np.abs(u - n_cells * n_control / 2.0) - (0.5 if continuity else 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(z == 0, np.nan, gap / np.abs(z, dtype=np.float64))


def untied_sigma(n_cells: np.ndarray, n_control: np.ndarray) -> np.ndarray:
    """Return the standard deviation of U where no two cells tie: the largest that it may have."""
    n_pairs = np.multiply(n_cells, n_control, dtype=np.float64)
    return np.sqrt(n_pairs * (np.add(n_cells, n_control, dtype=np.float64) + 1) / 12.0)


def detected_share(
    theta: float | np.ndarray,
    sigma_theta: np.ndarray,
    p_threshold: np.ndarray,
    *,
    spread: np.ndarray | None = None,
) -> np.ndarray:
    """Return P(p < p_threshold | theta) for a theta with a standard deviation (normal).

    `sigma_theta` is that which the test divides by, without an effect; `spread` the one that there
    is with the effect (:func:`pertscale.stats.effect_spread.spread_with_effect`), by default the
    same.
    """
    spread = sigma_theta if spread is None else spread
    distance = np.abs(np.subtract(theta, 0.5))
    needed = -ndtri(np.asarray(p_threshold) / 2) * sigma_theta
    return np.asarray(ndtr((distance - needed) / spread) + ndtr((-distance - needed) / spread))


def smallest_effect(sigma_theta: np.ndarray, p_threshold: np.ndarray) -> np.ndarray:
    """Return the ``|theta - ½|`` that is found with a probability of 80 %."""
    return np.asarray((ndtri(POWER) - ndtri(np.asarray(p_threshold) / 2)) * sigma_theta)


# --- on parts of the table ------------------------------------------------------------------------


def _mapped(
    labels: LabelTable, function: object, kinds: Mapping[str, type], **how: float
) -> dd.DataFrame:
    """Map a function over the parts; what it adds stands beside the codes of pairs."""
    return _of_parts(labels, function, {PERTURBATION: np.int32, GENE: np.int32, **kinds}, **how)


def _of_parts(
    labels: LabelTable, function: object, kinds: Mapping[str, type], **how: float
) -> dd.DataFrame:
    meta = pd.DataFrame({name: np.empty(0, kind) for name, kind in kinds.items()})
    tested = tested_how(labels)
    return labels.frame[list(POWER_COLUMNS)].map_partitions(
        function,
        **tested,
        **how,
        meta=meta,
        enforce_metadata=False,
    )


class TestedHow(TypedDict):
    """What of a table's options its power depends on.

    Attributes
    ----------
    fdr : float
        Below which pairs are called.
    continuity : bool
        As of :func:`sigma_of_u`.
    """

    fdr: float
    continuity: bool


def tested_how(labels: LabelTable) -> TestedHow:
    """Return how a table was tested; InputError where it has labels alone."""
    missing = [name for name in POWER_COLUMNS if name not in (PERTURBATION, GENE, *labels.columns)]
    if missing or "fdr" not in labels.options:
        raise InputError(
            f"the label table has no {', '.join(missing) or 'threshold of the fdr'}, which the "
            "power of a test follows from; pertscale.stats.rank_sum(store) makes one that has"
        )
    return {
        "fdr": float(labels.options["fdr"]),
        "continuity": labels.options.get("test", "mannwhitney") == "mannwhitney",
    }


def power_of_part(part: pd.DataFrame, *, fdr: float, continuity: bool, theta: float) -> np.ndarray:
    """Return the power of pairs (:data:`POWER_COLUMNS`) of whole perturbations."""
    sigma, threshold = _sigma_theta(part, continuity), _own_thresholds(part, fdr)
    n = part["n_cells"].to_numpy(np.float64), part["n_control"].to_numpy(np.float64)
    spread = spread_with_effect(theta, sigma, untied_sigma(*n) / (n[0] * n[1]), *n)
    return detected_share(theta, sigma, threshold, spread=spread)


def _power_of_part(part: pd.DataFrame, *, fdr: float, continuity: bool) -> pd.DataFrame:
    sigma, threshold = _sigma_theta(part, continuity), _p_thresholds(part, fdr)
    n_pairs = part["n_cells"].to_numpy(np.float64) * part["n_control"].to_numpy()
    return part[[PERTURBATION, GENE]].assign(
        theta=part["u_statistic"].to_numpy() / n_pairs,
        min_effect=smallest_effect(sigma, threshold),
    )


def _power_at_of_part(
    part: pd.DataFrame, *, fdr: float, continuity: bool, theta: float
) -> pd.DataFrame:
    power = power_of_part(part, fdr=fdr, continuity=continuity, theta=theta)
    return part[[PERTURBATION, GENE]].assign(power=power)


def _summary_of_part(part: pd.DataFrame, *, fdr: float, continuity: bool) -> pd.DataFrame:
    found = part[[PERTURBATION, "n_cells", "n_control"]].assign(
        n_expressed=is_expressed(part),
        p_threshold=_p_thresholds(part, fdr),
        min_effect=smallest_effect(_sigma_theta(part, continuity), _p_thresholds(part, fdr)),
    )
    by_perturbation = found.groupby(PERTURBATION, sort=False, as_index=False)
    return by_perturbation.agg(
        n_cells=("n_cells", "first"),
        n_control=("n_control", "first"),
        n_expressed=("n_expressed", "sum"),
        p_threshold=("p_threshold", "first"),
        min_effect=("min_effect", "median"),  # NaN of genes that no cell expresses
    )


def is_expressed(part: Mapping[str, Any] | pd.DataFrame) -> np.ndarray:
    """Return whether any cell of a pair expresses the gene."""
    return np.asarray((part["mean"] > 0) | (part["mean_control"] > 0))


def _p_thresholds(part: pd.DataFrame, fdr: float) -> np.ndarray:
    """Return the largest p-value that is called in the perturbation of each pair.

    With k of G genes called, Benjamini-Hochberg calls whatever is below ``fdr k/G``. The largest
    p-value among those that were called may lie far below that: where only the target changes it
    is tiny, and would say that nothing else could have been found.
    """
    _, n_called, n_genes = _calls(part, fdr)
    return np.asarray(fdr * np.maximum(n_called, 1) / n_genes)


def _own_thresholds(part: pd.DataFrame, fdr: float) -> np.ndarray:
    """Return the largest p-value with which each pair would be called.

    One that is not called would be called beside those that are, and so add to their number.
    """
    called, n_called, n_genes = _calls(part, fdr)
    return np.asarray(fdr * (n_called + ~called) / n_genes)


def _calls(part: pd.DataFrame, fdr: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return which pairs are called, and how many are, and are tested, in their perturbations."""
    called = part["fdr"] < fdr
    by_perturbation = called.groupby(part[PERTURBATION], sort=False)
    n_called, n_genes = by_perturbation.transform("sum"), by_perturbation.transform("size")
    return called.to_numpy(), n_called.to_numpy(), n_genes.to_numpy()


def _sigma_theta(part: pd.DataFrame, continuity: bool) -> np.ndarray:
    """Return the standard deviation of theta without an effect; NaN where it can't vary.

    That of U follows from U and z, but where z is 0. There the correction for ties is taken that
    the gene has in the median of the part's other perturbations: most cells are the same controls.
    Where there is none, no ties are assumed, which makes the smallest effect too large.
    """
    columns = (part[name].to_numpy() for name in ("u_statistic", "z", "n_cells", "n_control"))
    u, z, n_cells, n_control = columns
    sigma = sigma_of_u(u, z, n_cells, n_control, continuity=continuity)
    largest = untied_sigma(n_cells, n_control)
    unknown = np.isnan(sigma)
    if unknown.any():
        ratio = pd.Series(sigma / largest).groupby(part[GENE].to_numpy()).transform("median")
        sigma = np.where(unknown, largest * ratio.fillna(1.0).to_numpy(), sigma)
    sigma = np.where(is_expressed(part), sigma, np.nan)
    return np.asarray(sigma / np.multiply(n_cells, n_control, dtype=np.float64))
