"""Where the panels of a figure stand: by the lengths of their labels, which are measured once.

Matplotlib's constrained layout lays out all text of a figure four times before it draws it, which
takes longer than all else in a small report. Here a text is as wide as the sum of its characters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import cache
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager, get_font
from matplotlib.ft2font import FT2Font
from matplotlib.layout_engine import LayoutEngine
from matplotlib.legend import Legend
from matplotlib.text import Text

from pertscale.report.figures.ticks import moving_ticks

#: Inches between a label and what is beside it, and from the tick labels to the axis.
_GAP, _TICK = 0.05, 0.1
#: Height of a line, and width of a legend's handle with its gaps, in sizes of the font.
_LINE, _HANDLE = 1.25, 4.2
#: Inches that a panel has at least, however long its labels are.
_SMALLEST = 0.3


@dataclass
class Margins:
    """Inches around a panel, or around all of them."""

    left: float = 0.0
    right: float = 0.0
    bottom: float = 0.0
    top: float = 0.0

    def widen(self, other: Margins) -> None:
        """Take the larger of both on every side."""
        self.left, self.right, self.bottom, self.top = map(max, astuple(self), astuple(other))


class FixedLayout(LayoutEngine):
    """Layout engine of a figure with one grid of panels, and labels and a legend around them."""

    _adjust_compatible = False
    _colorbar_gridspec = False

    def __init__(self) -> None:
        super().__init__()
        self.title: Text | None = None
        self.heads: list[Text] = []
        self.below: Text | None = None
        self.left: Text | None = None
        self.beside: Legend | None = None
        self.legend_below: Legend | None = None

    def set(self, **kwargs: Any) -> None:
        """There is nothing to set."""

    def execute(self, fig: Any) -> None:
        """Measure the labels of a figure and place its panels."""
        width, height = fig.get_size_inches()
        shown = [axes for axes in fig.axes if axes.get_visible()]
        if not shown:
            return
        grid = shown[0].get_subplotspec().get_gridspec()
        panels = [_measured(axes, width / grid.ncols) for axes in shown]
        columns = [Margins() for _ in range(grid.ncols)]
        rows = [Margins() for _ in range(grid.nrows)]
        for panel in panels:
            columns[panel.column].widen(panel.margins)
            rows[panel.row].widen(panel.margins)
        outside = self._outside(width, height)
        x, widths = _divided(
            width,
            [(outside.left + _GAP, outside.right + _GAP), *((m.left, m.right) for m in columns)],
            grid.get_width_ratios() or [1] * grid.ncols,
        )
        y, heights = _divided(
            height,
            [(outside.top + _GAP, outside.bottom + _GAP), *((m.top, m.bottom) for m in rows)],
            grid.get_height_ratios() or [1] * grid.nrows,
        )
        for panel in panels:
            i, j = panel.column, panel.row
            lower_left = (x[i] / width, 1 - (y[j] + heights[j]) / height)
            panel.axes.set_position((*lower_left, widths[i] / width, heights[j] / height))
            panel.axes.set_in_layout(True)  # a place that is set takes it out
            panel.place_labels(widths[i], heights[j])
        self._place_labels(
            (x[0] + x[-1] + widths[-1]) / (2 * width),
            1 - (y[0] + y[-1] + heights[-1]) / (2 * height),
        )

    def _outside(self, width: float, height: float) -> Margins:
        """Inches that the labels and the legend of the whole figure take; places the labels."""
        taken = Margins()
        if self.title is not None:
            self.title.set_y(1 - _GAP / height)
            taken.top = text_size(self.title)[1] + _GAP
        taken.top += max((text_size(text)[1] for text in self.heads), default=0.0)
        if self.legend_below is not None:
            taken.bottom = legend_size(self.legend_below)[1]
        if self.below is not None:
            self.below.set_y((taken.bottom + _GAP) / height)
            taken.bottom += text_size(self.below)[1] + _GAP
        if self.left is not None:
            self.left.set_x(_GAP / width)
            taken.left = text_size(self.left)[0] + _GAP
        if self.beside is not None:
            taken.right = legend_size(self.beside)[0]
        return taken

    def _place_labels(self, x: float, y: float) -> None:
        """Move the labels of the whole figure to the middle of the panels."""
        for text in (self.title, self.below):
            if text is not None:
                text.set_x(x)
        if self.left is not None:
            self.left.set_y(y)


def label_all(figure: Figure, *, x: str = "", y: str = "", title: str = "") -> None:
    """Write labels that all panels share, and a title over them."""
    layout: Any = figure.get_layout_engine()
    if x:
        layout.below = figure.supxlabel(x, fontsize=9)
    if y:
        layout.left = figure.supylabel(y, fontsize=9)
    if title:
        layout.title = figure.suptitle(title, fontsize=10)


def head_columns(figure: Figure, axes: Axes, heads: Mapping[float, str]) -> None:
    """Write titles over places of the x axis of the topmost panel."""
    layout: Any = figure.get_layout_engine()
    over = axes.get_xaxis_transform()
    for x, words in heads.items():
        head = axes.text(x, 1.02, words, transform=over, ha="center", va="bottom", fontsize=10)
        layout.heads.append(head)


def legend_beside(figure: Figure, **kwargs: Any) -> None:
    """Draw a legend right of all panels."""
    layout: Any = figure.get_layout_engine()
    layout.beside = figure.legend(loc="upper right", frameon=False, **kwargs)


def legend_below(figure: Figure, *, ncols: int, **kwargs: Any) -> None:
    """Draw a legend of some columns below all panels."""
    layout: Any = figure.get_layout_engine()
    layout.legend_below = figure.legend(loc="lower center", ncols=ncols, frameon=False, **kwargs)


# --- what text takes ------------------------------------------------------------------------------


@cache
def _advance(character: str) -> float:
    """Width of a character, in sizes of the font; one that the font lacks is as wide as high."""
    font = _font()
    index = font.get_char_index(ord(character))
    if not index:
        return 1.0
    font.set_size(100, 72)
    return float(font.load_char(ord(character)).linearHoriAdvance / 65536 / 100)


@cache
def _font() -> FT2Font:
    return get_font(fontManager.findfont("DejaVu Sans"))


def text_size(text: Text) -> tuple[float, float]:
    """Return width and height of a text as it stands, in inches."""
    words, angle = text.get_text(), np.deg2rad(text.get_rotation())
    if not words:
        return 0.0, 0.0
    lines = words.replace(r"\$", "$").split("\n")
    size = float(text.get_fontsize()) / 72
    width = size * max(sum(map(_advance, line)) for line in lines)
    height = size * _LINE * len(lines)
    sin, cos = abs(np.sin(angle)), abs(np.cos(angle))
    return float(width * cos + height * sin), float(width * sin + height * cos)


def legend_size(legend: Legend) -> tuple[float, float]:
    """Return width and height of a legend without a frame, in inches."""
    columns: int = legend._ncols  # type: ignore[attr-defined]  # matplotlib has no other way
    entries = legend.get_texts()
    size = float(entries[0].get_fontsize()) / 72 if entries else 0.0
    widest = max((text_size(text)[0] for text in entries), default=0.0)
    title = text_size(legend.get_title())
    width = max(columns * (widest + _HANDLE * size), title[0] + size)
    height = -(-len(entries) // columns) * 1.5 * size + title[1] + size
    return width + _GAP, height


@dataclass
class _Panel:
    """A panel, and the inches around it; `below` and `beside` are those of its tick labels."""

    axes: Axes
    margins: Margins
    row: int
    column: int
    below: float
    beside: float

    def place_labels(self, width: float, height: float) -> None:
        """Put the names of the axes beside the tick labels, which are not measured once more."""
        self.axes.xaxis.set_label_coords(0.5, -(self.below + _GAP / 2) / height)
        self.axes.yaxis.set_label_coords(-(self.beside + _GAP) / width, 0.5)


def _measured(axes: Axes, width: float) -> _Panel:
    """Measure what stands around a panel of about a width."""
    x_labels, y_labels = list(_labels(axes.xaxis)), list(_labels(axes.yaxis))
    below = max((label.height + _TICK for label in x_labels), default=_GAP)
    beside = max((label.width + _TICK for label in y_labels), default=_GAP)
    title, x_name, y_name = (text_size(t) for t in (axes.title, axes.xaxis.label, axes.yaxis.label))
    margins = Margins(
        left=beside + (y_name[0] + 2 * _GAP if y_name[0] else 0.0),
        right=2 * _GAP,
        bottom=below + (x_name[1] + _GAP if x_name[1] else 0.0),
        top=title[1] + _TICK if title[1] else _GAP,
    )
    for label in x_labels:
        before = label.width * label.share_before
        after = label.width - before
        margins.left = max(margins.left, before - label.at * width + _GAP)
        margins.right = max(margins.right, after - (1 - label.at) * width + 2 * _GAP)
    at: Any = axes.get_subplotspec()
    return _Panel(axes, margins, at.rowspan.start, at.colspan.start, below, beside)


@dataclass(frozen=True)
class _Label:
    """A tick label: its size, where its tick is along the axis, and how much is before that."""

    width: float
    height: float
    at: float
    share_before: float


#: Share of a label that is left of its tick.
_BEFORE = {"left": 0.0, "center": 0.5, "right": 1.0}


def _labels(axis: Axis) -> Iterator[_Label]:
    """Measure the labels of ticks that are drawn."""
    low, high = axis.get_transform().transform(sorted(axis.get_view_interval()))
    for tick in moving_ticks(axis):
        shares = (axis.get_transform().transform(tick.places) - low) / (high - low)
        for text, share in zip(tick.labelled(), shares, strict=True):
            if text.get_visible() and text.get_text():
                before = _BEFORE[text.get_horizontalalignment()]
                yield _Label(*text_size(text), float(share), before)


def _divided(
    total: float, margins: Sequence[tuple[float, float]], ratios: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Return where panels begin and how long they are; the first margins are around all of them."""
    (first, last), *inner = margins
    before, after = (np.array(side) for side in zip(*inner, strict=True))
    left = total - first - last - before.sum() - after.sum()
    left = max(left, _SMALLEST * len(inner))
    lengths = left * np.array(ratios) / np.sum(ratios)
    ends = np.cumsum(before + lengths + after)
    return first + ends - after - lengths, lengths


def log_scale(axes: Axes, which: Literal["x", "y"]) -> None:
    """Make an axis logarithmic, with plain numbers rather than powers of ten."""
    axes.set(**{f"{which}scale": "log"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_formatter(_Plain())
    axis.set_minor_formatter(_Plain())


class _Plain(mpl.ticker.LogFormatter):
    """Labels the same ticks, in plain numbers: mathematics takes long to parse and to draw."""

    def __call__(self, x: float, pos: Any = None) -> str:
        return f"{x:,g}" if super().__call__(x, pos) else ""
