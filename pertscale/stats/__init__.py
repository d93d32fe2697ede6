"""Statistics of a screen: labels, pseudobulk, curation."""

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
