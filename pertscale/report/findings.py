"""What the scores say, in sentences that follow from them.

A sentence is about one set of perturbations (n of the N that are held out, as it says), about
methods that all predict these, and about one operating point. It gives means over the splits, with
95 % intervals over perturbations. Classes are compared where the target genes are left out
(``full_without_target``, ``curated``), by the average precision of change, which needs no calls,
and by macro F1 where all call as large a share of pairs as is differentially expressed in training.

A method is named as the best only where

* at least 5 perturbations are compared in every split, and at least half of those held out;
* every other one is worse, by the resamples that all methods share, at 5 % after Holm's adjustment;
* the metric can tell: a replicate, half of the cells for the other half, is better by it than the
  best method that knows nothing. Of expression the first metric that can is taken.

The oracle, which is given the truth, and random classes never compete.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from pertscale.baselines.registry import (
    EXPRESSION_MODELS,
    METHODS,
    ON_HALVES,
    REPLICATE,
    SCORED_ON_HALVES,
    ExpressionMethod,
    Method,
)
from pertscale.evaluation.metrics import METRICS as METRIC_RECORDS
from pertscale.evaluation.operating_point import at_operating_point
from pertscale.evaluation.resampling.versions import interval_of_mean
from pertscale.results.averages import with_interval
from pertscale.results.comparisons import FEW, Comparison, no_target_read_out, span, told
from pertscale.schema import (
    AS_CALLED,
    AT_TRAINING_RATE,
    DOUBLE,
    SINGLE,
    TOP_EXPRESSED,
    WITHIN,
    WITHOUT_TARGET,
)

#: What models of expression are compared by, the first that can tell, and in words.
_BY: Final = {
    "l2": "error (L2)",
    "pearson_delta": "Pearson delta",
    "rank_l1": "rank of the own truth (L1)",
    "rank_cosine": "rank of the own truth (cosine)",
}
#: Methods that a sentence lists.
_LISTED: Final = 3
#: Score of a screen without effects that is worth a sentence, and gap that selection makes.
_NO_EFFECT, _GAP = 0.1, 0.05
#: Share of pairs without a vote of neighbours that is worth a sentence.
_MOSTLY: Final = 0.5
#: Settings of classes that leave the target genes out.
_SETTINGS: Final = ("full_without_target", "curated")
#: The scores that sentences are made of, as a filter: few of those of single perturbations.
NEEDED_SCORES: Final = [
    [("level", "!=", "perturbation")],
    [
        ("metric", "==", "balanced_accuracy"),
        ("method", "==", "majority_vote"),
        ("task", "==", WITHIN),
        ("operating_point", "==", AS_CALLED),
    ],
]


def findings(
    scores: pd.DataFrame,
    averages: pd.DataFrame,
    comparisons: pd.DataFrame,
    held_out: Mapping[tuple[str, str], int],
    *,
    without_changes: Mapping[str, str],
    vectors_lack: Sequence[Mapping[str, Any]],
    genes_seen: Sequence[Mapping[str, Any]] = (),
) -> list[str]:
    """Return plain sentences: how methods compare, and what prevents a comparison.

    Parameters
    ----------
    scores : DataFrame
        :data:`pertscale.schema.SCORE_COLUMNS`, of the rows at least :data:`NEEDED_SCORES`.
    averages : DataFrame
        The same averaged over splits, as of :func:`pertscale.results.averages.averaged_scores`.
    comparisons : DataFrame
        :data:`pertscale.schema.COMPARISON_COLUMNS`.
    held_out : mapping of (context, split) to int
        How many perturbations the splits hold out.
    without_changes : mapping of str to str
        Contexts in which no class can be scored, and why.
    vectors_lack : sequence of mapping
        As of :func:`without_vectors`.
    genes_seen : sequence of mapping
        As of :func:`seen_genes`.
    """
    return [
        *of_classes(scores, averages, comparisons, held_out),
        *(f"{context}: {why}." for context, why in without_changes.items()),
        *seen_genes(genes_seen),
        *without_vectors(vectors_lack),
        *without_votes(scores),
        *of_expression(scores, averages, comparisons),
    ]


# --- comparing methods ----------------------------------------------------------------------------


def _sentence(comparison: Comparison, head: str, what: str, references: Mapping[str, str]) -> str:
    """Say which method is best, or that none is; `references` are methods that are always named."""
    text = f"{head} ({comparison.told}): "
    ranked = comparison.ranked
    if not ranked:
        return f"{text}no method has {what} in every split."
    if comparison.too_few:
        return f"{text}{comparison.too_few}."
    if not comparison.can_tell:
        floor, replicate = comparison.floor, comparison.value(REPLICATE)
        return (
            f"{text}{what} can't tell on this screen: a replicate (half of the cells for the other "
            f"half) has {replicate}, not better than {floor.removesuffix(ON_HALVES)}, which knows "
            f"nothing, on the same halves: {comparison.value(floor)}."
        )
    best, *others = ranked
    named = [best]
    superlative = "highest" if comparison.greater_is_better else "smallest"
    if others and comparison.all_same:
        text += f"all methods have the same {what}, {comparison.value(best)}"
        named = ranked
    elif rivals := comparison.rivals():
        named += rivals[: _LISTED - 1]
        listed = ", ".join(f"{method} {comparison.value(method)}" for method in named)
        more = f" and {len(rivals) + 1 - len(named)} more" if len(rivals) >= _LISTED else ""
        text += f"no method stands out by {what}: {listed}{more} can't be told apart"
    else:
        text += f"{what} is {superlative} for {best}, {comparison.value(best)}"
        if others:
            named.append(others[0])
            text += f"; next is {others[0]}, {comparison.value(others[0])}"
            if difference := comparison.difference(best, others[0]):
                text += f", a difference of {difference}"
    for method, words in references.items():
        if method in set(comparison.averages["method"]) and method not in named:
            text += f"; {words} {comparison.value(method)}"
    return text + "."


def _always_told(methods: Mapping[str, Method | ExpressionMethod]) -> dict[str, str]:
    """Return the methods whose score a sentence always gives, and the words for each."""
    return {name: method.always_told for name, method in methods.items() if method.always_told}


# --- classes --------------------------------------------------------------------------------------


def of_classes(
    scores: pd.DataFrame,
    averages: pd.DataFrame,
    comparisons: pd.DataFrame,
    held_out: Mapping[tuple[str, str], int] | None = None,
) -> list[str]:
    """Return sentences on classes within contexts.

    Parameters
    ----------
    scores, averages, comparisons : DataFrame
        As of :func:`findings`.
    held_out : mapping of (context, split) to int, optional
        How many perturbations the splits hold out; by default as many as have scores.
    """
    within = scores[scores["task"] == WITHIN]
    lines: list[str] = []
    for context in dict.fromkeys(within["context"]):
        of_context = within[within["context"] == context]
        fewer = set(predicting_fewer(of_context)) - {*SCORED_ON_HALVES}
        of_context = of_context[~of_context["method"].isin(fewer)]
        for setting in _SETTINGS:
            rows = of_context[of_context["setting"] == setting]
            if len(rows):
                methods = set(rows["method"])
                means, differences = (
                    _of_table(table, WITHIN, context, setting) for table in (averages, comparisons)
                )
                means = means[means["method"].isin(methods)]
                compared = _Compared(means, differences, *counted(rows, context, held_out or {}))
                lines += _of_setting(compared, context, setting)
        lines += _contrast(of_context, context, held_out or {})
        if no_target_read_out(of_context):
            lines.append(
                f"{context}: no target of a held-out perturbation is read out, so full is "
                "full_without_target, and shown once."
            )
    return lines


def predicting_fewer(rows: pd.DataFrame) -> dict[str, str]:
    """Return the methods that lack perturbations, which count as no change, and how many."""
    records = rows[["method", "split", "params"]].drop_duplicates()
    lacking: dict[str, list[int]] = {}
    for row in records.itertuples():
        n = json.loads(row.params).get("n_without_prediction", 0)
        lacking.setdefault(str(row.method), []).append(n)
    return {method: span(np.array(n)) for method, n in lacking.items() if any(n)}


def counted(
    rows: pd.DataFrame, context: str, held_out: Mapping[tuple[str, str], int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return how many perturbations of each split have scores of classes, and are held out."""
    counts = rows[rows["metric"] == "n_perturbations"]
    n = counts.groupby("split", sort=False)["value"].max().astype(int)
    of = [held_out.get((context, str(split)), int(n[split])) for split in n.index]
    return n.to_numpy(), np.array(of)


def _of_table(table: pd.DataFrame, task: str, context: str, setting: str) -> pd.DataFrame:
    """Return the rows of one table of methods that are fitted on the context itself."""
    keys = {"task": task, "context": context, "setting": setting, "train_contexts": context}
    return table[(table[list(keys)] == list(keys.values())).all(axis=1)]


@dataclass(frozen=True)
class _Compared:
    """Averages and differences of one table, and how many perturbations they are of."""

    averages: pd.DataFrame
    differences: pd.DataFrame
    n: np.ndarray
    n_held_out: np.ndarray

    def by(self, metric: str, point: str = "") -> Comparison:
        """Return the comparison by one metric of all pairs, or all errors."""
        means, differences = (
            rows[(rows["metric"] == metric) & (rows["operating_point"] == point)]
            for rows in (self.averages, self.differences)
        )
        means = means[means["level"] == "overall"]
        better = bool(METRIC_RECORDS[metric].greater_is_better)
        return Comparison(means, better, self.n, self.n_held_out, differences)


def _of_setting(compared: _Compared, context: str, setting: str) -> Iterator[str]:
    head = f"{context}, {setting}"
    comparison = compared.by("auprc_de")
    if len(comparison.averages):
        share = compared.averages.query("metric == 'share_de'")["value"].mean()
        line = _sentence(comparison, head, "average precision of change", {})
        yield line if comparison.too_few else f"{line[:-1]}; chance is {share:.2g}."
    comparison = compared.by("macro_f1", AT_TRAINING_RATE)
    if len(comparison.averages) and setting == WITHOUT_TARGET and not comparison.too_few:
        what = "macro F1 at the training rate"
        yield _sentence(comparison, head, what, _always_told(METHODS))


def _contrast(
    rows: pd.DataFrame, context: str, held_out: Mapping[tuple[str, str], int]
) -> list[str]:
    """Say how much of the majority vote's score is due to curation, on the same perturbations."""
    single = at_operating_point(rows, AS_CALLED)
    single = single[
        (single["method"] == "majority_vote")
        & (single["level"] == "perturbation")
        & (single["metric"] == "balanced_accuracy")
        & single["setting"].isin(_SETTINGS)
    ]
    wide = single.pivot_table(index=["split", "group"], columns="setting", values="value").dropna()
    if len(wide.columns) < 2 or not len(wide):
        return []
    n = wide.groupby("split").size()
    of = np.array([held_out.get((context, str(split)), n[split]) for split in n.index])
    of_each = wide.groupby("group").mean()
    gap = of_each["curated"] - of_each["full_without_target"]
    few = n.min() < FEW or (2 * n.to_numpy() < of).any()
    if few or gap.mean() < _GAP or _interval(gap)[0] <= 0:
        return []
    curated, whole = (_with_interval(of_each[name]) for name in _SETTINGS[::-1])
    return [
        f"{context}: majority vote, which does not look at the perturbation, reaches a balanced "
        f"accuracy of {curated} on the curated pairs of a perturbation and {whole} on all of its "
        f"pairs ({told(n.to_numpy(), of)}, as called): how pairs are chosen makes the difference."
    ]


def _with_interval(values: pd.Series) -> str:
    return with_interval(float(values.mean()), *_interval(values))


def _interval(values: pd.Series) -> tuple[float, float]:
    """Return the interval of a mean over perturbations, each of which is drawn by itself."""
    return interval_of_mean("perturbations", values.rename(str).to_dict(), {})


def without_vectors(lacking: Sequence[Mapping[str, Any]], context: str | None = None) -> list[str]:
    """Say which contexts have held-out perturbations without a vector.

    Parameters
    ----------
    lacking : sequence of mapping
        ``context, split, n`` held out, ``n_lacking`` of these, and the name of the ``embedding``
        if one was given.
    context : str, optional
        Only this one.
    """
    lines = []
    for name, rows, n, of in _counted(lacking, "n_lacking", context):
        counts, given = f"{span(n)} of {span(of)} held-out perturbations", rows[0]["embedding"]
        lines.append(
            f"{name}: no embedding given: {counts} have no vector; pass --embedding"
            if given is None
            else f"{name}: embedding {given!r} has no vector for {counts}"
        )
    return lines


def _counted(
    table: Sequence[Mapping[str, Any]], key: str, context: str | None
) -> Iterator[tuple[str, list[Mapping[str, Any]], np.ndarray, np.ndarray]]:
    """Yield contexts in which there are any: name, rows, and numbers of each split and of all."""
    for name in dict.fromkeys(row["context"] for row in table):
        rows = [row for row in table if row["context"] == name]
        n, of = (np.array([row[k] for row in rows]) for k in (key, "n"))
        if context in (None, name) and n.any():
            yield name, rows, n, of


def seen_genes(seen: Sequence[Mapping[str, Any]], context: str | None = None) -> list[str]:
    """Say in which contexts held-out perturbations have genes that are perturbed in training.

    Parameters
    ----------
    seen : sequence of mapping
        ``context, split, n`` held out, ``n_seen`` of these, and whether the split was ``drawn``.
    context : str, optional
        Only this one.
    """
    lines = []
    for name, rows, n, of in _counted(seen, "n_seen", context):
        lines.append(
            f"{name}: {span(n)} of {span(of)} held-out perturbations ({n.sum() / of.sum():.0%}) "
            "have a gene that is perturbed in training, too, in another combination or alone"
            + ("; gene_disjoint=True draws splits without." if rows[0]["drawn"] else ".")
        )
    return lines


def without_votes(scores: pd.DataFrame) -> list[str]:
    """Say for which nearest-neighbour methods most curated pairs fall back to the majority vote."""
    rows = scores[(scores["task"] == WITHIN) & (scores["setting"] == "curated")]
    rows = rows[rows["metric"] == "share_without_vote"]
    lines = []
    for context, of_context in rows.groupby("context", sort=False):
        shares = of_context.groupby("method", sort=False)["value"].mean()
        listed = [f"{share:.0%} of {name}" for name, share in shares.items() if share > _MOSTLY]
        if listed:
            lines.append(
                f"{context}, curated: no neighbour has a label of the gene, whose majority is then "
                f"called, for most of the pairs: {', '.join(listed)}."
            )
    return lines


# --- expression -----------------------------------------------------------------------------------


def of_expression(
    scores: pd.DataFrame, averages: pd.DataFrame, comparisons: pd.DataFrame
) -> list[str]:
    """Return sentences on the errors of held-out singles and doubles, against no change."""
    rows = scores[scores["task"].isin([SINGLE, DOUBLE]) & (scores["setting"] == TOP_EXPRESSED)]
    lines: list[str] = []
    for context, task in dict.fromkeys(zip(rows["context"], rows["task"], strict=True)):
        of_task = rows[(rows["context"] == context) & (rows["task"] == task)]
        means, differences = (
            _of_table(table, task, context, TOP_EXPRESSED) for table in (averages, comparisons)
        )
        compared = _Compared(means, differences, *compared_numbers(of_task))
        head = f"{context}, held-out {task}s"
        lines += _by_first_that_tells(compared, head)
        lines += _without_effects(of_task, head)
    return lines


def _by_first_that_tells(compared: _Compared, head: str) -> Iterator[str]:
    """Compare models by their error and, where that can't tell, by the first metric that can."""
    for metric, what in _BY.items():
        comparison = compared.by(metric)
        if metric == "l2" or (len(comparison.averages) and comparison.can_tell):
            yield _sentence(comparison, head, what, _always_told(EXPRESSION_MODELS))
            if comparison.too_few or comparison.can_tell:
                return
    yield f"{head}: nor can {', '.join(list(_BY.values())[1:])}; methods can't be compared."


def compared_numbers(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return how many perturbations of each split are compared in expression, and held out."""
    rows = rows[~rows["method"].isin(SCORED_ON_HALVES)]
    overall = rows[(rows["metric"] == "l2") & (rows["level"] == "overall")]
    overall = overall[overall["value"].notna()]
    n = overall.groupby("split", sort=False)["n"].min()
    whole = rows[rows["metric"] == "n_without_prediction"].groupby("split")["n"].max()
    of = whole.reindex(n.index).fillna(n)
    return n.to_numpy(int), of.to_numpy(int)


def _without_effects(rows: pd.DataFrame, head: str) -> list[str]:
    """Say what a screen without any effect would score, where that is not small."""
    overall = rows[rows["level"] == "overall"]
    expected = overall.groupby("metric")["no_effect"].mean()
    delta, direction = (expected.get(metric, np.nan) for metric in ("pearson_delta", "direction"))
    if not delta > _NO_EFFECT:
        return []
    return [
        f"{head}: without any effect in the screen, the mean of the training perturbations would "
        f"have a Pearson delta of {delta:.2f} and a direction of {direction:.2f}, as truth and "
        "prediction share the noise of the controls; scores up to there say nothing."
    ]
