"""Whether what knows nothing gains in a metric (method R2 and R3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t as student

from pertscale.arguments import checked
from pertscale.evaluation.attacks.known import Known
from pertscale.evaluation.attacks.registry import ATTACKS, GAMED
from pertscale.evaluation.attacks.values import (
    REPLICATE,
    TRUTH,
    Audited,
    AuditedClasses,
    Scores,
)
from pertscale.evaluation.expression import undefined_counts_as_none
from pertscale.evaluation.metrics import METRICS
from pertscale.evaluation.resampling.comparing import ALPHA, compare_methods, holm
from pertscale.evaluation.resampling.draws import Draws
from pertscale.evaluation.resampling.versions import Versions, mean_of
from pertscale.evaluation.target_genes import Targets, check_targets
from pertscale.guide_names import target_group
from pertscale.perturbation_names import targets as targets_of
from pertscale.schema import ATTACK_COLUMNS, CANNOT_TELL, CONTEXT, GAINS, NO_GAIN

#: A gain up to this share of the span from floor to ceiling is none.
MOST_GAIN: Final = 0.02
#: Metrics without a better side that are best where they equal the truth's.
_LIKE_THE_TRUTH: Final = ("spread_ratio", "effective_rank")
#: Why there is no gain.
NO_SPAN: Final = "the ceiling is no better than the best guess: this screen can't tell"
#: Span from floor to ceiling that is none.
_ROUNDING: Final = 1e-12


@checked
def audit_metrics(
    train: NDArray,
    truth: NDArray,
    control: np.ndarray,
    *,
    perturbations: Sequence[str],
    held_out: Sequence[str],
    genes: Sequence[str],
    target_genes: Mapping[str, Sequence[str]] | None = None,
    targets: Targets = "exclude",
    replicate: NDArray | None = None,
    classes: AuditedClasses | None = None,
) -> pd.DataFrame:
    """Run every attack that needs no cells through every metric, and say which metrics it games.

    An attack is a prediction that knows the training part and the names of what is held out, and
    nothing else (:data:`pertscale.evaluation.ATTACKS`). A metric is sound where none is better
    than an honest guess.

    Parameters
    ----------
    train, truth : ndarray (perturbation, gene)
        Observed profiles of the training and of the held-out perturbations, mean log1p expression.
    control : ndarray (gene,)
    perturbations, held_out : sequence of str
        Names of their rows.
    genes : sequence of str
        Names of the columns.
    target_genes : mapping, optional
        Perturbation → genes that it targets, such as ``Screen.targets``; by default as its name
        says.
    targets : {'exclude', 'include'}
        Whether the genes that a perturbation targets are left out of its scores. With 'include'
        attacks that know no more than the label gain, as they do in the second paper's scores: they
        are compared with the guesses that do not even know that.
    replicate : ndarray (perturbation, gene), optional
        The held-out profiles as measured independently, such as from the other half of the cells:
        the ceiling. By default the ceiling is the truth itself.
    classes : AuditedClasses, optional
        Labels, and how changes become classes; without these only expression is scored.

    Returns
    -------
    DataFrame
        A row per attack, metric and operating point: ``targets, ceiling_is, attack, metric,
        operating_point, is_headline, value, floor, best_floor, ceiling, span, gain, low, high,
        verdict, note, n_splits``
        (:data:`pertscale.schema.ATTACK_COLUMNS` without the context). ``floor`` is the best of the
        honest guesses, of which a correlation that is not defined counts as 0; ``best_floor`` which
        one that is; ``ceiling_is`` 'replicate', or 'truth' without one; ``gain`` = (value - floor)
        / (ceiling - floor), positive where the attack is better than the floor, with its interval
        over perturbations. ``verdict``: 'ok' up to a gain of 0.02; 'gains' above, where that is
        beyond the chance of which perturbations are held out (adjusted p below 0.05 over the
        attacks); 'cannot tell' where it is not, or where the ceiling is not better than the floor,
        a replicate by its interval: then there is no gain either. ``note`` says of a gain why it is
        known, and no surprise, and why there is none. ``is_headline``: whether summaries show the
        metric and no attack is known to gain in it. ``spread_ratio``
        and ``effective_rank`` count as better the nearer they are to the truth's; other figures
        without a better side, such as counts, are left out. Of random attacks rows are dealt out
        again and again, and scores averaged. Memory: as many copies of the held-out profiles as
        there are attacks.

    Raises
    ------
    InputError
        If shapes do not fit, or there is no training perturbation.

    Examples
    --------
    >>> profiles = ps.stats.read_pseudobulk("k562.labels")["mean_log1p"].compute()
    >>> names = [str(name) for name in profiles["perturbation"].values]
    >>> table = ps.evaluation.audit_metrics(
    ...     profiles[1:10].values, profiles[10:14].values, profiles[0].values,
    ...     perturbations=names[1:10], held_out=names[10:14], genes=profiles["gene"].values,
    ... )
    >>> chosen = table.query("attack == 'sign_flipped' and metric in ['l2', 'pearson_delta']")
    >>> chosen[["metric", "best_floor", "verdict"]]
               metric best_floor verdict
    10             l2  no_change      ok
    52  pearson_delta       mean      ok
    """
    check_targets(targets)
    audited = as_audited(
        train,
        truth,
        control,
        perturbations=perturbations,
        held_out=held_out,
        genes=genes,
        target_genes=target_genes,
        targets=targets,
        replicate=replicate,
        classes=classes,
    )
    return judged({"": audited.scores()}, targets=targets)


def as_audited(
    train: NDArray,
    truth: NDArray,
    control: np.ndarray,
    *,
    perturbations: Sequence[str],
    held_out: Sequence[str],
    genes: Sequence[str],
    target_genes: Mapping[str, Sequence[str]] | None,
    targets: Targets,
    replicate: NDArray | None,
    classes: AuditedClasses | None,
    draws: Draws | None = None,
    turn: tuple[int, int] = (0, 1),
) -> Audited:
    """Return what attacks are scored on; parameters and errors of :func:`audit_metrics`."""
    known = Known.of(
        train,
        control,
        names=perturbations,
        held_out=held_out,
        genes=genes,
        target_genes=target_genes,
        labels=None if classes is None else classes.train,
    )
    return Audited(
        known=known,
        genes=[str(gene) for gene in genes],
        truth=np.asarray(truth, np.float64),
        target_genes=target_genes,
        targets=targets,
        replicate=None if replicate is None else np.asarray(replicate, np.float64),
        classes=classes,
        draws=draws or _draws(held_out, genes, target_genes),
        turn=turn,
    )


def _draws(
    held_out: Sequence[str], genes: Sequence[str], target_genes: Mapping[str, Sequence[str]] | None
) -> Draws:
    known, groups = target_genes or {}, target_group(held_out, set(genes))
    return Draws.of("attacks", {n: known.get(n, targets_of(groups[n])) for n in held_out})


def judged(scores: Mapping[str, Mapping[str, Scores]], *, targets: Targets) -> pd.DataFrame:
    """Return gains and verdicts of scores, which are averaged over splits first.

    Parameters
    ----------
    scores : mapping of str to mapping of str to dict
        By split and attack, as of :meth:`Audited.scores`. An attack is compared with the floors on
        the splits in which it has a value.
    targets : {'exclude', 'include'}
    """
    keys = dict.fromkeys(key for split in scores.values() for one in split.values() for key in one)
    tables = []
    for metric, point in keys:
        if _is_score(metric):
            rows = [_row(metric, point, attack, scores) for attack in ATTACKS]
            tables.append(_with_verdicts(pd.DataFrame([row for row in rows if row is not None])))
    columns = [column.name for column in ATTACK_COLUMNS if column.name != CONTEXT]
    return pd.concat(tables, ignore_index=True).assign(targets=targets)[columns]


def _is_score(metric: str) -> bool:
    """Whether a metric has a better side."""
    return METRICS[metric].greater_is_better is not None or metric in _LIKE_THE_TRUTH


def _row(
    metric: str, point: str, attack: str, scores: Mapping[str, Mapping[str, Scores]]
) -> dict[str, object] | None:
    """Return the row of an attack in a metric; None where it is not scored in it."""
    key = (metric, point)
    mine = [one for one in scores.values() if key in one.get(attack, {})]
    if not mine:
        return None
    mine = [one for one in mine if key in one.get(REPLICATE, {})] or mine
    there = [one for one in mine if np.isfinite(one[attack][key].estimate[0])]

    def mean(name: str) -> Versions:
        return mean_of([one[name][key] for one in there or mine])

    perfect = float(mean(TRUTH).estimate[0])
    ceiling_is = REPLICATE if key in mine[0].get(REPLICATE, {}) else TRUTH
    value, ceiling = mean(attack), mean(ceiling_is)
    floors = {
        name: _as_floor(metric, mean(name))
        for name in _floors(attack)
        if key in mine[0].get(name, {})
    }
    merits = {name: _merit(metric, one.estimate[0], perfect) for name, one in floors.items()}
    best = max(merits, key=lambda name: np.nan_to_num(merits[name], nan=-np.inf))
    span = _merit(metric, ceiling.estimate[0], perfect) - merits[best]
    if not span > _ROUNDING or (
        ceiling_is == REPLICATE and not _told(metric, ceiling, floors[best])
    ):
        span = np.nan  # the ceiling is no better
    gain = (_merit(metric, value.estimate[0], perfect) - merits[best]) / span
    return {
        "ceiling_is": ceiling_is,
        "attack": attack,
        "metric": metric,
        "operating_point": point,
        "is_headline": METRICS[metric].is_headline and key not in GAMED,
        "value": float(value.estimate[0]),
        "floor": float(floors[best].estimate[0]),
        "best_floor": best if np.isfinite(merits[best]) else "",
        "ceiling": float(ceiling.estimate[0]),
        "span": span,
        "gain": gain,
        "n_splits": len(there),
        **_resampled(metric, value, floors[best], span),
    }


def _as_floor(metric: str, floor: Versions) -> Versions:
    """Return a floor; the correlation of a constant, which is not defined, counts as none."""
    if undefined_counts_as_none(metric) and np.isnan(floor.estimate[0]):
        return Versions(np.zeros_like(floor.values), floor.n_resamples, floor.present)
    return floor


def _told(metric: str, replicate: Versions, floor: Versions) -> bool:
    """Whether a replicate is better than a floor by its interval (method O5).

    Of figures without resamples nothing more is known than that it is.
    """
    has_none = not np.isfinite(replicate.resamples).any()
    return has_none or bool(_compared(metric, replicate, floor)["low"] > 0)


def _compared(metric: str, value: Versions, floor: Versions) -> pd.Series:
    """Return the row of :func:`compare_methods`, positive where the value is better."""
    return compare_methods(
        {"value": value, "floor": floor},
        reference="floor",
        greater_is_better=METRICS[metric].greater_is_better is not False,
    ).iloc[0]


def _resampled(metric: str, value: Versions, floor: Versions, span: float) -> dict[str, float]:
    """Return the interval of a gain, and its p-value; NaN for figures of all perturbations.

    The p-value is that of a t-test with the resamples' standard deviation: theirs are not small
    enough to be adjusted for as many attacks.
    """
    found = _compared(metric, value, floor)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.abs(np.float64(found["difference"]) / found["se"])
    return {
        "low": float(found["low"]) / span,
        "high": float(found["high"]) / span,
        "p_value": float(2 * student.sf(t, found["n_clusters"] - 1)),
    }


def _with_verdicts(rows: pd.DataFrame) -> pd.DataFrame:
    """Add verdicts on the attacks in one metric, why gains are known, and why there are none."""
    metric, point = rows["metric"].iloc[0], rows["operating_point"].iloc[0]
    is_real = holm(rows["p_value"].to_numpy(float)) < ALPHA
    if metric in _LIKE_THE_TRUTH:
        is_real[:] = True  # these have no intervals
    is_above = (rows["gain"] > MOST_GAIN).to_numpy()
    verdicts = np.where(is_above, np.where(is_real, GAINS, CANNOT_TELL), NO_GAIN).astype(object)
    has_no_span = rows["span"].isna().to_numpy()
    verdicts[has_no_span] = CANNOT_TELL
    game = GAMED.get((metric, point), "")
    known = np.array([ATTACKS[name].knows or game for name in rows["attack"]], object)
    notes = np.where(verdicts == GAINS, known, "").astype(object)
    notes[has_no_span] = NO_SPAN
    return rows.assign(verdict=verdicts, note=notes)


def _floors(attack: str) -> list[str]:
    """Return the honest guesses that an attack is compared with."""
    without = ATTACKS[attack].is_label_only
    return [n for n, one in ATTACKS.items() if one.is_floor and not (without and one.is_label_only)]


def _merit(metric: str, value: float, perfect: float) -> float:
    """Return a value so that larger is better."""
    if metric in _LIKE_THE_TRUTH:
        return -abs(float(value) - perfect)
    return float(value) if METRICS[metric].greater_is_better else -float(value)
