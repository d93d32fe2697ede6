"""The HTML report, and its figures as functions of a result."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pertscale._lazy import lazy_names

if TYPE_CHECKING:
    from pertscale.report.figures.classes import class_bars
    from pertscale.report.figures.expression import (
        error_against_genes,
        predicted_change,
        prediction_error,
        ratio_forest,
        resources,
        variation,
    )
    from pertscale.report.figures.interactions import (
        call_curves,
        chosen_genes,
        class_shares,
        deviations,
        null_of_deviations,
        precision_recall_and_roc,
        recurrence,
    )
    from pertscale.report.figures.null_tests import null_p_values
    from pertscale.report.figures.screens import screen_overview, transfer_scatter
    from pertscale.report.page import write_report

__all__ = [
    "call_curves",
    "chosen_genes",
    "class_bars",
    "class_shares",
    "deviations",
    "error_against_genes",
    "null_of_deviations",
    "null_p_values",
    "precision_recall_and_roc",
    "predicted_change",
    "prediction_error",
    "ratio_forest",
    "recurrence",
    "resources",
    "screen_overview",
    "transfer_scatter",
    "variation",
    "write_report",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "call_curves": "pertscale.report.figures.interactions",
            "chosen_genes": "pertscale.report.figures.interactions",
            "class_bars": "pertscale.report.figures.classes",
            "class_shares": "pertscale.report.figures.interactions",
            "deviations": "pertscale.report.figures.interactions",
            "error_against_genes": "pertscale.report.figures.expression",
            "null_of_deviations": "pertscale.report.figures.interactions",
            "null_p_values": "pertscale.report.figures.null_tests",
            "precision_recall_and_roc": "pertscale.report.figures.interactions",
            "predicted_change": "pertscale.report.figures.expression",
            "prediction_error": "pertscale.report.figures.expression",
            "ratio_forest": "pertscale.report.figures.expression",
            "recurrence": "pertscale.report.figures.interactions",
            "resources": "pertscale.report.figures.expression",
            "screen_overview": "pertscale.report.figures.screens",
            "transfer_scatter": "pertscale.report.figures.screens",
            "variation": "pertscale.report.figures.expression",
            "write_report": "pertscale.report.page",
        },
    )
