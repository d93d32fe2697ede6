"""Vectors per gene or perturbation: the object, and what makes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pertscale._lazy import lazy_names

if TYPE_CHECKING:
    from pertscale.embeddings.embedding import (
        Embedding,
        from_cells,
        from_edges,
        from_gene_sets,
        from_screen,
        from_texts,
        from_training,
        read,
    )

__all__ = [
    "Embedding",
    "from_cells",
    "from_edges",
    "from_gene_sets",
    "from_screen",
    "from_texts",
    "from_training",
    "read",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_names(
        __name__, dict.fromkeys(__all__, "pertscale.embeddings.embedding")
    )
