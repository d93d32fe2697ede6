"""What the page says of controls that are tested against the other controls (method P1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from markupsafe import Markup

from pertscale.report.figures.null_tests import null_p_values
from pertscale.report.figures.style import to_svg
from pertscale.report.sections import Picture
from pertscale.report.tables import Table, number
from pertscale.schema import NULL_CELLS, NULL_GUIDE

if TYPE_CHECKING:
    from pertscale.results.result import BenchmarkResult

_KINDS = {NULL_CELLS: "random cells", NULL_GUIDE: "guides"}
_COLUMNS = (
    "context",
    "controls",
    "tested are",
    "cells",
    "tests",
    "p < 0.05",
    "p < 0.01",
    "p < 0.0001",
    "called",
    "λ",
    "note",
)
_SHARES = ("share_p_0_05", "share_p_0_01", "share_p_1e_4", "share_called")
_WHAT_LAMBDA_IS = (
    "λ is the median of z² divided by what it is by chance: 1 where p-values are right, above 1 "
    "where they are too small in the middle of their distribution, unless few cells express the "
    "genes: then z takes few values, and only the shares tell."
)
_CAPTION = (
    "P-values of controls against controls, observed against expected: on the dashed line p-values "
    "are right, above it they are too small. A line per number of random cells, and one for the "
    "guides."
)


@dataclass(frozen=True)
class NullSection:
    """Sentences, a row per context and group, and the figure where there is something to draw."""

    words: str
    table: Table
    picture: Picture | None


def null_section(result: BenchmarkResult) -> NullSection | None:
    """Return the section, if controls were to be tested against controls."""
    rows = result.null_calibration
    if not len(rows):
        return None
    picture = None
    if rows["n_pairs"].any():
        svg = Markup(to_svg(null_p_values(result), name="nulls"))  # matplotlib escapes the text
        picture = Picture(svg, _CAPTION)
    return NullSection(f"{_what_it_says(rows)} {_WHAT_LAMBDA_IS}", _table(rows), picture)


def _what_it_says(rows: pd.DataFrame) -> str:
    known = rows[rows["n_pairs"] > 0]
    if not len(known):
        return "There are too few controls to test some of them against the others."
    told = [
        f"{_range(mine['share_p_0_05'])} and {_range(mine['share_called'])} for {of}"
        for of, kind in (("random cells", NULL_CELLS), ("the cells of a guide", NULL_GUIDE))
        if len(mine := known[known["kind"] == kind])
    ]
    return (
        "Groups of controls were tested against the other controls of their context, as if they "
        "were perturbations. By chance 5 % of the genes have p < 0.05 and none is called "
        f"differentially expressed; here it is {', '.join(told)}."
    )


def _range(shares: pd.Series) -> str:
    low, high = (_percent(float(value)) for value in (shares.min(), shares.max()))
    return low if low == high else f"{low.removesuffix(' %')} to {high}"


def _percent(share: float) -> str:
    """Return a share in percent; a small one with more digits."""
    if not np.isfinite(share):
        return number(share)
    digits = 1 if share >= 0.01 else 2 if share >= 0.001 else 3
    return f"{100 * share:.{digits}f} %" if share else "0 %"


def _table(rows: pd.DataFrame) -> Table:
    cells = tuple(
        (
            str(row.context),
            f"{row.n_control:,}",
            _KINDS[str(row.kind)],
            number(float(row.n_cells), 0),
            f"{row.n_tests:,}",
            *(_percent(float(getattr(row, name))) for name in _SHARES),
            number(float(row.inflation), 2),
            str(row.reason),
        )
        for row in rows.itertuples()
    )
    n = len(_COLUMNS) if rows["reason"].any() else len(_COLUMNS) - 1  # without notes
    numeric = tuple(name not in ("context", "tested are", "note") for name in _COLUMNS[:n])
    cells = tuple(row[:n] for row in cells)
    return Table("Controls that are tested against the others", _COLUMNS[:n], cells, numeric)
