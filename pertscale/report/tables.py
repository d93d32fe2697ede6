"""Tables of the report: their cells as text, from the tables of a result."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from markupsafe import Markup

from pertscale.baselines.registry import FLOORS_ON_HALVES, REFERENCES
from pertscale.evaluation.metrics import headings
from pertscale.evaluation.operating_point import OperatingPoint, at_operating_point
from pertscale.report.figures.style import CLASS_TITLES
from pertscale.report.findings import predicting_fewer
from pertscale.results.averages import may_be_best, texts
from pertscale.results.comparisons import in_fewer_splits
from pertscale.schema import AS_CALLED, AT_TRAINING_RATE, CLASS_NAMES

#: Metrics of the overview: those that need no calls, and those at each operating point.
AREAS = headings("pairs", needs_calls=False)
HEADLINE = headings("pairs", needs_calls=True)
POINTS: dict[OperatingPoint, str] = {
    AS_CALLED: "As called",
    AT_TRAINING_RATE: "At the training rate",
}
#: Metrics of a class: those of calls, and all.
CALLS = headings("class", needs_calls=True)
PER_CLASS = headings("class")
MISSING = "–"
#: Ends the caption of a table with marked columns.
NOT_TOLD = "; † can't tell: a replicate is not better than a method that knows nothing"


@dataclass(frozen=True)
class Table:
    """A table of the page; cells are text, `numeric` columns are right-aligned.

    `groups` are titles over several columns: (title, columns below it).
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[bool, ...]
    groups: tuple[tuple[str, int], ...] = ()


def number(value: float, digits: int = 3) -> str:
    """Return a number as text; a dash where it is not defined."""
    return MISSING if not np.isfinite(value) else f"{value:.{digits}f}"


def plain_table(frame: pd.DataFrame, *, caption: str, digits: int = 2) -> Table:
    """Return a frame as a table: counts with thousands, other numbers with `digits`."""
    rows = []
    for record in frame.itertuples(index=False):
        cells = []
        for value in record:
            if isinstance(value, bool | np.bool_):
                cells.append("yes" if value else "no")
            elif isinstance(value, int | np.integer):
                cells.append(f"{value:,}")
            elif isinstance(value, float | np.floating):
                cells.append(number(float(value), digits))
            else:
                cells.append(str(value))
        rows.append(tuple(cells))
    numeric = tuple(
        pd.api.types.is_numeric_dtype(d) and not pd.api.types.is_bool_dtype(d) for d in frame.dtypes
    )
    titles = tuple(str(c).replace("_percent", " %").replace("_", " ") for c in frame.columns)
    return Table(caption, titles, tuple(rows), numeric)


@dataclass(frozen=True)
class Heading:
    """Heading of the tables of a setting: its name, and the perturbations that it covers."""

    setting: str
    told: str


def overview(
    scores: pd.DataFrame, averages: pd.DataFrame, *, context: str, heading: Heading
) -> Table:
    """Headline scores of every method in one setting, the best average precision first.

    `scores` are of each split, `averages` of all.
    """
    mine, means = (
        table[
            (table["level"] == "overall")
            & (table["context"] == context)
            & (table["setting"] == heading.setting)
        ]
        for table in (scores, averages)
    )
    areas = cells_of(means[means["operating_point"] == ""])
    called = {point: cells_of(means[means["operating_point"] == point]) for point in POINTS}
    fewer, apart = predicting_fewer(mine), standing_apart(mine)
    rows = [
        (
            apart.get(method, method),
            *(areas[method, metric] for metric in AREAS),
            *(called[point][method, metric] for point in POINTS for metric in HEADLINE),
        )
        for method in sorted(ranked(mine, "auprc_de"), key=lambda name: name in apart)
    ]
    n = mine.loc[mine["metric"] == "macro_f1"].groupby("split")["n"].first().sum()
    caption = f"{heading.setting} ({heading.told}), {int(n):,} pairs"
    if fewer:
        listed = ", ".join(f"{method} {n}" for method, n in fewer.items())
        caption += f"; * no change for perturbations that the method can't predict: {listed}"
    silent = {p: cannot_tell(means[means["operating_point"] == p]) for p in ("", *POINTS)}
    caption += NOT_TOLD if any(silent.values()) else ""
    columns = (
        "Method",
        *marked(AREAS, silent[""]),
        *(title for point in POINTS for title in marked(HEADLINE, silent[point])),
    )
    groups = (
        ("", 1),
        ("Average precision", len(AREAS)),
        *((t, len(HEADLINE)) for t in POINTS.values()),
    )
    numeric = (False, *([True] * (len(columns) - 1)))
    return Table(caption, columns, tuple(rows), numeric, groups)


def cannot_tell(averages: pd.DataFrame) -> set[str]:
    """Return the metrics by which a replicate is not better than a method that knows nothing."""
    return set(averages.loc[averages["can_tell"].eq(other=False), "metric"])


def marked(titles: Mapping[str, str], silent: Collection[str]) -> list[str]:
    """Return the titles of metrics, with a mark at those that can't tell."""
    return [f"{title} †" if metric in silent else title for metric, title in titles.items()]


def class_tables(
    scores: pd.DataFrame, averages: pd.DataFrame, *, context: str, heading: Heading
) -> list[Table]:
    """Scores of each class (the first paper's Table 2), a table for each operating point.

    The areas, which need no calls, stand in the first.
    """
    mine = scores[(scores["context"] == context) & (scores["setting"] == heading.setting)]
    methods, apart = ranked(mine[mine["level"] == "overall"], "auprc_de"), standing_apart(mine)
    means = averages[
        (averages["level"] == "class")
        & (averages["context"] == context)
        & (averages["setting"] == heading.setting)
    ]
    tables = []
    for point, title in POINTS.items():
        shown = PER_CLASS if point == AS_CALLED else CALLS
        there = means[means["operating_point"] == point]
        if not len(there):
            continue
        chosen = at_operating_point(means, point)
        cells = {c: cells_of(chosen[chosen["group"] == c]) for c in CLASS_NAMES}
        scored = set(there["method"])
        rows = tuple(
            (
                apart.get(method, method),
                *(cells[c][method, metric] for c in CLASS_NAMES for metric in shown),
            )
            for method in sorted(methods, key=lambda name: name in apart)
            if method in scored
        )
        columns = ("Method", *(label for _ in CLASS_NAMES for label in shown.values()))
        caption = f"{heading.setting}, {title.lower()} ({heading.told}): scores per class (Table 2)"
        numeric = (False, *([True] * (len(columns) - 1)))
        spans = (("", 1), *((CLASS_TITLES[c], len(shown)) for c in CLASS_NAMES))
        tables.append(Table(caption, columns, rows, numeric, spans))
    return tables


def standing_apart(rows: pd.DataFrame) -> dict[str, str]:
    """Return the methods that predict other perturbations than most, as they are shown.

    They predict fewer, or not in every split.
    """
    shown = {method: f"{method} *" for method in predicting_fewer(rows)}
    for method, of in in_fewer_splits(rows).items():
        shown[method] = f"{shown.get(method, method)}, {of}"
    return shown


def ranked(overall: pd.DataFrame, metric: str, *, ascending: bool = False) -> list[str]:
    """Return the methods, the best mean first; those for comparison only come last.

    Floors on halves are left out: the table of what metrics can tell has them.
    """
    names = [name for name in dict.fromkeys(overall["method"]) if name not in FLOORS_ON_HALVES]
    means = overall[overall["metric"] == metric].groupby("method")["value"].mean().reindex(names)
    means = means.sort_values(ascending=ascending, kind="stable", na_position="last")
    return sorted(map(str, means.index), key=lambda name: name in REFERENCES)


def cells_of(averages: pd.DataFrame) -> defaultdict[tuple[str, str], str]:
    """Cells by method and metric, of one group of one table; bold is who may be the best."""
    cells: defaultdict[tuple[str, str], str] = defaultdict(lambda: MISSING)
    columns = (averages["method"], averages["metric"], texts(averages), may_be_best(averages))
    for method, metric, text, is_bold in zip(*columns, strict=True):
        value, space, bounds = text.partition(" ")
        bold = Markup("<b>{}</b>{}{}").format(value, space, bounds)
        cells[method, metric] = bold if is_bold else text
    return cells
