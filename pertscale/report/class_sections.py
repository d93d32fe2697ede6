"""The part of the page on classes within contexts: scores at two operating points, and bars."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
from markupsafe import Markup

from pertscale.baselines.registry import TOLD_THE_TRUTH
from pertscale.report.calibration import calibration_table
from pertscale.report.figures import classes as figures
from pertscale.report.figures.style import to_svg
from pertscale.report.findings import counted
from pertscale.report.sections import Picture, Section
from pertscale.report.tables import Heading, class_tables, overview, ranked, standing_apart
from pertscale.report.trust import strata_tables
from pertscale.results.comparisons import no_target_read_out, told
from pertscale.schema import SETTING_DOCS, WITHIN, WITHOUT_TARGET

if TYPE_CHECKING:
    from pertscale.results.result import BenchmarkResult

_BARS = (
    "Recall, precision and F1 of each class, with 95 % intervals over perturbations. What the "
    "first paper calls per-class accuracy is recall."
)


def class_sections(result: BenchmarkResult) -> list[Section]:
    """Return a section for each context with scores, and one for each that was left out."""
    scores = result.means
    within = scores[scores["task"] == WITHIN]
    averages = result.averages[result.averages["task"] == WITHIN]
    held_out = {
        (context, name): len(split.held_out)
        for context, splits in result.splits.items()
        for name, split in splits.items()
    }
    return [
        *(
            _section(within, averages, context, held_out, result.calibration, result.strata)
            for context in dict.fromkeys(within["context"])
        ),
        *(
            Section(context, text=f"{context}: {why}.")
            for context, why in result.manifest["without_changes"].items()
        ),
    ]


def _section(
    scores: pd.DataFrame,
    averages: pd.DataFrame,
    context: str,
    held_out: dict[tuple[str, str], int],
    calibration: pd.DataFrame,
    strata: pd.DataFrame,
) -> Section:
    """Scores of one context: overview, bars, tables per class."""
    rows = scores[scores["context"] == context]
    headings = _headings(rows, context, held_out)
    shown = WITHOUT_TARGET if WITHOUT_TARGET in headings else next(iter(headings))
    return Section(
        context,
        side=tuple(overview(rows, averages, context=context, heading=h) for h in headings.values()),
        tables=tuple(
            table
            for setting in [s for s in headings if s != "full"] or headings
            for table in calibration_table(
                calibration, task=WITHIN, context=context, setting=setting
            )
        )
        + strata_tables(strata, task=WITHIN, context=context, setting=shown),
        pictures=(_bars(rows, averages, context, headings),),
        folded=tuple(
            table
            for heading in headings.values()
            for table in class_tables(rows, averages, context=context, heading=heading)
        ),
        folded_title="Scores of each class",
    )


def _headings(
    rows: pd.DataFrame, context: str, held_out: dict[tuple[str, str], int]
) -> dict[str, Heading]:
    """Return the heading of each setting's tables; ``full`` only where it differs."""
    settings: list[str] = [s for s in SETTING_DOCS if s in set(rows["setting"])]
    same = no_target_read_out(rows)
    if same:
        settings.remove("full")
    headings = {}
    for setting in settings:
        numbers = told(*counted(rows[rows["setting"] == setting], context, held_out))
        also = (
            "; full is the same, no target is read out"
            if same and setting == WITHOUT_TARGET
            else ""
        )
        headings[setting] = Heading(setting, numbers + also)
    return headings


def _bars(
    rows: pd.DataFrame, averages: pd.DataFrame, context: str, headings: dict[str, Heading]
) -> Picture:
    """Draw the scores of each class without the targets, for the methods that can be compared."""
    settings = [s for s in ("curated", WITHOUT_TARGET) if s in headings] or list(headings)[:1]
    apart = standing_apart(rows[rows["setting"].isin(settings)])
    methods = [
        method
        for method in ranked(rows, "auprc_de")
        if method not in TOLD_THE_TRUTH and method not in apart
    ]
    titles = {s: f"{s}, {headings[s].told.partition(';')[0]}" for s in settings}
    classes = averages[(averages["level"] == "class") & (averages["context"] == context)]
    figure = figures.class_bars(classes, methods=methods, settings=titles)
    svg = Markup(to_svg(figure, name=f"bars-{context}"))  # matplotlib escapes the text
    return Picture(svg, _BARS)
