"""Statistics of a screen: labels, pseudobulk, curation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pertscale._lazy import lazy_names

if TYPE_CHECKING:
    from pertscale.stats.curation import Curation, curate
    from pertscale.stats.labels import LabelTable, read_labels
    from pertscale.stats.perturbqa import read_perturbqa
    from pertscale.stats.pseudobulk import read_pseudobulk
    from pertscale.stats.ranksum import rank_sum

__all__ = [
    "Curation",
    "LabelTable",
    "curate",
    "rank_sum",
    "read_labels",
    "read_perturbqa",
    "read_pseudobulk",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Curation": "pertscale.stats.curation",
        "LabelTable": "pertscale.stats.labels",
        "curate": "pertscale.stats.curation",
        "rank_sum": "pertscale.stats.ranksum",
        "read_labels": "pertscale.stats.labels",
        "read_perturbqa": "pertscale.stats.perturbqa",
        "read_pseudobulk": "pertscale.stats.pseudobulk",
    },
)
