"""Statistics of a screen: labels, pseudobulk, curation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pertscale._lazy import lazy_names

if TYPE_CHECKING:
    from pertscale.stats.differential.rank_sum import rank_sum, rank_sum_share
    from pertscale.stats.empirical_null import LocalFdr, local_fdr
    from pertscale.stats.half_agreement import reproducibility
    from pertscale.stats.halves import read_halves
    from pertscale.stats.interactions import Interactions, find_interactions
    from pertscale.stats.label_confidence import confidence, confidence_matrix
    from pertscale.stats.labels.curation import Curation, curate
    from pertscale.stats.labels.files import read_label_table
    from pertscale.stats.labels.perturbqa import read_perturbqa
    from pertscale.stats.labels.table import LabelTable, read_labels
    from pertscale.stats.null_tests import fitted_null, null_calibration, read_null_tests
    from pertscale.stats.pseudobulk import read_pseudobulk
    from pertscale.stats.statistical_power import power, power_at, power_summary
    from pertscale.stats.target_expression import knockdown

__all__ = [
    "Curation",
    "Interactions",
    "LabelTable",
    "LocalFdr",
    "confidence",
    "confidence_matrix",
    "curate",
    "find_interactions",
    "fitted_null",
    "knockdown",
    "local_fdr",
    "null_calibration",
    "power",
    "power_at",
    "power_summary",
    "rank_sum",
    "rank_sum_share",
    "read_halves",
    "read_label_table",
    "read_labels",
    "read_null_tests",
    "read_perturbqa",
    "read_pseudobulk",
    "reproducibility",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "Curation": "pertscale.stats.labels.curation",
            "Interactions": "pertscale.stats.interactions",
            "LabelTable": "pertscale.stats.labels",
            "LocalFdr": "pertscale.stats.empirical_null",
            "confidence": "pertscale.stats.label_confidence",
            "confidence_matrix": "pertscale.stats.label_confidence",
            "curate": "pertscale.stats.labels.curation",
            "find_interactions": "pertscale.stats.interactions",
            "fitted_null": "pertscale.stats.null_tests",
            "knockdown": "pertscale.stats.target_expression",
            "local_fdr": "pertscale.stats.empirical_null",
            "null_calibration": "pertscale.stats.null_tests",
            "power": "pertscale.stats.statistical_power",
            "power_at": "pertscale.stats.statistical_power",
            "power_summary": "pertscale.stats.statistical_power",
            "rank_sum": "pertscale.stats.differential.rank_sum",
            "rank_sum_share": "pertscale.stats.differential.rank_sum",
            "read_halves": "pertscale.stats.halves",
            "read_label_table": "pertscale.stats.labels.files",
            "read_labels": "pertscale.stats.labels",
            "read_null_tests": "pertscale.stats.null_tests",
            "read_perturbqa": "pertscale.stats.labels.perturbqa",
            "read_pseudobulk": "pertscale.stats.pseudobulk",
            "reproducibility": "pertscale.stats.half_agreement",
        },
    )
