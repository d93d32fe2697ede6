"""Scores of predictions: every method, ours or not, on the same footing."""

from pertscale._lazy import public_dir
from pertscale.evaluation.attacks.audit import audit_metrics
from pertscale.evaluation.attacks.registry import ATTACKS, Attack
from pertscale.evaluation.attacks.values import AuditedClasses
from pertscale.evaluation.calibration import (
    bound_discrimination_score,
    dynamic_range_fraction,
)
from pertscale.evaluation.classification import evaluate, evaluate_both
from pertscale.evaluation.comparison import (
    common_perturbations,
    compare_expression,
    compared_set,
    ratio_to_reference,
)
from pertscale.evaluation.confusion_matrix import (
    confusion,
    confusion_per_row,
    scores_from_confusion,
)
from pertscale.evaluation.duplicates import interpolated_duplicate
from pertscale.evaluation.expression import error_by_genes, evaluate_expression
from pertscale.evaluation.interaction_calls import (
    CallCurve,
    agreement,
    call_curve,
    predicted_pairs,
    recurrence,
    strongest,
)
from pertscale.evaluation.metrics import METRICS, Metric
from pertscale.evaluation.operating_point import at_operating_point, share_changed
from pertscale.evaluation.per_gene import auroc_by_gene, evaluate_per_gene
from pertscale.evaluation.ranking import RankCounts
from pertscale.evaluation.resampling.comparing import compare_methods, rank_methods
from pertscale.evaluation.resampling.draws import Draws
from pertscale.evaluation.resampling.intervals import Interval, bca_interval
from pertscale.evaluation.resampling.versions import Versions, ratios
from pertscale.evaluation.shared_control import no_effect, no_effect_elsewhere
from pertscale.evaluation.target_genes import own_targets
from pertscale.evaluation.weighted import (
    gene_weights,
    weighted_mse,
    weighted_pearson,
    weighted_r2,
)
from pertscale.evaluation.weighted_classes import evaluate_weighted

__all__ = [
    "ATTACKS",
    "METRICS",
    "Attack",
    "AuditedClasses",
    "CallCurve",
    "Draws",
    "Interval",
    "Metric",
    "RankCounts",
    "Versions",
    "agreement",
    "at_operating_point",
    "audit_metrics",
    "auroc_by_gene",
    "bca_interval",
    "bound_discrimination_score",
    "call_curve",
    "common_perturbations",
    "compare_expression",
    "compare_methods",
    "compared_set",
    "confusion",
    "confusion_per_row",
    "dynamic_range_fraction",
    "error_by_genes",
    "evaluate",
    "evaluate_both",
    "evaluate_expression",
    "evaluate_per_gene",
    "evaluate_weighted",
    "gene_weights",
    "interpolated_duplicate",
    "no_effect",
    "no_effect_elsewhere",
    "own_targets",
    "predicted_pairs",
    "rank_methods",
    "ratio_to_reference",
    "ratios",
    "recurrence",
    "scores_from_confusion",
    "share_changed",
    "strongest",
    "weighted_mse",
    "weighted_pearson",
    "weighted_r2",
]

__dir__ = public_dir(__all__)
