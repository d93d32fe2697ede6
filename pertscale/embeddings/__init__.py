"""Vectors per gene or perturbation: the object, and what makes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pertscale._lazy import lazy_names

if TYPE_CHECKING:
    from pertscale.embeddings.cells import from_cells
    from pertscale.embeddings.components import from_screen, from_training
    from pertscale.embeddings.embedding import Embedding
    from pertscale.embeddings.gene_sets import from_edges, from_gene_sets
    from pertscale.embeddings.readers import read
    from pertscale.embeddings.texts import from_texts

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
        __name__,
        {
            "Embedding": "pertscale.embeddings.embedding",
            "from_cells": "pertscale.embeddings.cells",
            "from_edges": "pertscale.embeddings.gene_sets",
            "from_gene_sets": "pertscale.embeddings.gene_sets",
            "from_screen": "pertscale.embeddings.components",
            "from_texts": "pertscale.embeddings.texts",
            "from_training": "pertscale.embeddings.components",
            "read": "pertscale.embeddings.readers",
        },
    )
