"""The label table: statistics and class of every pair of perturbation and gene."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pertscale._lazy import lazy_names

if TYPE_CHECKING:
    from pertscale.stats.labels.table import LabelTable, read_labels

__all__ = ["LabelTable", "read_labels"]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_names(
        __name__, dict.fromkeys(__all__, "pertscale.stats.labels.table")
    )
