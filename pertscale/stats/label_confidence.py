"""How sure the label of a pair is (method P4): found and not null, or not found and hardly missed.

Of a differentially expressed pair it is 1 less the local false discovery rate of its z; of another
one the power of its test. Both follow from columns of the label table, a part of it at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd
from scipy.special import ndtr

from pertscale.arguments import checked
from pertscale.errors import NotFoundError
from pertscale.schema import CONTEXT, GENE, NULL_GUIDE, PERTURBATION, Label
from pertscale.stats.labels.table import LabelTable, read_labels
from pertscale.stats.null_tests import fitted_null, open_null_tests
from pertscale.stats.spline_density import spline_density
from pertscale.stats.statistical_power import (
    POWER_COLUMNS,
    TestedHow,
    is_expressed,
    power_of_part,
    tested_how,
)
from pertscale.storage.locations import Location, LocationLike

if TYPE_CHECKING:
    import dask.dataframe as dd
    import xarray as xr

#: Centre and scale of the z of tests without an effect.
FittedNull = tuple[float, float]
_THEORETICAL: Final[FittedNull] = (0.0, 1.0)
#: Guides of controls from which on their tests alone say what the null is.
_FEWEST_GUIDES: Final = 5
#: Confidence from which on the setting `confident` has a pair.
CONFIDENT: Final = 0.8
#: Effect that an unchanged pair has not, and the p-value that it is above of.
THETA: Final = 0.6
LARGEST_P: Final = 0.1
#: Columns of the label table that confidence follows from.
COLUMNS: Final = (*POWER_COLUMNS, "p_value", "label")

#: Bins of z in units of the null; what lies farther out is as good as never null.
_WIDTH: Final = 0.1
_REACH: Final = 10.0
#: Of the spline: more than locfdr takes, as there are many pairs, and sharp peaks among them.
_DEGREES_OF_FREEDOM: Final = 14
#: Values within so many scales of the centre say which share is null.
_CENTRAL: Final = 0.7
#: Pairs below which no density is estimated.
_FEWEST: Final = 119


@checked
def confidence(path: LocationLike, *, context: str | None = None) -> dd.DataFrame:
    """Return how sure the label of every pair is (method P4).

    Parameters
    ----------
    path : path or URL
        Output folder of :func:`pertscale.run_benchmark` or :func:`pertscale.stats.rank_sum`.
    context : str, optional
        Only the pairs of one context.

    Returns
    -------
    dask DataFrame
        One row per tested pair, in the order of the label table: ``perturbation`` and ``gene``
        (codes, int32), and ``confidence``, float32, between 0 and 1. Of a differentially expressed
        pair it is the probability that it is no false discovery; of another one with p > 0.1 the
        power with which an effect of P(perturbed > control) = ½ ± 0.1 would have been found, with
        a smaller p it is 0. NaN for a gene that no cell expresses, and for differentially expressed
        pairs of a context with too few pairs to estimate a density of. Memory: a part of the table,
        about half a million pairs, per task; z is read once when this is called.

    Raises
    ------
    InputError
        If the table has labels alone, without U and z.
    UnknownNameError
        If there is no such context.

    See Also
    --------
    local_fdr : The same of values in memory, with a null that is fitted to them.
    power_at : Probability of finding a given effect.

    References
    ----------
    Efron (2004), https://doi.org/10.1198/016214504000000089
    Noether (1987), https://doi.org/10.1080/01621459.1987.10478478

    Examples
    --------
    >>> pairs = ps.stats.confidence("k562.labels").compute()
    >>> int((pairs["confidence"] >= 0.8).sum()), len(pairs)
    (22, 1920)
    """
    labels = read_labels(path)
    contexts = labels.contexts if context is None else (labels.only_context(context),)
    how = tested_how(labels)
    assert labels.path is not None
    rates = {name: local_rate(labels, name, null_of(labels.path, name)) for name in contexts}
    kinds = {PERTURBATION: np.int32, GENE: np.int32, "confidence": np.float32}
    return labels.frame_of(contexts)[list(COLUMNS)].map_partitions(
        _with_confidence,
        rates=rates,
        contexts=labels.perturbations[CONTEXT].to_numpy(object),
        how=how,
        meta=pd.DataFrame({name: np.empty(0, kind) for name, kind in kinds.items()}),
        enforce_metadata=False,
    )


@checked
def confidence_matrix(path: LocationLike, *, context: str | None = None) -> xr.DataArray:
    """Return :func:`confidence` of one context as a lazy matrix, as weights of pairs.

    Parameters
    ----------
    path : path or URL
        As of :func:`confidence`.
    context : str, optional
        Needed where the table has several.

    Returns
    -------
    DataArray (perturbation, gene), float32
        Of the tested perturbations, with names; NaN as of :func:`confidence`. One Dask chunk per
        part of the table; z is read once when this is called.

    Raises
    ------
    InputError
        If the table has labels alone, without U and z.
    ArgumentError
        If no context is named, and there are several.

    Examples
    --------
    >>> weights = ps.stats.confidence_matrix("k562.labels")
    >>> truth = ps.read_labels("k562.labels").matrix().values
    >>> nothing = np.zeros_like(truth)  # the prediction that no gene changes
    >>> table = ps.evaluation.evaluate_weighted(truth, nothing, weights=weights.values)
    >>> table.query("level == 'overall'")[["metric", "value"]].round(2).head(2)
                  metric  value
    0           accuracy   0.92
    1  balanced_accuracy   0.33
    """
    labels = read_labels(path)
    context = labels.only_context(context)
    assert labels.path is not None
    how = tested_how(labels)
    rate = local_rate(labels, context, null_of(labels.path, context))
    function = partial(confidence_of_part, rate=rate, **how)
    found = labels.matrix(context).copy(
        data=labels.mapped_parts(context, function, COLUMNS, np.float32)
    )
    found.attrs.pop("_FillValue")
    return found.rename("confidence")


def _with_confidence(
    part: pd.DataFrame, *, rates: dict[str, LocalRate], contexts: np.ndarray, how: TestedHow
) -> pd.DataFrame:
    found = np.empty(0, np.float32)
    if len(part):  # whole perturbations of one context
        rate = rates[contexts[part[PERTURBATION].iloc[0]]]
        found = confidence_of_part(part, rate, **how)
    return part[[PERTURBATION, GENE]].assign(confidence=found)


def null_of(folder: Location, context: str) -> FittedNull:
    """Return centre and scale of the z of a context where nothing has an effect.

    From the tests of controls that lie beside the label table, whose folder is `folder`: those of
    guides, which differ by what they do and by batches, too, where there are enough.
    """
    try:
        tests = open_null_tests(folder.parent, dask=False)
    except NotFoundError:
        return _THEORETICAL
    mine = tests[CONTEXT].values == context
    guides = mine & (tests["kind"].values == NULL_GUIDE)
    chosen = np.flatnonzero(guides if guides.sum() >= _FEWEST_GUIDES else mine)
    if not len(chosen):
        return _THEORETICAL
    centre, scale = fitted_null(tests["z"][chosen].values)
    return (centre, max(scale, 1.0)) if np.isfinite(scale) else _THEORETICAL


def confident_labels(labels: LabelTable, context: str, null: FittedNull) -> xr.DataArray:
    """Return the labels of confident pairs as a lazy matrix, as :meth:`LabelTable.matrix` does.

    All others are ``Label.UNTESTED``. Columns of a part are in memory per task.
    """
    how = tested_how(labels)  # first, as it says what a table lacks
    rate = local_rate(labels, context, null)
    function = partial(_confident_labels_of_part, rate=rate, how=how)
    return labels.matrix(context).copy(
        data=labels.mapped_parts(context, function, COLUMNS, np.int8)
    )


def _confident_labels_of_part(part: pd.DataFrame, *, rate: LocalRate, how: TestedHow) -> np.ndarray:
    is_confident = confidence_of_part(part, rate, **how) >= CONFIDENT
    return np.where(is_confident, part["label"].to_numpy(), np.int8(Label.UNTESTED))


def confidence_of_part(
    part: pd.DataFrame, rate: LocalRate, *, fdr: float, continuity: bool
) -> np.ndarray:
    """Return the confidence of pairs (:data:`COLUMNS`) of whole perturbations, float32."""
    found = power_of_part(part, fdr=fdr, continuity=continuity, theta=THETA)
    found = np.where(
        part["label"].to_numpy() == Label.NON_DE,
        np.where(part["p_value"].to_numpy() > LARGEST_P, found, np.where(found >= 0, 0.0, np.nan)),
        1.0 - rate.of(part["z"].to_numpy()),
    )
    return found.astype(np.float32)


# --- the local false discovery rate ---------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class LocalRate:
    """The local false discovery rate of z, between the mid-points of bins by interpolation.

    Attributes
    ----------
    null : (float, float)
        Centre and scale.
    centers, fdr : ndarray (bins,)
        Mid-points, in scales from the centre; empty where there were too few values.
    """

    null: FittedNull
    centers: np.ndarray
    fdr: np.ndarray

    def of(self, z: np.ndarray) -> np.ndarray:
        """Return the rate of values; NaN where it is not known."""
        if not len(self.centers):
            return np.full(np.shape(z), np.nan)
        centre, scale = self.null
        return np.asarray(np.interp((z - centre) / scale, self.centers, self.fdr))


def local_rate(labels: LabelTable, context: str, null: FittedNull) -> LocalRate:
    """Estimate the rate from all pairs of a context that any cell expresses, part by part."""
    edges = _edges()
    counts, n, n_central = np.zeros(len(edges) - 1, np.int64), 0, 0
    for part in labels.parts(context, ["z", "mean", "mean_control"]):
        centre, scale = null
        far = (part["z"][is_expressed(part)].astype(np.float64) - centre) / scale
        counts += np.histogram(far, edges)[0]
        n += len(far)
        n_central += int((np.abs(far) <= _CENTRAL).sum())
    return rate_of_counts(counts, n, n_central, null)


def rate_of_counts(counts: np.ndarray, n: int, n_central: int, null: FittedNull) -> LocalRate:
    """Return the rate of values that were counted in bins.

    Efron's ``p0 f0/f``: f0 the null, f a spline density between the outermost values, p0 the share
    of null values, from those in the centre. A value farther out is never likelier null.

    Parameters
    ----------
    counts : ndarray (bins,)
    n, n_central : int
        All values, and those that are near the centre.
    null : (float, float)
    """
    used = np.flatnonzero(counts)
    if n < _FEWEST or len(used) < _DEGREES_OF_FREEDOM:
        return LocalRate(null, np.empty(0), np.empty(0))
    bins = slice(used[0], used[-1] + 1)
    edges = _edges()
    centers = ((edges[1:] + edges[:-1]) / 2)[bins]
    density = spline_density(
        centers, counts[bins].astype(np.float64), degrees_of_freedom=_DEGREES_OF_FREEDOM
    )
    p0 = min(1.0, n_central / n / float(2 * ndtr(_CENTRAL) - 1))
    fdr = np.minimum(p0 * n * np.diff(ndtr(edges))[bins] / density, 1.0)
    right = centers >= 0
    fdr[right] = np.minimum.accumulate(fdr[right])
    fdr[~right] = np.minimum.accumulate(fdr[~right][::-1])[::-1]
    return LocalRate(null, centers, fdr)


def _edges() -> np.ndarray:
    half = round(_REACH / _WIDTH)
    return np.arange(-half, half + 1) * _WIDTH
