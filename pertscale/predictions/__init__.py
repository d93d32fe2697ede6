"""Predictions of other models, on a screen's genes, perturbations and scale."""

from __future__ import annotations

from pertscale._lazy import public_dir
from pertscale.predictions.predictions import (
    CELLS,
    CLASS_SCORES,
    EXPRESSION,
    LABELS,
    Predictions,
    read_predictions,
)

__all__ = ["CELLS", "CLASS_SCORES", "EXPRESSION", "LABELS", "Predictions", "read_predictions"]

__dir__ = public_dir(__all__)
