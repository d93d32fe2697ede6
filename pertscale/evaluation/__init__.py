"""Scores of predictions: every method, ours or not, on the same footing."""

from pertscale.evaluation.classification import evaluate, evaluate_both
from pertscale.evaluation.confusion import confusion, confusion_per_row, scores_from_confusion
from pertscale.evaluation.metrics import METRICS, Metric
from pertscale.evaluation.ranking import RankCounts

__all__ = [
    "METRICS",
    "Metric",
    "RankCounts",
    "confusion",
    "confusion_per_row",
    "evaluate",
    "evaluate_both",
    "scores_from_confusion",
]
