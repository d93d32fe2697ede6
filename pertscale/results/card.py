"""The headline tables of a result, and how it looks in a notebook."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, get_args

import numpy as np
import pandas as pd
from markupsafe import Markup

from pertscale import display
from pertscale.evaluation.metrics import METRICS
from pertscale.evaluation.operating_point import OperatingPoint, at_operating_point
from pertscale.results.comparisons import Comparison, in_fewer_splits, without_repeats
from pertscale.schema import AS_CALLED, AT_TRAINING_RATE, MANIFEST_FILE, TOP_EXPRESSED

if TYPE_CHECKING:
    from pertscale.results.result import BenchmarkResult

#: Metrics of the overview that a result shows of itself.
HEADLINE: Final = ("accuracy", "balanced_accuracy", "macro_f1", "mcc", "auprc_de", "auprc_macro")
EXPRESSION_HEADLINE: Final = ("l2", "pearson_delta", "rank_l1", "spread_ratio")
#: Tables of one kind that are shown, the first of them open.
_MOST_TABLES: Final = 8
_MOST_ROWS: Final = 40
#: What a result says of itself whose folder was removed.
GONE: Final = "the folder is gone, or not finished"
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
    """Headline scores of one kind of task: `keys` say what a row is for, then `metrics`."""

    title: str
    keys: tuple[str, ...]
    metrics: tuple[str, ...]
    frame: pd.DataFrame


def headline(scores: pd.DataFrame, metrics: tuple[str, ...], keys: list[str]) -> pd.DataFrame:
    """Return overall scores with a column per metric, of one operating point or without any."""
    overall = scores[(scores["level"] == "overall") & scores["metric"].isin(metrics)]
    wide = overall.pivot_table(
        index=keys, columns="metric", values="value", sort=False, dropna=False, observed=True
    )
    wide = wide.reindex(columns=list(metrics)).dropna(how="all")
    return wide.reset_index().rename_axis(columns=None)


def class_headline(scores: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Return the headline scores of classes, a row for each operating point of a method.

    Areas need no point: they stand in the rows of both.
    """
    order = scores[keys].drop_duplicates()
    parts = []
    for point in get_args(OperatingPoint):
        scored = scores.loc[scores["operating_point"] == point, keys].drop_duplicates()
        found = headline(at_operating_point(scores, point), HEADLINE, keys)
        parts.append(scored.merge(found, on=keys).assign(operating_point=point))
    both = order.merge(pd.concat(parts), on=keys)
    return both[[*keys, "operating_point", *HEADLINE]]


_KINDS: Final = (
    ("Classes, as called", ("within",), ("context", "setting"), HEADLINE),
    ("Expression", ("single", "double"), ("context", "task", "setting"), EXPRESSION_HEADLINE),
    (
        "Transfer, classes, as called",
        ("transfer",),
        ("context", "setting", "train_contexts"),
        HEADLINE,
    ),
)


def score_tables(overall: pd.DataFrame) -> list[ScoreTable]:
    """Return the headline tables that are not empty."""
    tables = []
    for title, tasks, keys, metrics in _KINDS:
        mine = at_operating_point(without_repeats(overall[overall["task"].isin(tasks)]))
        frame = headline(mine, metrics, [*keys, "split", "method"])
        if len(frame):
            tables.append(ScoreTable(title, keys, metrics, frame))
    return tables


def printed_tables(overall: pd.DataFrame) -> Iterator[str]:
    """Yield what is printed of a result: few scores of each method, means over splits.

    Transfer is left to the report, as are classes with their targets, where there are others.
    """
    shown = overall["task"].isin(["single", "double"]) & (overall["setting"] == TOP_EXPRESSED)
    within = overall["task"] == "within"
    without_targets = within & overall["setting"].isin(["full_without_target", "curated"])
    chosen = overall[shown | (without_targets if without_targets.any() else within)]
    for (context, task, setting), mine in chosen.groupby(
        ["context", "task", "setting"], sort=False, observed=True
    ):
        means = mine.groupby(["operating_point", "metric", "method"], sort=False)["value"].mean()
        wide = means.unstack(["operating_point", "metric"])
        there = {title: key for title, key in _PRINTED.items() if key in wide}
        table = wide[list(there.values())].round(3).set_axis(list(there), axis="columns")
        apart = in_fewer_splits(mine)
        table.index = [f"{m}, {apart[m]}" if m in apart else m for m in table.index]
        n = mine["split"].nunique()
        what = f"classes, {setting}" if task == "within" else f"held-out {task}s"
        title = f"{context}: {what}" + (f", means of {n} splits" if n > 1 else "")
        yield f"{title}\n{table.to_string(na_rep='–')}"


# --- the card -------------------------------------------------------------------------------------


def whole_card(result: BenchmarkResult) -> str:
    """Return the card of a result; it reads its small tables and the overall scores."""
    name = display.shown_path(result.path)
    if not (result.path / MANIFEST_FILE).exists():
        return display.card("BenchmarkResult", name, display.line(GONE))
    parts = [part for table in score_tables(result.overall) for part in _shown(result, table)]
    lead = [display.bullets(result.findings)] if result.findings else []
    return display.card(
        "BenchmarkResult",
        name,
        display.facts(_facts(result)),
        *lead,
        *(parts or [display.line("no method was scored")]),
        _skipped(result),
    )


def _facts(result: BenchmarkResult) -> dict[str, object]:
    options = result.manifest["options"]
    contexts = list(result.manifest["splits"])
    splits = sorted({name for mine in result.manifest["splits"].values() for name in mine})
    return {
        "report": display.link(result.report, result.report.name),
        "screen": options["store"],
        "contexts": display.some(contexts),
        "tasks": ", ".join(options["tasks"]),
        "splits": display.some(splits),
        "embedding": options["embedding"] or "from training profiles",
        "predictions": display.some(list(options["predictions"])),
        "own models": display.some(list(options["models"])),
        "time": _time(result.timings),
    }


def _time(timings: pd.DataFrame) -> str:
    """Return the wall time, and how much was taken from an earlier run.

    Times of models are parts of their unit's.
    """
    stages = timings[timings["stage"] != "model"]
    reused = int(stages["reused"].sum())
    told = f"{stages['seconds'].sum():,.0f} s"
    return f"{told}; {reused:,} of {len(stages):,} steps taken from an earlier run"


def _shown(result: BenchmarkResult, table: ScoreTable) -> Iterator[Markup]:
    """Yield one folded table per key of the rows, scores averaged over splits."""
    groups = list(table.frame.groupby(list(table.keys), sort=False, observed=True))
    for i, (key, rows) in enumerate(groups[:_MOST_TABLES]):
        splits = result.splits.get(str(key[0]), {})
        n = [len(splits[name].held_out) for name in rows["split"].unique() if name in splits]
        averaged = f" (means of {len(n)} splits)" if len(n) > 1 else ""
        title = f"{table.title}: {', '.join(map(str, key))}{averaged}"
        yield display.details(title, _score_rows(rows, table.metrics, n), is_open=i == 0)
    if len(groups) > _MOST_TABLES:
        yield display.line(f"{table.title}: {len(groups) - _MOST_TABLES:,} more tables in .scores")


def _score_rows(rows: pd.DataFrame, metrics: tuple[str, ...], n: Sequence[int]) -> Markup:
    """Return means over splits as html; in bold what stands out, by the rule of the findings.

    `n` are the perturbations that each split holds out.
    """
    best = {metric: _best(rows, metric, n) for metric in metrics}
    means = rows.groupby("method", sort=False, observed=True)[list(metrics)].mean()
    shown = []
    for method, row in zip(means.index, means.to_dict("records"), strict=True):
        cells: list[object] = [method]
        for metric in metrics:
            text = _number(row[metric])
            stands_out = method == best[metric]
            cells.append(Markup("<strong>{}</strong>").format(text) if stands_out else text)
        shown.append(cells)
    table = display.table(["method", *(m.replace("_", " ") for m in metrics)], shown[:_MOST_ROWS])
    hidden = len(shown) - _MOST_ROWS
    return table + (display.line(f"and {hidden:,} more methods") if hidden > 0 else Markup(""))


def _number(value: float) -> str:
    return f"{value:.3f}" if np.isfinite(value) else "–"


def _best(rows: pd.DataFrame, metric: str, n: Sequence[int]) -> str | None:
    """Return the method that stands out; None where none does, or no side is better."""
    better = METRICS[metric].greater_is_better
    if better is None or not n:
        return None
    values = rows.pivot_table(index="split", columns="method", values=metric, sort=False)
    found = Comparison(values, better, np.array(n), np.array(n))
    if found.too_few or len(found.ranked) < 2 or found.rivals():
        return None
    return found.ranked[0]


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


def _skipped(result: BenchmarkResult) -> Markup:
    skipped = result.skipped_by_reason
    if skipped.empty:
        return Markup("")
    columns = ["what", "context", "reason", "n"]
    rows = skipped[columns].head(_MOST_ROWS).to_numpy().tolist()
    table = display.table(["what", "context", "reason", "steps"], rows, text=3)
    return display.details(f"{skipped['n'].sum():,} steps skipped, and why", table)
