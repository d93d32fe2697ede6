"""Statistics of a screen: labels, pseudobulk, curation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pertscale._lazy import lazy_names

if TYPE_CHECKING:
    from pertscale.stats.curation import Curation, curate
    from pertscale.stats.empirical_null import LocalFdr, local_fdr
    from pertscale.stats.interactions import Interactions, find_interactions
    from pertscale.stats.label_files import read_label_table
    from pertscale.stats.labels import LabelTable, read_labels
    from pertscale.stats.perturbqa import read_perturbqa
    from pertscale.stats.pseudobulk import read_pseudobulk
    from pertscale.stats.ranksum import rank_sum, rank_sum_share

__all__ = [
    "Curation",
    "Interactions",
    "LabelTable",
    "LocalFdr",
    "curate",
    "find_interactions",
    "local_fdr",
    "rank_sum",
    "rank_sum_share",
    "read_label_table",
    "read_labels",
    "read_perturbqa",
    "read_pseudobulk",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "Curation": "pertscale.stats.curation",
            "Interactions": "pertscale.stats.interactions",
            "LabelTable": "pertscale.stats.labels",
            "LocalFdr": "pertscale.stats.empirical_null",
            "curate": "pertscale.stats.curation",
            "find_interactions": "pertscale.stats.interactions",
            "local_fdr": "pertscale.stats.empirical_null",
            "rank_sum": "pertscale.stats.ranksum",
            "rank_sum_share": "pertscale.stats.ranksum",
            "read_label_table": "pertscale.stats.label_files",
            "read_labels": "pertscale.stats.labels",
            "read_perturbqa": "pertscale.stats.perturbqa",
            "read_pseudobulk": "pertscale.stats.pseudobulk",
        },
    )
