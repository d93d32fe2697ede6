"""The two figures of the page, as SVG that does not change when nothing has changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from summary import Row

OURS, THEIRS, MEMORY = "#0b6e8f", "#9aa5ad", "#b5562c"
_STYLE = {
    "svg.hashsalt": "pertscale",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def draw_peers(sizes: Mapping[str, Sequence[Row]], path: Path) -> None:
    """Horizontal bars of wall time on a log axis, a panel for each screen."""
    with mpl.rc_context(_STYLE):
        heights = [len(rows) + 1.2 for rows in sizes.values()]
        figure = Figure(figsize=(7, 0.3 * sum(heights) + 0.6), layout="constrained")
        panels = figure.subplots(
            len(sizes), 1, squeeze=False, gridspec_kw={"height_ratios": heights}
        )
        for axis, (name, rows) in zip(panels[:, 0], sizes.items(), strict=True):
            _bars(axis, name, rows)
        panels[-1, 0].set_xlabel("wall time of the whole process, s (log); hatched: extrapolated")
        _save(figure, path)


def _bars(axis: Any, name: str, rows: Sequence[Row]) -> None:
    for at, row in enumerate(rows):
        axis.barh(
            at,
            row.wall.middle,
            color=OURS if row.tool.startswith("pertscale") else THEIRS,
            hatch="///" if row.extrapolated else None,
            edgecolor="white",
        )
        text = f" {'~' if row.extrapolated else ''}{row.wall.middle:,.3g} s"
        axis.text(row.wall.middle, at, text, va="center")
    axis.set_yticks(range(len(rows)), [row.tool for row in rows])
    axis.set_xscale("log")
    axis.set_xlim(left=1, right=4 * max(row.wall.high for row in rows))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.invert_yaxis()
    axis.set_title(name, loc="left", fontsize=9, fontweight="bold")


def draw_scaling(points: Mapping[str, Sequence[dict[str, Any]]], path: Path) -> None:
    """Time and peak memory over the number of cells, for ingest and labels."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7, 2.9), layout="constrained")
        time, memory = figure.subplots(1, 2)
        for (what, some), marker in zip(points.items(), "os", strict=False):
            cells = [point["value"] for point in some]
            wall = [point["wall"].middle for point in some]
            peak = [point["peak_gb"].middle for point in some]
            time.plot(cells, wall, marker=marker, color=OURS, label=what)
            memory.plot(cells, peak, marker=marker, color=MEMORY, label=what)
        time.set(xscale="log", yscale="log", xlabel="cells", ylabel="wall time, s")
        memory.set(xscale="log", xlabel="cells", ylabel="peak memory, GB")
        memory.set_ylim(bottom=0)
        for axis in (time, memory):
            axis.legend(frameon=False)
        _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None, "Creator": None})
