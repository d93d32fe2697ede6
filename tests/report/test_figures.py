"""Figures: what they show, with few artists, laid out once; labels have room."""

from __future__ import annotations

from itertools import combinations

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from pertscale.report.figures import classes
from pertscale.report.figures.layout import (
    FixedLayout,
    label_all,
    legend_below,
    legend_beside,
    log_scale,
    text_size,
)
from pertscale.report.figures.style import STYLE, name_ticks, new_figure, panels, to_svg
from pertscale.report.figures.ticks import use_moving_ticks
from pertscale.schema import CLASS_NAMES

METHODS = [f"method_{i}" for i in range(12)]
SETTINGS = {"curated": "Curated", "full": "Full"}
POINTS = ("as_called", "at_training_rate")
METRICS = ("recall", "precision", "f1")


def class_scores():
    keys = pd.MultiIndex.from_product(
        [SETTINGS, POINTS, METRICS, METHODS, CLASS_NAMES],
        names=["setting", "operating_point", "metric", "method", "group"],
    )
    values = np.linspace(0, 1, len(keys))
    return pd.DataFrame({"value": values}, index=keys).reset_index()


def bars():
    return classes.class_bars(class_scores(), methods=METHODS, settings=SETTINGS)


def crowded():
    """Long names all around: slanting ones, a legend, and labels of all panels."""
    with mpl.rc_context(STYLE):
        figure, axes = panels(5, columns=3, size=(2.6, 2.4), share="x")
        for axis in axes:
            axis.plot([1e5, 3e6], label="a rather long name of a cell line")
            name_ticks(axis, ["a name below", "mean_perturbation"])
            axis.set_title("a panel of these")
            axis.set_ylabel("how many")
        legend_beside(figure, handles=axes[0].lines, title="cell lines")
        label_all(figure, x="what all show", y="of every one", title="five panels")
    return figure


def logarithmic():
    with mpl.rc_context(STYLE):
        figure, (left, right) = panels(2)
        left.plot([1, 2, 3], [1, 50, 20_000], label="$x$".replace("$", r"\$"))
        log_scale(left, "y")
        right.plot([200, 700], [1, 2])
        log_scale(right, "x")
        left.set_xlabel("counts\nin two lines")
        legend_below(figure, handles=left.lines, ncols=2, fontsize=8)
    return figure


@pytest.mark.parametrize("draw", [bars, crowded, logarithmic])
def test_a_figure_is_measured_once(draw, monkeypatch):
    """Drawing it asks no artist for its tight box, of which most of a report's time once went."""
    asked, laid_out = [], []
    for kind in (mpl.artist.Artist, Axes, Axis):
        monkeypatch.setattr(kind, "get_tightbbox", lambda self, *_, **__: asked.append(self))
    execute = FixedLayout.execute
    monkeypatch.setattr(
        FixedLayout, "execute", lambda self, fig: (laid_out.append(fig), execute(self, fig))
    )
    to_svg(draw(), name="x")
    assert len(laid_out) == 1
    assert asked == []


@pytest.mark.parametrize("draw", [bars, crowded, logarithmic])
def test_all_text_is_inside_and_panels_are_apart(draw):
    """As Matplotlib measures them, not as the layout guesses."""
    figure = draw()
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    shown = [axis for axis in figure.axes if axis.get_visible()]
    boxes = [axis.get_tightbbox(renderer) for axis in shown]
    boxes += [legend.get_window_extent(renderer) for legend in figure.legends]
    boxes += [text.get_window_extent(renderer) for text in figure.texts]
    for one, other in combinations(boxes, 2):
        both = mpl.transforms.Bbox.intersection(one, other)
        assert both is None or min(both.width, both.height) < 0.02 * figure.dpi
    for box in boxes:
        assert figure.bbox.x0 <= box.x0
        assert box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0
        assert box.y1 <= figure.bbox.y1


def pixels(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


@pytest.mark.parametrize("draw", [bars, crowded, logarithmic])
def test_one_moving_tick_looks_like_ticks(draw):
    figure = draw()
    use_moving_ticks(figure)
    np.testing.assert_array_equal(pixels(figure), pixels(draw()))


def test_axes_have_one_tick(monkeypatch):
    made = []
    get = Axis._get_tick
    monkeypatch.setattr(
        Axis, "_get_tick", lambda self, major: (made.append(self), get(self, major))[1]
    )
    with mpl.rc_context(STYLE):
        figure, axes = panels(4)
        for axis in axes:
            axis.plot([0, 1], [0, 100])
    to_svg(figure, name="x")
    assert len(made) == 4 * 4  # a major and a minor one of two axes


def test_bars_are_one_outline_for_each_method():
    """A rectangle for each would be 432."""
    figure = bars()
    assert len(figure.axes) == len(METRICS)
    scores = class_scores()
    for axis, metric in zip(figure.axes, METRICS, strict=True):
        assert [patch.get_label() for patch in axis.patches] == METHODS
        for method, patch in zip(METHODS, axis.patches, strict=True):
            tops = patch.get_path().vertices[:, 1].reshape(-1, 5).max(axis=1)
            mine = scores[(scores["metric"] == metric) & (scores["method"] == method)]
            np.testing.assert_allclose(tops, mine["value"])
    heads = [text.get_text() for text in figure.axes[0].texts]
    assert heads[0] == "Curated\nas called"
    assert len(heads) == len(SETTINGS) * len(POINTS)


def test_text_is_text_without_mathematics():
    svg = to_svg(logarithmic(), name="x")
    for words in (">10,000<", ">200<", ">$x$<", ">in two lines<"):
        assert words in svg
    assert "mathtext" not in svg
    assert "'DejaVu Sans', 'Verdana', sans-serif" in svg


def test_size_of_text_is_that_of_matplotlib():
    figure = new_figure(4, 4)
    renderer = FigureCanvasAgg(figure).get_renderer()
    for words in ("mean_perturbation", "-0.25", "two\nlines", r"a \$"):
        text = figure.text(0, 0, words, fontsize=9)
        box = Text.get_window_extent(text, renderer)
        width, height = text_size(text)
        assert width == pytest.approx(box.width / figure.dpi, rel=0.1)
        assert height >= 0.95 * box.height / figure.dpi
        text.set_rotation(90)
        np.testing.assert_allclose(text_size(text), (height, width))
