"""The headline tables of a result, and how it looks in a notebook."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, get_args

import numpy as np
import pandas as pd
from markupsafe import Markup

from pertscale import cards
from pertscale.baselines import METHODS
from pertscale.evaluation.metrics import METRICS
from pertscale.evaluation.operating_point import OperatingPoint, at_operating_point
from pertscale.schema import MANIFEST_FILE

if TYPE_CHECKING:
    from pertscale.benchmark.result import BenchmarkResult

#: Metrics of the overview that a result shows of itself.
HEADLINE: Final = ("accuracy", "balanced_accuracy", "macro_f1", "mcc", "auprc_de", "auprc_macro")
EXPRESSION_HEADLINE: Final = ("l2", "pearson_delta", "rank_l1", "spread_ratio")
#: Tables of one kind that are shown, the first of them open.
_MOST_TABLES: Final = 8
_MOST_ROWS: Final = 40
#: What a result says of itself whose folder was removed.
GONE: Final = "the folder is gone, or not finished"
#: Methods that are told the truth: no one's best.
_TOLD: Final = frozenset(name for name, method in METHODS.items() if method.needs_truth)


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
        mine = at_operating_point(overall[overall["task"].isin(tasks)])
        frame = headline(mine, metrics, [*keys, "split", "method"])
        if len(frame):
            tables.append(ScoreTable(title, keys, metrics, frame))
    return tables


# --- the card -------------------------------------------------------------------------------------


def whole_card(result: BenchmarkResult) -> str:
    """Return the card of a result; it reads its small tables and the overall scores."""
    name = cards.shown_path(result.path)
    if not (result.path / MANIFEST_FILE).exists():
        return cards.card("BenchmarkResult", name, cards.line(GONE))
    parts = [part for table in score_tables(result.overall) for part in _shown(table)]
    return cards.card(
        "BenchmarkResult",
        name,
        cards.facts(_facts(result)),
        *(parts or [cards.line("no method was scored")]),
        _skipped(result.skipped),
    )


def _facts(result: BenchmarkResult) -> dict[str, object]:
    options = result.manifest["options"]
    contexts = list(result.manifest["splits"])
    splits = sorted({name for mine in result.manifest["splits"].values() for name in mine})
    return {
        "report": cards.link(result.report, result.report.name),
        "screen": options["store"],
        "contexts": cards.some(contexts),
        "tasks": ", ".join(options["tasks"]),
        "splits": cards.some(splits),
        "embedding": options["embedding"] or "from training profiles",
        "predictions": cards.some(list(options["predictions"])),
        "own models": cards.some(list(options["models"])),
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


def _shown(table: ScoreTable) -> Iterator[Markup]:
    """Yield one folded table per key of the rows, scores averaged over splits."""
    frame = table.frame
    means = frame.groupby([*table.keys, "method"], sort=False, observed=True)
    scores = means[list(table.metrics)].mean().reset_index()
    groups = list(scores.groupby(list(table.keys), sort=False, observed=True))
    for i, (key, rows) in enumerate(groups[:_MOST_TABLES]):
        at = (frame[list(table.keys)] == list(key)).all(axis=1)
        n_splits = frame.loc[at, "split"].nunique()
        averaged = f" (means of {n_splits} splits)" if n_splits > 1 else ""
        title = f"{table.title}: {', '.join(map(str, key))}{averaged}"
        yield cards.details(title, _score_rows(rows, table.metrics), is_open=i == 0)
    if len(groups) > _MOST_TABLES:
        yield cards.line(f"{table.title}: {len(groups) - _MOST_TABLES:,} more tables in .scores")


def _score_rows(rows: pd.DataFrame, metrics: tuple[str, ...]) -> Markup:
    """Return scores as html, the best of each column in bold; the oracle is out of competition."""
    competing = ~rows["method"].isin(_TOLD)
    best = {metric: _best(rows.loc[competing, metric], metric) for metric in metrics}
    shown = []
    for row, competes in zip(rows.to_dict("records"), competing, strict=True):
        cells: list[object] = [row["method"]]
        for metric in metrics:
            text = _number(row[metric])
            is_best = competes and text == best[metric]
            cells.append(Markup("<strong>{}</strong>").format(text) if is_best else text)
        shown.append(cells)
    table = cards.table(["method", *(m.replace("_", " ") for m in metrics)], shown[:_MOST_ROWS])
    hidden = len(shown) - _MOST_ROWS
    return table + (cards.line(f"and {hidden:,} more methods") if hidden > 0 else Markup(""))


def _number(value: float) -> str:
    return f"{value:.3f}" if np.isfinite(value) else "–"


def _best(values: pd.Series, metric: str) -> str | None:
    """Return the best value as it is shown; None where all are as good, or no side is better."""
    better = METRICS[metric].greater_is_better
    known = values[np.isfinite(values)]
    if better is None or known.map(_number).nunique() < 2:
        return None
    return _number(known.max() if better else known.min())


def _skipped(skipped: pd.DataFrame) -> Markup:
    if skipped.empty:
        return Markup("")
    rows = skipped[["what", "context", "reason"]].head(_MOST_ROWS).to_numpy().tolist()
    table = cards.table(["what", "context", "reason"], rows, text=3)
    return cards.details(f"{len(skipped):,} steps skipped, and why", table)
