"""What the figures of the report share: colours, panels, and SVG."""

from __future__ import annotations

import io
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from pertscale.schema import AS_CALLED, AT_TRAINING_RATE, CLASS_NAMES

#: Okabe and Ito's colours, which the colour-blind can tell apart.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")
CLASS_TITLES = dict(zip(CLASS_NAMES, ("Down", "Not DE", "Up"), strict=True))
POINT_TITLES = {AS_CALLED: "as called", AT_TRAINING_RATE: "at the training rate"}
#: How all figures look.
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "svg.fonttype": "path",
    "figure.dpi": 150,  # of what is drawn as pixels inside an SVG
}


def to_svg(figure: Figure, *, name: str) -> str:
    """Return a figure as inline SVG; the same figure gives the same text."""
    buffer = io.StringIO()
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def panels(
    n: int, *, columns: int = 3, size: tuple[float, float] = (3.4, 2.4)
) -> tuple[Figure, np.ndarray]:
    """Return a figure of `n` panels of a size in inches, and their axes."""
    columns = min(columns, n)
    rows = -(-n // columns)
    figure = Figure(figsize=(size[0] * columns + 0.4, size[1] * rows + 0.2), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes[n:]:
        axis.set_visible(False)
    return figure, axes[:n]


def short(name: str, longest: int = 36) -> str:
    """Return a text that fits its panel and is shown as it is.

    A dollar sign does not start mathematics, line breaks go, and a leading underscore, which would
    hide an entry of a legend, does not come first.
    """
    shown = "".join(mark if mark.isprintable() else "\ufffd" for mark in name)
    shown = shown if len(shown) <= longest else f"{shown[: longest - 1]}…"
    shown = f" {shown}" if shown.startswith("_") else shown
    return shown.replace("$", r"\$")
