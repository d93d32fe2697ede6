"""Score predicted expression against observed profiles (method I), on arrays.

Arrays are (perturbation, gene) in float64, mean log1p expression. A row of NaN in a prediction is a
perturbation that the method does not predict; its scores are NaN and are counted.

The genes that a perturbation targets itself are left out of its scores, and the targets of all
perturbations out of what compares them (method R1): to know the label is not to predict anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Final, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pertscale.arguments import checked
from pertscale.errors import ArgumentError, InputError
from pertscale.evaluation.retrieval import Truths
from pertscale.evaluation.target_genes import Targets, check_targets, own_targets

#: Genes of the sets by default: the most expressed of the control, the most changed.
N_GENES: Final = 1000
N_CHANGED: Final = 20
#: Values of each array that are worked on at a time.
_BLOCK: Final = 4_000_000
#: Predictions are kept as float32: what differs by less than this share of a value is the same.
_ROUNDING: Final = 1e-6
_CORRELATIONS: Final = ("pearson_delta", "pearson_delta_mean", "pearson_changed")
#: Scores that compare perturbations: over genes that none of them targets.
_RANKS: Final = ("rank_l1", "rank_cosine")
_COLUMNS: Final = ("level", "group", "metric", "value", "n", "no_effect")

By = Literal["expression", "change"]
Spread = tuple[float, float]


@checked
def evaluate_expression(
    truth: NDArray,
    predicted: NDArray,
    control: np.ndarray,
    *,
    background: np.ndarray,
    perturbations: Sequence[str],
    genes: Sequence[str] | None = None,
    targets: Targets = "exclude",
    target_genes: Mapping[str, Sequence[str]] | None = None,
    n_genes: int = N_GENES,
    n_changed: int = N_CHANGED,
    skip_missing_genes: bool = False,
    no_effect: Mapping[str, np.ndarray] | None = None,
    noise: NDArray | None = None,
    controls: NDArray | None = None,
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
    genes : sequence of str, optional
        Names of the columns; needed to tell targets.
    targets : {'exclude', 'include'}
        Whether the genes that a perturbation targets itself are left out: of all its scores, and
        those that any of the perturbations targets out of what compares perturbations (``rank_l1``,
        ``rank_cosine``, ``spread_ratio``, ``effective_rank``). 'include' scores as the second paper
        does.
    target_genes : mapping, optional
        Perturbation → genes that it targets, such as ``Screen.targets``; by default as its name
        says.
    n_genes : int
        The most expressed genes of the control that are scored. Targets are left out of these.
    n_changed : int
        The genes that the truth changes most, for metrics on those.
    skip_missing_genes : bool
        Sum over the genes that the method predicts, as the second paper does (method I4). By
        default a perturbation without all genes has no score.
    no_effect : mapping of str to ndarray (perturbation,), optional
        By metric, what it would be if no perturbation had an effect, as of
        :func:`pertscale.evaluation.no_effect`; passed on to the column of that name.
    noise : ndarray (perturbation, gene), optional
        Variance of each value of the truth: that of the cells' log1p expression, divided by their
        number. With it there is ``l2_denoised``.
    controls : ndarray (half, gene), optional
        Means of two halves of the control cells. Predicted changes are then measured from one half
        and true changes from the other, so that they do not agree by the noise of the control;
        scores of changes are means over both ways. By default both are changes from `control`, as
        in the second paper.

    Returns
    -------
    DataFrame
        Columns ``level, group, metric, value, n, no_effect``. Level ``perturbation``: ``l2, rmse,
        pearson_delta, pearson_delta_mean, direction, l2_changed, pearson_changed, overlap_changed,
        rank_l1, rank_cosine``, and with `noise` ``l2_denoised``, n = genes. Level ``overall``:
        their means over the perturbations where they are defined, n = perturbations (a correlation
        that is not, as the prediction is constant, counts as 0 unless all are); ``spread_ratio,
        effective_rank, effective_rank_truth``; ``n_without_prediction``. Memory: a few copies of
        the chosen genes.

    Raises
    ------
    ArgumentError
        If targets are to be left out and the genes have no names.
    InputError
        If shapes do not fit.

    References
    ----------
    Ahlmann-Eltze, Huber and Anders (2025), https://doi.org/10.1038/s41592-025-02772-6

    Examples
    --------
    >>> control = np.array([2.0, 1.0, 0.5])
    >>> truth = np.array([[2.0, 1.5, 0.5], [1.0, 1.0, 1.0]])
    >>> mean = truth.mean(axis=0)  # of the training perturbations
    >>> predicted = np.array([[2.0, 1.4, 0.6], [1.2, 1.0, 0.8]])
    >>> table = ps.evaluation.evaluate_expression(
    ...     truth, predicted, control, background=mean, perturbations=["GATA1", "KLF1"],
    ...     genes=["ACTB", "HBG1", "KLF1"],
    ... )
    >>> chosen = table["metric"].isin(["l2", "pearson_delta"])
    >>> table[chosen][["group", "metric", "value", "n"]].round(3)
        group         metric  value  n
    0   GATA1             l2  0.141  3
    2   GATA1  pearson_delta  0.971  3
    10   KLF1             l2  0.200  2
    12   KLF1  pearson_delta  1.000  2
    20                    l2  0.171  2
    22         pearson_delta  0.985  2
    """
    check_targets(targets)
    if targets == "exclude" and genes is None:
        raise ArgumentError(
            "targets='exclude' leaves out the genes that perturbations target, which needs the "
            "names of all genes: pass genes=, or targets='include' to score targets as well"
        )
    truth, predicted, control, background = _checked(
        truth, predicted, control, background, perturbations
    )
    names = [str(name) for name in perturbations]
    own = np.zeros(truth.shape, bool)
    if targets == "exclude" and genes is not None:
        if len(genes) != truth.shape[1]:
            raise InputError(f"genes= has {len(genes)} names, the profiles {truth.shape[1]} genes")
        own = own_targets(names, genes, target_genes=target_genes)
    chosen = top_genes(control, n_genes)
    observed = Observed(
        names=np.array(names, object),
        truth=truth[:, chosen],
        control=control[chosen],
        background=background[chosen],
        own=own[:, chosen],
        no_effect=dict(no_effect or {}),
        noise=None if noise is None else np.asarray(noise, np.float64)[:, chosen],
        ways=ways_of(controls, chosen),
    )
    table, lacking = score(
        observed, predicted[:, chosen], n_changed=n_changed, skip_missing_genes=skip_missing_genes
    )
    return pd.concat([table, count_row(lacking.sum(), len(lacking))], ignore_index=True)


class Way(NamedTuple):
    """Profiles, (gene,), that predicted and true changes are measured from."""

    of_predicted: NDArray
    of_truth: NDArray


def ways_of(controls: NDArray | None, genes: np.ndarray) -> tuple[Way, ...]:
    """Return both ways to use two halves of the control, on some genes; none without halves."""
    if controls is None:
        return ()
    halves = np.asarray(controls, np.float64)
    if halves.ndim != 2 or len(halves) != 2 or np.isnan(halves).any():
        raise InputError(
            f"controls= has shape {halves.shape}; needed are the means of two halves of the "
            "control cells, (2, gene), without NaN"
        )
    first, second = halves[:, genes]
    return Way(second, first), Way(first, second)


@dataclass(frozen=True, eq=False, kw_only=True)
class Observed:
    """The truth that predictions are compared with, on the genes that are scored.

    Attributes
    ----------
    names : ndarray of str
    truth : ndarray (perturbation, gene)
    control, background : ndarray (gene,)
    own : ndarray (perturbation, gene), bool
        Genes that are left out of the scores of a perturbation.
    no_effect : dict of str to ndarray (perturbation,)
    noise : ndarray (perturbation, gene), optional
        Variances of the truth.
    ways : sequence of Way
        What changes are measured from; scores of changes are means over these.
    """

    names: np.ndarray
    truth: NDArray
    control: np.ndarray
    background: np.ndarray
    own: np.ndarray
    no_effect: Mapping[str, np.ndarray] = field(default_factory=dict)
    noise: NDArray | None = None
    ways: Sequence[Way] = ()

    def __post_init__(self) -> None:
        if not self.ways:
            object.__setattr__(self, "ways", (Way(self.control, self.control),))

    def of(self, rows: np.ndarray) -> Observed:
        """Return some of the perturbations."""
        if rows.all():
            return self
        return replace(
            self,
            names=self.names[rows],
            truth=self.truth[rows],
            own=self.own[rows],
            no_effect={metric: values[rows] for metric, values in self.no_effect.items()},
            noise=None if self.noise is None else self.noise[rows],
        )

    @cached_property
    def shared(self) -> np.ndarray:
        """Positions of the genes that perturbations are compared by: none of them targets these."""
        return np.flatnonzero(~self.own.any(axis=0))

    @cached_property
    def truths(self) -> Truths:
        """The truths, to look for the nearest."""
        return Truths(self.truth, self.control, self.shared)

    @cached_property
    def toward_background(self) -> NDArray:
        """Change from the control to the mean of the training perturbations, (gene,)."""
        return self.background - self.control

    @cached_property
    def spread(self) -> tuple[float, float]:
        """Spread and effective rank of the truths."""
        return _spread(self.truth[:, self.shared])

    @property
    def rounding(self) -> float:
        """Difference up to which values are the same."""
        return _ROUNDING * float(np.abs(self.control).max(initial=0))


def score(
    observed: Observed, predicted: NDArray, *, n_changed: int, skip_missing_genes: bool
) -> tuple[pd.DataFrame, np.ndarray]:
    """Score a prediction of the observed perturbations and genes.

    Returns
    -------
    table : DataFrame
        As of :func:`evaluate_expression`, without ``n_without_prediction``.
    lacking : ndarray (perturbation,), bool
        Perturbations that are not predicted.
    """
    missing = np.isnan(predicted) & ~observed.own
    if not skip_missing_genes:
        missing |= missing.any(axis=1, keepdims=True)
    lacking = (missing | observed.own).all(axis=1) & missing.any(axis=1)
    whole = ~missing.any(axis=1)
    needed = _NEED_NOISE if observed.noise is None else ()
    metrics = {name: metric for name, metric in OF_PERTURBATION.items() if name not in needed}
    parts = []
    for block in _blocks(*predicted.shape):
        compared = _Compared.of(observed, block, predicted[block], missing[block], n_changed)
        parts.append(({n: metric(compared) for n, metric in metrics.items()}, compared.n))
    scores = {name: np.concatenate([part[name] for part, _ in parts]) for name in metrics}
    n = np.concatenate([n for _, n in parts])
    nothing = np.full(len(n), np.nan)
    details = pd.DataFrame(
        {
            "level": "perturbation",
            "group": np.repeat(observed.names, len(scores)),
            "metric": np.tile(np.array(list(scores), object), len(n)),
            "value": np.stack(list(scores.values()), axis=1).ravel(),
            "n": np.stack(
                [
                    np.where(whole, len(observed.shared), 0) if metric in _RANKS else n
                    for metric in scores
                ],
                axis=1,
            ).ravel(),
            "no_effect": np.stack(
                [observed.no_effect.get(metric, nothing) for metric in scores], axis=1
            ).ravel(),
        }
    )
    rows = []
    for metric, values in scores.items():
        mean, n_defined = _mean(metric, values, ~lacking)
        expected = observed.no_effect.get(metric, nothing)
        floor = float(expected.mean()) if len(expected) else np.nan
        rows.append(("overall", "", metric, mean, n_defined, floor))
    for metric, value in _collapse(observed, predicted, whole).items():
        rows.append(("overall", "", metric, value, int(whole.sum()), np.nan))
    means = pd.DataFrame(rows, columns=list(_COLUMNS))
    return pd.concat([details, means], ignore_index=True), lacking


def count_row(lacking: int, n: int) -> pd.DataFrame:
    """Return the row that says how many of `n` perturbations a method does not predict."""
    row = ("overall", "", "n_without_prediction", float(lacking), n, np.nan)
    return pd.DataFrame([row], columns=list(_COLUMNS))


def _blocks(n_rows: int, n_genes: int) -> Iterator[slice]:
    """Cut rows so that a block has few enough values; there is at least one block."""
    step = max(1, _BLOCK // max(1, n_genes))
    yield from (slice(at, min(at + step, n_rows)) for at in range(0, max(1, n_rows), step))


def undefined_counts_as_none(metric: str) -> bool:
    """Whether what is predicted and has no value counts as 0 in the mean: correlations."""
    return metric in _CORRELATIONS


def _mean(metric: str, values: np.ndarray, predicts: np.ndarray) -> tuple[float, int]:
    """Return the mean over perturbations and how many it is over.

    A correlation with a constant is not defined. Where a method has others, it counts as none: to
    predict no change for the hard perturbations must not raise the mean over the rest.
    """
    defined = np.isfinite(values)
    if not defined.any():
        return np.nan, 0
    if undefined_counts_as_none(metric):
        values, defined = np.nan_to_num(values), defined | predicts
    return float(values[defined].mean()), int(defined.sum())


@dataclass(frozen=True, eq=False)
class _Compared:
    """Predictions of some perturbations beside their truth, which metrics are functions of.

    Attributes
    ----------
    observed : Observed
    rows : slice
        Which of the observed perturbations.
    predicted : ndarray (perturbation, gene)
        Values that equal the control but for rounding are the control's.
    missing : ndarray (perturbation, gene), bool
        Genes that are not predicted.
    n_changed : int
        Genes that "change most".
    """

    observed: Observed
    rows: slice
    predicted: NDArray
    missing: np.ndarray
    n_changed: int

    @classmethod
    def of(
        cls,
        observed: Observed,
        rows: slice,
        predicted: NDArray,
        missing: np.ndarray,
        n_changed: int,
    ) -> _Compared:
        """Return the comparison; what lies within rounding of the control is the control."""
        control = observed.control
        predicted = np.where(np.abs(predicted - control) <= observed.rounding, control, predicted)
        return cls(observed, rows, predicted, missing, n_changed)

    @cached_property
    def truth(self) -> NDArray:
        """The observed profiles."""
        return self.observed.truth[self.rows]

    @property
    def noise(self) -> NDArray:
        """Variances of the observed profiles."""
        if self.observed.noise is None:
            raise ValueError("the noise of the truth is not known")
        return self.observed.noise[self.rows]

    @cached_property
    def there(self) -> np.ndarray:
        """Genes that are scored and predicted, (perturbation, gene)."""
        return ~self.observed.own[self.rows] & ~self.missing

    @cached_property
    def n(self) -> np.ndarray:
        """Number of these genes, (perturbation,)."""
        return np.asarray(self.there.sum(axis=1))

    @cached_property
    def delta(self) -> NDArray:
        """Predicted change from the control."""
        return self.predicted - self.observed.control

    @cached_property
    def changes(self) -> list[_Changes]:
        """Predicted and true changes, in all ways to measure them."""
        return [_Changes(self, way) for way in self.observed.ways]

    @cached_property
    def of_background(self) -> NDArray:
        """How much of the way to the training mean each prediction goes, (perturbation, 1).

        The slope of the predicted change on that of the training mean, with an intercept, so that
        nothing is gained by what is added to all genes. Where nothing has an effect it is how much
        of the control's noise is in the predicted change: all of it for the mean itself.
        """
        among = self.there & ~np.isnan(self.observed.toward_background)
        delta, toward = (
            _centred(values, among) for values in (self.delta, self.observed.toward_background)
        )
        along = np.einsum("ij,ij->i", delta, toward)[:, None]
        length = np.einsum("ij,ij->i", toward, toward)[:, None]
        return np.divide(along, length, out=np.zeros_like(along), where=length > 0)

    @cached_property
    def l2(self) -> np.ndarray:
        """Distance of prediction and truth, (perturbation,)."""
        return _l2(self.predicted - self.truth, self.there)

    def ranks(
        self, changes: NDArray, rank: Callable[[NDArray, np.ndarray], np.ndarray]
    ) -> np.ndarray:
        """Rank the own truths by predicted changes; NaN without a whole prediction.

        `rank` takes whole predictions and the numbers of their truths.
        """
        found = np.full(len(self.missing), np.nan)
        there = np.flatnonzero(~self.missing.any(axis=1))
        found[there] = rank(changes[np.ix_(there, self.observed.shared)], self.rows.start + there)
        return found


@dataclass(frozen=True, eq=False)
class _Changes:
    """Predicted and true changes, measured in one way.

    Attributes
    ----------
    compared : _Compared
    way : Way
    """

    compared: _Compared
    way: Way

    @cached_property
    def delta(self) -> NDArray:
        """Predicted change.

        Its part of the control's noise becomes that of the control it is measured from, as if the
        prediction had been made with that one.
        """
        other = self.compared.observed.control - self.way.of_predicted
        if not other.any():
            return self.compared.delta
        return self.compared.delta + self.compared.of_background * other

    @cached_property
    def change(self) -> NDArray:
        """True change."""
        return self.compared.truth - self.way.of_truth

    @cached_property
    def changed(self) -> np.ndarray:
        """The genes that the truth changes most, where they are predicted."""
        scored = ~self.compared.observed.own[self.compared.rows]
        most = _most_changed(self.change, self.compared.n_changed, scored)
        return self.compared.there & most

    def pearson(self, among: np.ndarray) -> np.ndarray:
        """Correlation of predicted and true change over some genes."""
        return _pearson(self.delta, self.change, among, self.compared.observed.rounding)

    def rank_cosine(self) -> np.ndarray:
        """Ranks of the own truths by the cosine of changes."""
        rank = partial(self.compared.observed.truths.rank_cosine, origin=self.way.of_truth)
        return self.compared.ranks(self.delta, rank)


def _rmse(compared: _Compared) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return compared.l2 / np.sqrt(compared.n)


def _l2_denoised(compared: _Compared) -> np.ndarray:
    """Take off what the truth's own noise adds to the squares (method O2)."""
    noise = np.where(compared.there, compared.noise, 0.0).sum(axis=1)
    return np.sqrt(np.maximum(compared.l2**2 - noise, 0.0))


def _pearson_delta_mean(compared: _Compared) -> np.ndarray:
    """Correlate changes from the training mean, whose noise no control shares."""
    mean, observed = compared.observed.background, compared.observed
    return _pearson(
        compared.predicted - mean, compared.truth - mean, compared.there, observed.rounding
    )


def _direction(changes: _Changes) -> np.ndarray:
    same = np.sign(changes.delta) == np.sign(changes.change)
    return _share(same, changes.compared.there & (changes.change != 0))


def _l2_changed(changes: _Changes) -> np.ndarray:
    predicted = changes.way.of_predicted + changes.delta
    return _l2(predicted - changes.compared.truth, changes.changed)


def _overlap_changed(changes: _Changes) -> np.ndarray:
    compared = changes.compared
    return _overlap(changes.delta, changes.change, compared.there, compared.n_changed)


def _over_ways(metric: Callable[[_Changes], np.ndarray]) -> Callable[[_Compared], np.ndarray]:
    """Return the mean of a metric of changes over the ways to measure them."""
    return lambda compared: np.mean([metric(changes) for changes in compared.changes], axis=0)


#: Metrics of a perturbation by name.
OF_PERTURBATION: Final[Mapping[str, Callable[[_Compared], np.ndarray]]] = {
    "l2": lambda compared: compared.l2,
    "l2_denoised": _l2_denoised,
    "rmse": _rmse,
    "pearson_delta": _over_ways(lambda changes: changes.pearson(changes.compared.there)),
    "pearson_delta_mean": _pearson_delta_mean,
    "direction": _over_ways(_direction),
    "l2_changed": _over_ways(_l2_changed),
    "pearson_changed": _over_ways(lambda changes: changes.pearson(changes.changed)),
    "overlap_changed": _over_ways(_overlap_changed),
    "rank_l1": lambda compared: compared.ranks(compared.delta, compared.observed.truths.rank_l1),
    "rank_cosine": _over_ways(_Changes.rank_cosine),
}


#: Those that need to know how noisy the truth is.
_NEED_NOISE: Final = ("l2_denoised",)


def top_genes(control: np.ndarray, n: int) -> np.ndarray:
    """Return the positions of the `n` most expressed genes, the first of equal ones (method I1)."""
    if n < 1:
        raise ArgumentError(f"n_genes has to be at least 1, got {n}")
    return np.argsort(-np.asarray(control, np.float64), kind="stable")[:n]


# --- metrics of a perturbation --------------------------------------------------------------------


def _l2(difference: NDArray, there: NDArray) -> np.ndarray:
    """Return the root of the sum of squares (method I2); NaN where no gene is there."""
    squares = np.where(there, difference, 0.0) ** 2
    return np.where(there.any(axis=1), np.sqrt(squares.sum(axis=1)), np.nan)


def _pearson(one: NDArray, two: NDArray, there: NDArray, rounding: float) -> np.ndarray:
    """Return the correlation over genes; NaN where a side is constant (method I3).

    Values that lie within `rounding` of each other are constant.
    """
    centred = []
    for values in (one, two):
        kept = _centred(values, there)  # with 0 between the others, as the mean is
        constant = kept.max(axis=1, initial=0) - kept.min(axis=1, initial=0) <= rounding
        kept[constant] = 0.0  # and not the rounding of its mean
        centred.append(kept)
    a, b = centred
    scale = np.sqrt(np.einsum("ij,ij->i", a, a) * np.einsum("ij,ij->i", b, b))
    product = np.einsum("ij,ij->i", a, b)
    return np.divide(product, scale, out=np.full(len(a), np.nan), where=scale > 0)


def _centred(values: NDArray, there: NDArray) -> NDArray:
    """Return rows less their means over the genes that are there; 0 at others."""
    n = np.maximum(there.sum(axis=1, keepdims=True), 1)
    kept = np.where(there, values, 0.0)
    kept -= kept.sum(axis=1, keepdims=True) / n
    kept[~there] = 0.0
    return kept


def _share(hits: NDArray, among: NDArray) -> np.ndarray:
    n = among.sum(axis=1)
    return np.divide((hits & among).sum(axis=1), n, out=np.full(len(n), np.nan), where=n > 0)


def _most_changed(change: NDArray, n: int, among: np.ndarray) -> np.ndarray:
    """Mark the `n` genes of each row that change most, of some; of equal ones the first."""
    size = np.where(among & ~np.isnan(change), np.abs(change), -1.0)
    last = max(size.shape[1] - n, 0)
    bound = np.partition(size, last, axis=1)[:, last : last + 1]
    above, equal = size > bound, size == bound
    left = n - above.sum(axis=1, keepdims=True)
    return (above | (equal & (equal.cumsum(axis=1) <= left))) & among


def _overlap(delta: NDArray, change: NDArray, there: np.ndarray, n: int) -> np.ndarray:
    """Return the share of the most changed genes that are also predicted to be.

    A gene with a predicted change of 0 is none of them.
    """
    return _share(_most_changed(delta, n, there) & (delta != 0), _most_changed(change, n, there))


# --- all perturbations together -------------------------------------------------------------------


def collapse_figures(truth: NDArray, predicted: NDArray) -> dict[str, float]:
    """Say whether a method predicts the same for every perturbation.

    ``spread_ratio`` is the standard deviation over perturbations, averaged over genes, divided by
    the truth's; ``effective_rank`` the exponential of the entropy of the shares of variance, 1 for
    predictions along one direction.
    """
    return _figures(_spread(truth), _spread(predicted))


def _collapse(observed: Observed, predicted: NDArray, whole: np.ndarray) -> dict[str, float]:
    """Return the same of the perturbations that are predicted, on the genes that none targets."""
    genes = observed.shared
    truth = observed.spread if whole.all() else _spread(observed.truth[np.ix_(whole, genes)])
    return _figures(truth, _spread(predicted[np.ix_(whole, genes)]))


#: Metrics of all perturbations together by name: of the spread and effective rank of the truths,
#: and of those of the predictions.
OF_ALL: Final[Mapping[str, Callable[[Spread, Spread], float]]] = {
    "spread_ratio": lambda truth, predicted: predicted[0] / truth[0] if truth[0] > 0 else np.nan,
    "effective_rank": lambda truth, predicted: predicted[1],
    "effective_rank_truth": lambda truth, predicted: truth[1],
}


def _figures(truth: Spread, predicted: Spread) -> dict[str, float]:
    return {name: metric(truth, predicted) for name, metric in OF_ALL.items()}


def _spread(values: NDArray) -> tuple[float, float]:
    """Return the mean standard deviation over rows, and the effective rank.

    exp(entropy) of the shares of variance, by the eigenvalues of the smaller of the two products; 0
    where rows are the same but for rounding.
    """
    if len(values) < 2 or not values.shape[1]:
        return np.nan, np.nan
    if (values == values[0]).all():
        return 0.0, 0.0
    centred = values - values.mean(axis=0)
    deviation = np.sqrt(np.einsum("ij,ij->j", centred, centred) / (len(values) - 1))
    wide = len(values) <= values.shape[1]
    variances = np.linalg.eigvalsh(centred @ centred.T if wide else centred.T @ centred)
    variances = variances[variances > 1e-12 * np.einsum("ij,ij->", values, values)]
    if not len(variances):
        return float(deviation.mean()), 0.0
    shares = variances / variances.sum()
    return float(deviation.mean()), float(np.exp(-np.sum(shares * np.log(shares))))


# --- error against the number of genes ------------------------------------------------------------


def gene_numbers(n_genes: int) -> np.ndarray:
    """Return the numbers of genes that curves are drawn at (method I7)."""
    numbers = [*range(1, 101), *range(101, 1001, 10), *range(1001, 19_202, 100)]
    return np.array([n for n in numbers if n <= n_genes])


@checked
def error_by_genes(
    truth: NDArray,
    predicted: NDArray,
    control: np.ndarray,
    *,
    by: By = "expression",
    left_out: np.ndarray | None = None,
) -> NDArray:
    """Return the L2 of each perturbation over the first 1, 2, … genes (method I7).

    Parameters
    ----------
    truth, predicted : ndarray (perturbation, gene)
    control : ndarray (gene,)
    by : {'expression', 'change'}
        Genes in the order of the control's expression, or of each perturbation's true change.
    left_out : ndarray (perturbation, gene), bool, optional
        Genes that add nothing to the error of a perturbation, such as
        :func:`pertscale.evaluation.own_targets`; none by default, as in the second paper. By
        change they come last, by expression they keep their places.

    Returns
    -------
    ndarray (perturbation, gene)
        NaN from the first gene on that is not predicted.

    References
    ----------
    Ahlmann-Eltze, Huber and Anders (2025), https://doi.org/10.1038/s41592-025-02772-6

    Examples
    --------
    >>> control = np.array([2.0, 1.0, 0.5])
    >>> truth = np.array([[2.0, 1.5, 0.5]])
    >>> ps.evaluation.error_by_genes(truth, np.array([[2.3, 1.1, 0.5]]), control).round(2)
    array([[0.3, 0.5, 0.5]])
    """
    if by not in ("expression", "change"):
        raise ArgumentError(f"by={by!r} is not one of expression, change")
    squares = np.subtract(predicted, truth, dtype=np.float64)
    np.square(squares, out=squares)
    if left_out is not None:
        squares[left_out] = 0.0
    if by == "expression":
        squares = squares[:, top_genes(control, truth.shape[1])]
    else:
        change = np.abs(truth - control)
        if left_out is not None:
            change[left_out] = -1.0
        order = np.argsort(-change, axis=1, kind="stable")
        squares = np.take_along_axis(squares, order, axis=1)
    np.cumsum(squares, axis=1, out=squares)
    return np.sqrt(squares, out=squares)


def _checked(
    truth: NDArray,
    predicted: NDArray,
    control: np.ndarray,
    background: np.ndarray,
    perturbations: Sequence[str],
) -> tuple[NDArray, NDArray, np.ndarray, np.ndarray]:
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
