"""How a result looks in a notebook."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Protocol

import pandas as pd
from markupsafe import Markup

from pertscale import display
from pertscale.results.averages import may_be_best, texts
from pertscale.results.summaries import ScoreTable, score_tables
from pertscale.schema import MANIFEST_FILE
from pertscale.splits import Split
from pertscale.storage.locations import Location

#: Tables of one kind that are shown, the first of them open.
_MOST_TABLES: Final = 8
_MOST_ROWS: Final = 40
#: What the card of a result says whose folder was removed.
GONE: Final = "the folder is gone, or not finished"


class ShownResult(Protocol):
    """What the card shows of a benchmark's result."""

    @property
    def path(self) -> Location:
        """Its folder."""

    @property
    def report(self) -> Location:
        """The page."""

    @property
    def manifest(self) -> dict[str, Any]:
        """Options of the run, among others."""

    @property
    def overall(self) -> pd.DataFrame:
        """Scores at level 'overall'."""

    @property
    def averages(self) -> pd.DataFrame:
        """Scores averaged over splits, with what is known of each."""

    @property
    def findings(self) -> list[str]:
        """What they say, in sentences."""

    @property
    def splits(self) -> Mapping[str, Mapping[str, Split]]:
        """Splits by context and name."""

    @property
    def timings(self) -> pd.DataFrame:
        """Seconds of each stage."""

    @property
    def skipped_by_reason(self) -> pd.DataFrame:
        """What did not run, one row per reason."""


def whole_card(result: ShownResult) -> str:
    """Return the card of a result; it reads its small tables and the overall scores."""
    name = display.shown_path(result.path)
    if not (result.path / MANIFEST_FILE).exists():
        return display.card("BenchmarkResult", name, display.line(GONE))
    tables = score_tables(result.overall, result.averages)
    parts = [part for table in tables for part in _shown(result, table)]
    lead = [display.bullets(result.findings)] if result.findings else []
    return display.card(
        "BenchmarkResult",
        name,
        display.facts(_facts(result)),
        *lead,
        *(parts or [display.line("no method was scored")]),
        _skipped(result),
    )


def _facts(result: ShownResult) -> dict[str, object]:
    options = result.manifest["options"]
    contexts = list(result.manifest["splits"])
    splits = sorted({name for by_name in result.manifest["splits"].values() for name in by_name})
    return {
        "report": display.link(result.report, result.report.name),
        "screen": options["store"],
        "contexts": display.first_few(contexts),
        "tasks": ", ".join(options["tasks"]),
        "splits": display.first_few(splits),
        "embedding": options["embedding"] or "from training profiles",
        "predictions": display.first_few(list(options["predictions"])),
        "own models": display.first_few(list(options["models"])),
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


def _shown(result: ShownResult, table: ScoreTable) -> Iterator[Markup]:
    """Yield one folded table per key of the rows, scores averaged over splits."""
    groups = list(table.averages.groupby(list(table.keys), sort=False, observed=True))
    for i, (key, rows) in enumerate(groups[:_MOST_TABLES]):
        n = int(rows["n_splits"].max())
        averaged = f" (means of {n} splits)" if n > 1 else ""
        title = f"{table.title}: {', '.join(map(str, key))}{averaged}"
        yield display.details(title, _score_rows(rows, table.metrics), is_open=i == 0)
    if len(groups) > _MOST_TABLES:
        yield display.line(f"{table.title}: {len(groups) - _MOST_TABLES:,} more tables in .scores")


def _score_rows(averages: pd.DataFrame, metrics: tuple[str, ...]) -> Markup:
    """Return means over splits as html; in bold what is not worse than the best, if others are."""
    bold = may_be_best(averages)
    cells = {
        (method, metric): Markup("<strong>{}</strong>").format(text) if is_bold else text
        for method, metric, text, is_bold in zip(
            averages["method"], averages["metric"], texts(averages), bold, strict=True
        )
    }
    rows = [
        [method, *(cells.get((method, metric), "–") for metric in metrics)]
        for method in dict.fromkeys(averages["method"])
    ]
    table = display.table(["method", *(m.replace("_", " ") for m in metrics)], rows[:_MOST_ROWS])
    hidden = len(rows) - _MOST_ROWS
    return table + (display.line(f"and {hidden:,} more methods") if hidden > 0 else Markup(""))


def _skipped(result: ShownResult) -> Markup:
    skipped = result.skipped_by_reason
    if skipped.empty:
        return Markup("")
    columns = ["what", "context", "reason", "n"]
    rows = skipped[columns].head(_MOST_ROWS).to_numpy().tolist()
    table = display.table(["what", "context", "reason", "steps"], rows, text=3)
    return display.details(f"{skipped['n'].sum():,} steps skipped, and why", table)
