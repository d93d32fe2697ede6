"""P-values of controls that are tested against the other controls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pertscale.arguments import checked
from pertscale.errors import InputError
from pertscale.report.figures.style import COLORS, STYLE, panels, short
from pertscale.schema import CONTEXT, NULL_CELLS, TEST
from pertscale.stats.null_tests import null_classes, open_null_tests, qq_points

if TYPE_CHECKING:
    from pertscale.results.result import BenchmarkResult

#: How far up panels reach at most, in the largest -log10 p that is expected.
_HIGHEST = 2.0


@checked
def null_p_values(result: BenchmarkResult) -> Figure:
    """Observed against expected p-values of controls against controls, a panel per context.

    Raises
    ------
    NotFoundError, InputError
        If there are no such tests: the run had no replicates, or all contexts too few controls.
    """
    result.labels  # noqa: B018  (they may be of another run by now)
    tests = open_null_tests(result.path, dask=False)
    contexts = list(dict.fromkeys(tests[CONTEXT].values))
    if not contexts:
        raise InputError(f"no context of {result.path} has enough controls to test some of them")
    with mpl.rc_context(STYLE):
        figure, axes = panels(len(contexts), size=(3.6, 2.9))
        for context, axis in zip(contexts, axes, strict=True):
            _draw(axis, tests.isel({TEST: tests[CONTEXT].values == context}))
            axis.set_title(short(str(context)))
            axis.set_xlabel("expected -log10 p")
            axis.set_ylabel("observed")
    return figure


def _draw(axis: Axes, tests: xr.Dataset) -> None:
    """Draw a line for each number of cells, and one for all guides."""
    right = top = 0.0
    for i, ((kind, n), some) in enumerate(null_classes(tests).items()):
        expected, observed = qq_points(some["z"].values)
        color = COLORS[i] if kind == NULL_CELLS else COLORS[5]
        label = f"{n:,} random cells" if kind == NULL_CELLS else "guides"
        axis.plot(expected, observed, color=color, linewidth=1.2, label=label)
        right, top = max([right, *expected]), max([top, *observed])
    axis.plot([0, right], [0, right], color="#999999", linewidth=0.8, linestyle="--")
    axis.set_xlim(0, right * 1.03)
    axis.set_ylim(0, 1.05 * float(np.clip(top, right, _HIGHEST * right)))
    axis.legend(frameon=False, fontsize=8, loc="upper left")
