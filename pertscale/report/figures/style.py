"""What the figures of the report share: colours, panels, and SVG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from pertscale.report.figures.layout import FixedLayout
from pertscale.report.figures.ticks import use_moving_ticks
from pertscale.schema import AS_CALLED, AT_TRAINING_RATE, CLASS_NAMES

#: Okabe and Ito's colours, which the colour-blind can tell apart.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")
CLASS_TITLES = dict(zip(CLASS_NAMES, ("Down", "Not DE", "Up"), strict=True))
POINT_TITLES = {AS_CALLED: "as called", AT_TRAINING_RATE: "at the training rate"}
#: How all figures look.
STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana"],  # Verdana is as wide
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titley": 1.0,  # else it is looked for, by measuring what is below
    "svg.fonttype": "none",
    "figure.dpi": 150,  # of what is drawn as pixels inside an SVG
}


def to_svg(figure: Figure, *, name: str) -> str:
    """Return a figure as inline SVG, once; the same figure gives the same text."""
    buffer = io.StringIO()
    use_moving_ticks(figure)
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def panels(
    n: int,
    *,
    columns: int = 3,
    size: tuple[float, float] = (3.4, 2.4),
    share: Literal["", "x", "xy"] = "",
) -> tuple[Figure, list[Axes]]:
    """Return a figure of `n` panels of a size in inches, and their axes.

    Of an axis that they share, only the outermost panels have labels.
    """
    columns = min(columns, n)
    rows = -(-n // columns)
    figure = new_figure(size[0] * columns + 0.4, size[1] * rows + 0.2)
    grid = figure.add_gridspec(rows, columns)
    axes: list[Axes] = []
    for i in range(n):
        shared: Any = {f"share{which}": axes[0] for which in share if axes}
        axis = figure.add_subplot(grid[divmod(i, columns)], **shared)
        axes.append(axis)
        if "x" in share and i + columns < n:
            axis.tick_params(labelbottom=False)
        if "y" in share and i % columns:
            axis.tick_params(labelleft=False)
    return figure, axes


def new_figure(width: float, height: float) -> Figure:
    """Return a figure of a size in inches, whose panels are placed by the lengths of labels."""
    return Figure(figsize=(width, height), layout=FixedLayout())


def histogram(axis: Axes, values: ArrayLike, edges: np.ndarray, *, color: str) -> None:
    """Draw a histogram as one outline, where `Axes.hist` draws a rectangle for each bin."""
    counts, edges = np.histogram(values, bins=edges)
    axis.stairs(counts, edges, fill=True, color=color)


def name_ticks(axis: Axes, names: Sequence[str], **kwargs: Any) -> None:
    """Write names below an axis, slanting; they end where their tick is."""
    slanting: Any = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"}
    axis.set_xticks(range(len(names)), names, **slanting, **kwargs)


def short(name: str, longest: int = 36) -> str:
    """Return a text that fits its panel and is shown as it is.

    A dollar sign does not start mathematics, line breaks go, and a leading underscore, which would
    hide an entry of a legend, does not come first.
    """
    shown = "".join(mark if mark.isprintable() else "\ufffd" for mark in name)
    shown = shown if len(shown) <= longest else f"{shown[: longest - 1]}…"
    shown = f" {shown}" if shown.startswith("_") else shown
    return shown.replace("$", r"\$")
