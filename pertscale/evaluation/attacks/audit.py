"""Whether what knows nothing gains in a metric (method R2 and R3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pertscale.arguments import checked
from pertscale.evaluation.attacks.known import Known
from pertscale.evaluation.attacks.registry import ATTACKS, GAMED
from pertscale.evaluation.attacks.values import REPLICATE, TRUTH, Audited, AuditedClasses
from pertscale.evaluation.metrics import METRICS
from pertscale.evaluation.target_genes import Targets, check_targets
from pertscale.schema import CANNOT_TELL, GAINS, NO_GAIN

#: A gain up to this share of the span from floor to ceiling is none.
MOST_GAIN: Final = 0.02
#: Metrics without a better side that are best where they equal the truth's.
_LIKE_THE_TRUTH: Final = ("spread_ratio", "effective_rank")
_KEYS: Final = ["metric", "operating_point"]


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
        A row per attack, metric and operating point: ``targets, attack, metric, operating_point,
        is_headline, value, floor, best_floor, ceiling, span, gain, verdict, note, n_splits``
        (:data:`pertscale.schema.ATTACK_COLUMNS` without the context). ``floor`` is the best of the
        honest guesses, ``best_floor`` which one that is; ``gain`` = (value - floor) / (ceiling -
        floor), positive where the attack is better than the floor. ``verdict``: 'gains' above 0.02;
        'cannot tell' where the ceiling is not better than the floor; else 'ok'. ``note`` says of a
        gain why it is known, and no surprise. ``spread_ratio``
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
    ...            l2  ...             ok
    ... pearson_delta  ...             ok
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
    return judged(audited.values().assign(split=""), targets=targets)


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
    )


def judged(values: pd.DataFrame, *, targets: Targets) -> pd.DataFrame:
    """Return gains and verdicts of scores, which are averaged over splits first.

    Parameters
    ----------
    values : DataFrame
        ``split, attack, metric, operating_point, value``, as of :meth:`Audited.values`. An attack
        is compared with the floors on the splits in which it has a value.
    targets : {'exclude', 'include'}
    """
    scored = [m for m in values["metric"].unique() if _is_score(m)]
    rows = []
    for key, mine in values[values["metric"].isin(scored)].groupby(_KEYS, sort=False):
        wide = mine.pivot(index="split", columns="attack", values="value")
        rows += [_row(str(key[0]), str(key[1]), a, wide) for a in ATTACKS if a in wide]
    return pd.DataFrame(rows).assign(targets=targets)[
        [
            "targets",
            "attack",
            *_KEYS,
            "is_headline",
            "value",
            "floor",
            "best_floor",
            "ceiling",
            "span",
            "gain",
            "verdict",
            "note",
            "n_splits",
        ]
    ]


def _is_score(metric: str) -> bool:
    """Whether a metric has a better side."""
    return METRICS[metric].greater_is_better is not None or metric in _LIKE_THE_TRUTH


def _row(metric: str, point: str, attack: str, wide: pd.DataFrame) -> dict[str, object]:
    """Return the row of an attack from scores by split and attack."""
    there = wide[wide[attack].notna()]
    means = (there if len(there) else wide).mean()
    merits = _merit(metric, means, float(means[TRUTH]))
    top = REPLICATE if REPLICATE in means else TRUTH
    floors = merits[[name for name in _floors(attack) if name in merits]]
    best = str(floors.idxmax()) if floors.notna().any() else ""
    floor = float(merits[best]) if best else np.nan
    span = float(merits[top]) - floor
    can_tell = span > 1e-12  # NaN can't
    gain = (float(merits[attack]) - floor) / span if can_tell else np.nan
    verdict = GAINS if gain > MOST_GAIN else NO_GAIN
    return {
        "attack": attack,
        "metric": metric,
        "operating_point": point,
        "is_headline": METRICS[metric].is_headline,
        "value": float(means[attack]),
        "floor": float(means[best]) if best else np.nan,
        "best_floor": best,
        "ceiling": float(means[top]),
        "span": span,
        "gain": gain,
        "verdict": verdict if can_tell else CANNOT_TELL,
        "note": ATTACKS[attack].knows or GAMED.get((metric, point), "") if gain > MOST_GAIN else "",
        "n_splits": len(there),
    }


def _floors(attack: str) -> list[str]:
    """Return the honest guesses that an attack is compared with."""
    without = ATTACKS[attack].is_label_only
    return [n for n, one in ATTACKS.items() if one.is_floor and not (without and one.is_label_only)]


def _merit(metric: str, values: pd.Series, perfect: float) -> pd.Series:
    """Return values so that larger is better."""
    if metric in _LIKE_THE_TRUTH:
        return -(values - perfect).abs()
    return values if METRICS[metric].greater_is_better else -values
