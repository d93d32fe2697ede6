"""Ticks of a figure that is drawn once: each axis has a single one, moved from place to place.

Matplotlib makes a tick of five artists for every place, and measures its labels, which takes longer
than all else in a small figure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import compress
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axis import Axis, Tick, XAxis
from matplotlib.figure import Figure
from matplotlib.text import Text


def use_moving_ticks(figure: Figure) -> None:
    """Draw the ticks of all panels with one tick for each axis; the figure is drawn once then."""
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            if axis.get_visible():
                axis.set_visible(False)
                axes.add_artist(_MovingTicks(axis))


@dataclass(frozen=True)
class MovingTick:
    """The tick of an axis, and the places in view where it stands."""

    tick: Tick
    places: np.ndarray
    labels: list[str]

    def labelled(self) -> Iterator[Text]:
        """Yield the label at each place; it is the same object each time."""
        for place, words in zip(self.places, self.labels, strict=True):
            self.tick.update_position(place)
            self.tick.label1.set_text(words)
            yield self.tick.label1

    def draw(self, renderer: Any, *, along_x: bool) -> None:
        """Draw the tick at each place: all marks at once, where nothing else is between them."""
        tick = self.tick
        if any(artist.get_visible() for artist in (tick.gridline, tick.tick2line, tick.label2)):
            for _ in self.labelled():
                tick.draw(renderer)
            return
        for label in self.labelled():
            label.draw(renderer)
        marks = np.zeros((2, len(self.places)))
        marks[0 if along_x else 1] = self.places
        tick.tick1line.set_data(*marks)
        tick.tick1line.draw(renderer)


def moving_ticks(axis: Axis) -> Iterator[MovingTick]:
    """Yield the tick of an axis for the major places, and the one for the minor."""
    for first, places, formatter in (
        (axis.get_major_ticks, axis.get_majorticklocs(), axis.get_major_formatter()),
        (axis.get_minor_ticks, axis.get_minorticklocs(), axis.get_minor_formatter()),
    ):
        if len(places):
            (tick,) = first(1)
            labels = formatter.format_ticks(list(places))
            shown = _in_view(axis, places)
            yield MovingTick(tick, np.asarray(places)[shown], list(compress(labels, shown)))


def _in_view(axis: Axis, places: Any) -> np.ndarray:
    """Say which places are in view, the ends included."""
    at = axis.get_transform().transform([*axis.get_view_interval(), *places])
    low, high = sorted(at[:2])
    close = 1e-10 * (high - low)
    return (low - close <= at[2:]) & (at[2:] <= high + close)


class _MovingTicks(Artist):
    """An axis as its layout has placed it: ticks with their labels, and its name."""

    def __init__(self, axis: Axis) -> None:
        super().__init__()
        self._axis = axis
        self.set_zorder(axis.get_zorder())

    def draw(self, renderer: Any) -> None:
        """Draw the tick at each place, then the name."""
        axis, formatter = self._axis, self._axis.get_major_formatter()
        formatter.set_locs(list(axis.get_majorticklocs()))
        if formatter.get_offset():  # what all labels are times, or plus: its place is measured
            axis.set_visible(True)
            axis.draw(renderer)
            axis.set_visible(False)
            return
        for tick in moving_ticks(axis):
            tick.draw(renderer, along_x=isinstance(axis, XAxis))
        axis.label.draw(renderer)
