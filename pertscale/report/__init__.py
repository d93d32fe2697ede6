"""The HTML report, and its figures as functions of a result."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pertscale._lazy import lazy_names

if TYPE_CHECKING:
    from pertscale.report.expression_figures import (
        error_against_genes,
        predicted_change,
        prediction_error,
        ratio_forest,
        resources,
        screen_overview,
        transfer_scatter,
        variation,
    )
    from pertscale.report.figures import class_bars
    from pertscale.report.interaction_figures import (
        call_curves,
        chosen_genes,
        class_shares,
        deviations,
        null_of_deviations,
        precision_recall_and_roc,
        recurrence,
    )
    from pertscale.report.page import write_report

__all__ = [
    "call_curves",
    "chosen_genes",
    "class_bars",
    "class_shares",
    "deviations",
    "error_against_genes",
    "null_of_deviations",
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
            "call_curves": "pertscale.report.interaction_figures",
            "chosen_genes": "pertscale.report.interaction_figures",
            "class_bars": "pertscale.report.figures",
            "class_shares": "pertscale.report.interaction_figures",
            "deviations": "pertscale.report.interaction_figures",
            "error_against_genes": "pertscale.report.expression_figures",
            "null_of_deviations": "pertscale.report.interaction_figures",
            "precision_recall_and_roc": "pertscale.report.interaction_figures",
            "predicted_change": "pertscale.report.expression_figures",
            "prediction_error": "pertscale.report.expression_figures",
            "ratio_forest": "pertscale.report.expression_figures",
            "recurrence": "pertscale.report.interaction_figures",
            "resources": "pertscale.report.expression_figures",
            "screen_overview": "pertscale.report.expression_figures",
            "transfer_scatter": "pertscale.report.expression_figures",
            "variation": "pertscale.report.expression_figures",
            "write_report": "pertscale.report.page",
        },
    )
