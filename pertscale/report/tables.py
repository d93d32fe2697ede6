"""Tables of the report: what stands in them, as text, from the tables of a result."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from pertscale.evaluation.operating_point import at_operating_point
from pertscale.report.figures import CLASS_TITLES
from pertscale.schema import CLASS_NAMES

HEADLINE = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro F1",
    "mcc": "MCC",
}
PER_CLASS = {
    "precision": "Prec.",
    "recall": "Recall",
    "f1": "F1",
    "auroc": "AUROC",
    "auprc": "AUPRC",
}
MISSING = "–"


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


def overview(scores: pd.DataFrame, *, context: str, setting: str) -> Table:
    """Headline scores of every method in one setting."""
    scores = at_operating_point(scores)
    mine = scores[(scores["level"] == "overall") & (scores["context"] == context)]
    rows = [
        (method, *(_mean_and_range(mine, method, setting, metric) for metric in HEADLINE))
        for method in _ordered(mine["method"])
    ]
    n = mine.loc[mine["setting"] == setting, "n"]
    caption = f"{setting}: {int(n.iloc[0]):,} test pairs" if len(n) else setting
    return Table(
        caption, ("Method", *HEADLINE.values()), tuple(rows), (False, True, True, True, True)
    )


def class_table(scores: pd.DataFrame, *, context: str, setting: str) -> Table:
    """Precision, recall, F1 and AUROC of each class (the first paper's Table 2)."""
    scores = at_operating_point(scores)
    mine = scores[
        (scores["level"] == "class")
        & (scores["context"] == context)
        & (scores["setting"] == setting)
    ]
    rows = []
    for method in _ordered(mine["method"]):
        cells = [method]
        for name in CLASS_NAMES:
            chosen = mine[mine["group"] == name]
            cells += [_mean_and_range(chosen, method, setting, m) for m in PER_CLASS]
        rows.append(tuple(cells))
    columns = ("Method", *(title for _ in CLASS_NAMES for title in PER_CLASS.values()))
    groups = (("", 1), *((CLASS_TITLES[c], len(PER_CLASS)) for c in CLASS_NAMES))
    numeric = (False, *([True] * (len(columns) - 1)))
    caption = f"{setting}: scores per class (Table 2)"
    return Table(caption, columns, tuple(rows), numeric, groups)


def _ordered(names: pd.Series) -> list[str]:
    return list(dict.fromkeys(names))


def _mean_and_range(scores: pd.DataFrame, method: str, setting: str, metric: str) -> str:
    """Mean over splits; where there are several, the smallest and largest behind it."""
    chosen = scores[
        (scores["method"] == method) & (scores["setting"] == setting) & (scores["metric"] == metric)
    ]
    values = chosen["value"].to_numpy(float)
    if not len(values):
        return MISSING
    text = number(float(values.mean()))
    if len(values) > 1 and np.isfinite(values).all():
        text += f" ({values.min():.3f} to {values.max():.3f})"
    return text
