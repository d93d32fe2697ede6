"""The headline tables of a result."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Final, get_args

import numpy as np
import pandas as pd

from pertscale.evaluation.metrics import headline_metrics
from pertscale.evaluation.operating_point import OperatingPoint, at_operating_point
from pertscale.results.averages import TABLE, may_be_best, of_methods, texts
from pertscale.results.comparisons import without_repeats
from pertscale.schema import (
    AS_CALLED,
    AT_TRAINING_RATE,
    SCORE_KINDS,
    TOP_EXPRESSED,
    ScoreKind,
)

#: Metrics of the overview that a result shows of itself.
HEADLINE: Final = headline_metrics("pairs")
EXPRESSION_HEADLINE: Final = headline_metrics("expression")
#: What is printed of classes and of expression: column → operating point, metric.
_PRINTED: Final = {
    "average precision": ("", "auprc_de"),
    "macro F1 as called": (AS_CALLED, "macro_f1"),
    "macro F1 at training rate": (AT_TRAINING_RATE, "macro_f1"),
    "L2": ("", "l2"),
    "Pearson delta": ("", "pearson_delta"),
}


@dataclass(frozen=True)
class ScoreTable:
    """Headline scores of one kind: `keys` say what a table is for.

    `averages` are rows of :func:`pertscale.results.averages.averaged_scores`.
    """

    title: str
    keys: tuple[str, ...]
    metrics: tuple[str, ...]
    averages: pd.DataFrame


@dataclass(frozen=True)
class TableKind:
    """A headline table: `keys` say what a row is for, beside split and method."""

    title: str
    keys: tuple[str, ...]
    metrics: tuple[str, ...]


#: Kinds that are missing here are shown in the report alone.
SCORE_TABLES: Final[dict[ScoreKind, TableKind]] = {
    "classes": TableKind("Classes, as called", ("context", "setting"), HEADLINE),
    "expression": TableKind("Expression", ("context", "task", "setting"), EXPRESSION_HEADLINE),
    "transfer": TableKind(
        "Transfer, classes, as called", ("context", "setting", "train_contexts"), HEADLINE
    ),
}


def headline(scores: pd.DataFrame, metrics: tuple[str, ...], keys: list[str]) -> pd.DataFrame:
    """Return overall scores with a column per metric, of one operating point or without any."""
    overall = scores[(scores["level"] == "overall") & scores["metric"].isin(metrics)]
    wide = overall.pivot_table(
        index=keys, columns="metric", values="value", sort=False, dropna=False, observed=True
    )
    wide = wide.reindex(columns=list(metrics)).dropna(how="all")
    return wide.reset_index().rename_axis(columns=None)


def class_headline(scores: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Return :func:`headline` of classes, a row for each operating point of a method."""
    return _by_point(headline, scores, keys)


def _by_point(
    table_of: Callable[[pd.DataFrame, tuple[str, ...], list[str]], pd.DataFrame],
    scores: pd.DataFrame,
    keys: list[str],
) -> pd.DataFrame:
    """Return a table of classes with a row for each operating point of a method.

    Areas need no point: they stand in the rows of both.
    """
    parts = []
    for point in get_args(OperatingPoint):
        scores = of_methods(scores)
        scored = scores.loc[scores["operating_point"] == point, keys].drop_duplicates()
        table = table_of(at_operating_point(scores, point), HEADLINE, keys)
        parts.append(scored.merge(table, on=keys).assign(operating_point=point))
    both = scores[keys].drop_duplicates().merge(pd.concat(parts), on=keys)
    return both[[*keys, "operating_point", *HEADLINE]]


def summary(averages: pd.DataFrame, metrics: tuple[str, ...], keys: list[str]) -> pd.DataFrame:
    """Return overall scores as text, a column per metric; a star marks who may be the best."""
    averages = of_methods(averages)
    rows = averages[(averages["level"] == "overall") & averages["metric"].isin(metrics)]
    stars = np.where(may_be_best(rows), "*", "")
    rows = rows.assign(
        text=[f"{text}{star}" for text, star in zip(texts(rows), stars, strict=True)]
    )
    wide = rows.pivot_table(
        index=keys, columns="metric", values="text", aggfunc="first", sort=False, observed=True
    )
    wide = wide.reindex(columns=list(metrics)).fillna("")
    return wide.reset_index().rename_axis(columns=None)


def class_summary(averages: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Return :func:`summary` of classes, a row for each operating point of a method."""
    return _by_point(summary, averages, keys)


def score_tables(overall: pd.DataFrame, averages: pd.DataFrame) -> list[ScoreTable]:
    """Return the headline tables that are not empty.

    `overall` are the scores of single splits, and tell which settings are the same.
    """
    tables = []
    kinds = overall["task"].map(SCORE_KINDS)
    for kind, table in SCORE_TABLES.items():
        there = without_repeats(overall[kinds == kind])[TABLE].drop_duplicates()
        rows = at_operating_point(of_methods(averages).merge(there, on=TABLE))
        rows = rows[(rows["level"] == "overall") & rows["metric"].isin(table.metrics)]
        if len(rows):
            tables.append(ScoreTable(table.title, table.keys, table.metrics, rows))
    return tables


def printed_tables(averages: pd.DataFrame) -> Iterator[str]:
    """Yield what is printed of a result: few scores of each method, means over splits.

    Transfer is left to the report, as are classes with their targets, where there are others.
    """
    overall = of_methods(averages[averages["level"] == "overall"])
    kinds = overall["task"].map(SCORE_KINDS)
    shown = (kinds == "expression") & (overall["setting"] == TOP_EXPRESSED)
    within = kinds == "classes"
    without_targets = within & overall["setting"].isin(["full_without_target", "curated"])
    chosen = overall[shown | (without_targets if without_targets.any() else within)]
    for (context, task, setting), rows in chosen.groupby(
        ["context", "task", "setting"], sort=False, observed=True
    ):
        n = int(rows["n_splits"].max())
        rows = rows.assign(text=texts(rows))
        wide = rows.set_index(["operating_point", "metric", "method"])["text"]
        wide = wide.unstack(["operating_point", "metric"])
        wide = wide.reindex(list(dict.fromkeys(rows["method"])))
        there = {title: key for title, key in _PRINTED.items() if key in wide}
        table = wide[list(there.values())].set_axis(list(there), axis="columns")
        most = rows.groupby("method")["n_splits"].max()
        fewer = {m: f"{m}, {k} of {n} splits" for m, k in most.items() if k < n}
        table.index = [fewer.get(m, m) for m in table.index]
        of_classes = SCORE_KINDS[task] == "classes"
        what = f"classes, {setting}" if of_classes else f"held-out {task}s"
        title = f"{context}: {what}" + (f", means of {n} splits" if n > 1 else "")
        yield f"{title}\n{table.to_string(na_rep='–')}"


def by_reason(skipped: pd.DataFrame, splits: Collection[str]) -> pd.DataFrame:
    """Return what was skipped with one row per reason.

    Parameters
    ----------
    skipped : DataFrame
        :data:`pertscale.schema.SKIPPED_COLUMNS`.
    splits : collection of str
        Names of splits, which are left out of what was skipped.
    """
    rows = []
    for reason, mine in skipped.groupby("reason", sort=False):
        what: dict[str, None] = {}
        for name in mine["what"]:
            method = name.partition(" (")[0]
            if not method.startswith("from "):
                method = method.partition(" from ")[0]
            for split in splits:
                method = method.removesuffix(f", {split}")
            what[method] = None
        contexts = [c for c in dict.fromkeys(mine["context"]) if c]
        rows.append((", ".join(what), ", ".join(contexts), len(mine), reason))
    return pd.DataFrame(rows, columns=["what", "context", "n", "reason"])
