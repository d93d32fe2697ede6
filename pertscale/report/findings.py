"""What the scores say, in sentences that follow from them."""

from __future__ import annotations

import pandas as pd

from pertscale.evaluation.operating_point import at_operating_point

#: Methods that are there for comparison only.
_REFERENCE = ("oracle", "random", "all_non_de")


def findings(scores: pd.DataFrame) -> list[str]:
    """Return plain sentences per context: best methods, and the curated-full contrast."""
    classes = at_operating_point(scores[scores["task"] == "within"])
    return [*_of_classes(classes), *_of_expression(scores)]


def _of_expression(scores: pd.DataFrame) -> list[str]:
    """Which model has the smallest error on held-out singles and doubles, against no change."""
    rows = scores[(scores["level"] == "overall") & (scores["metric"] == "l2")]
    rows = rows[rows["task"].isin(["single", "double"]) & (rows["setting"] == "top_expressed")]
    means = rows.groupby(["context", "task", "method"], sort=False)["value"].mean()
    lines = []
    for (context, task), mine in means.groupby(level=["context", "task"], sort=False):
        errors = mine.droplevel(["context", "task"]).sort_values(kind="stable")
        text = f"{context}, held-out {task}s: the smallest mean error is {errors.iloc[0]:.3f}, by "
        text += errors.index[0]
        others = [f"{errors[m]:.3f} by {m}" for m in ("mean", "no_change") if m in errors.index[1:]]
        lines.append(f"{text}{'; ' if others else ''}{', '.join(others)}.")
    return lines


def _of_classes(scores: pd.DataFrame) -> list[str]:
    overall = scores[scores["level"] == "overall"]
    mean = overall.groupby(["context", "setting", "method", "metric"])["value"].mean()
    lines = []
    for context in dict.fromkeys(overall["context"]):
        present = set(overall.loc[overall["context"] == context, "setting"])
        settings = [s for s in ("curated", "full") if s in present]
        lines += [_best(mean.loc[context, s], context, s) for s in settings]
        lines += _contrast(mean, context)
    return lines


def _best(mean: pd.Series, context: str, setting: str) -> str:
    macro = mean.xs("macro_f1", level="metric")
    candidates = macro.drop([m for m in _REFERENCE if m in macro.index])
    if not len(candidates):
        return f"{context}, {setting}: only reference methods were run."
    if len(candidates) > 1 and candidates.max() == candidates.min():
        return f"{context}, {setting}: all methods have the same macro F1, {candidates.max():.3f}."
    best = candidates.idxmax()
    text = f"{context}, {setting}: the best macro F1 is {candidates.max():.3f}, by {best}"
    if "all_non_de" in macro.index:
        text += f"; calling nothing differentially expressed scores {macro['all_non_de']:.3f}"
    return text + "."


def _contrast(mean: pd.Series, context: str) -> list[str]:
    """How much of the majority vote's score the curation makes."""
    try:
        curated, full = (
            mean[context, s, "majority_vote", "balanced_accuracy"] for s in ("curated", "full")
        )
    except KeyError:
        return []
    if curated - full < 0.05:
        return []
    return [
        f"{context}: majority vote, which does not look at the perturbation, reaches a balanced "
        f"accuracy of {curated:.3f} on curated pairs and {full:.3f} on all pairs "
        "(chance is 0.333): how pairs are chosen makes the difference."
    ]
