"""Figures of classes, cells and p-values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from pertscale.arguments import checked
from pertscale.report.figures.layout import head_columns, legend_beside, log_scale
from pertscale.report.figures.style import (
    CLASS_TITLES,
    COLORS,
    POINT_TITLES,
    STYLE,
    histogram,
    panels,
    short,
)
from pertscale.schema import CLASS_NAMES

#: Classes that would fit between two columns of bars.
_BETWEEN = 0.8


@checked
def class_bars(
    scores: pd.DataFrame, *, methods: Sequence[str], settings: Mapping[str, str]
) -> Figure:
    """Per-class recall, precision and F1 of every method (the first paper's Fig 1).

    Parameters
    ----------
    scores : DataFrame
        Rows of one context at level ``class``; several splits are averaged. With columns ``low``
        and ``high``, as those of :attr:`BenchmarkResult.estimates`, bars have these intervals.
    methods : sequence of str
        Bars, in this order.
    settings : mapping
        Setting -> title of its columns of bars, one for each operating point.
    """
    metrics = {"recall": "Recall", "precision": "Precision", "f1": "F1"}
    keys = ["setting", "operating_point", "metric", "method", "group"]
    shown = scores.reindex(columns=[*keys, "value", "low", "high"])
    mean = shown.groupby(keys)[["value", "low", "high"]].mean()
    nothing = (np.nan, np.nan, np.nan)
    known = dict(zip(mean.index, mean.itertuples(index=False, name=None), strict=True))
    columns = {
        (setting, point): f"{short(title, 48)}\n{words}"
        for setting, title in settings.items()
        for point, words in POINT_TITLES.items()
    }
    starts = (len(CLASS_NAMES) + _BETWEEN) * np.arange(len(columns))
    at = (starts[:, None] + np.arange(len(CLASS_NAMES))).ravel()
    width = 0.84 / max(1, len(methods))
    with mpl.rc_context(STYLE):
        figure, axes = panels(3, columns=1, size=(3.6 * len(columns) + 1.2, 2.1), share="xy")
        for (metric, label), axis in zip(metrics.items(), axes, strict=True):
            lines: list[list[tuple[float, float]]] = []
            for i, method in enumerate(methods):
                heights, low, high = np.array(
                    [
                        known.get((*column, metric, method, c), nothing)
                        for column in columns
                        for c in CLASS_NAMES
                    ]
                ).T
                left = at + (i - len(methods) / 2) * width
                patch = _bars(left, heights, width * 0.92)
                axis.add_artist(patch)
                middle = left + width * 0.46
                lines += [[(x, a), (x, b)] for x, a, b in zip(middle, low, high, strict=True)]
                patch.set(color=COLORS[i % len(COLORS)], linewidth=0, label=short(method))
            known_ones = [line for line in lines if np.isfinite(line).all()]
            axis.add_collection(LineCollection(known_ones, colors="#333333", linewidths=0.7))
            axis.set_ylabel(label)
            axis.grid(axis="y", color="#dddddd", linewidth=0.6)
            axis.set_axisbelow(True)
        axis.set_xlim(-0.6, at[-1] + 0.6)
        axis.set_ylim(0, 1.02)
        axis.set_xticks(at, [CLASS_TITLES[c] for c in CLASS_NAMES] * len(columns))
        middles = starts + (len(CLASS_NAMES) - 1) / 2
        head_columns(figure, axes[0], dict(zip(middles, columns.values(), strict=True)))
        legend_beside(figure, handles=axes[0].patches)
    return figure


def _bars(left: np.ndarray, heights: np.ndarray, width: float) -> PathPatch:
    """Return bars as one outline: a rectangle for each would take most of a report's time."""
    known = np.isfinite(heights)
    x, y = left[known, None], heights[known, None]
    across, up = np.array([0, 0, width, width, 0]), np.array([0, 1, 1, 0, 0])
    corners = np.stack([x + across, y * up], axis=-1)
    codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY]
    return PathPatch(Path(corners.reshape(-1, 2), codes * int(known.sum())))


def cells_per_perturbation(perturbations: pd.DataFrame, *, contexts: Sequence[str]) -> Figure:
    """Histogram of the cells of each perturbation, one panel per context."""
    with mpl.rc_context(STYLE):
        figure, axes = panels(len(contexts))
        for context, axis in zip(contexts, axes, strict=True):
            n = perturbations.loc[perturbations["context"] == context, "n_cells"].to_numpy()
            edges = np.geomspace(n.min(), n.max() + 1, 31) if len(n) else np.array([1, 2])
            histogram(axis, n, edges, color=COLORS[0])
            log_scale(axis, "x")
            axis.set_title(short(context))
            axis.set_xlabel("cells per perturbation")
            axis.set_ylabel("perturbations")
    return figure


def p_value_histogram(counts: Mapping[str, np.ndarray]) -> Figure:
    """Histogram of p-values, one panel per context, from the counts of equal bins over 0..1."""
    with mpl.rc_context(STYLE):
        figure, axes = panels(len(counts))
        for (context, n), axis in zip(counts.items(), axes, strict=True):
            edges = np.linspace(0, 1, len(n) + 1)
            axis.stairs(n / max(1, n.sum()), edges, fill=True, color=COLORS[0])
            axis.set_title(short(context))
            axis.set_xlabel("p-value")
            axis.set_ylabel("share of pairs")
    return figure
