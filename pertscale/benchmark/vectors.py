"""Which embedding a unit gets: the one that was given, or one learned from its training part."""

from __future__ import annotations

import numpy as np
import xarray as xr

from pertscale import embeddings
from pertscale.benchmark.state import ScreenRun
from pertscale.embeddings.embedding import Embedding
from pertscale.schema import CONTROL, PERTURBATION
from pertscale.splits import Split

#: Principal components of the embedding that is learned from the training part (method H4).
TRAINING_DIM = 10


def embedding_for(run: ScreenRun, context: str, split: Split) -> Embedding | str:
    """Return the vectors for a split, or why there are none."""
    if run.options.embedding is not None:
        run.vectors[context, split.name] = run.options.embedding
        return run.options.embedding
    if (context, split.name) not in run.vectors:
        profiles = run.profiles[context].values
        mine = np.isin(profiles[PERTURBATION].values.astype(str), [*split.train, CONTROL])
        learned = learned_embedding(profiles.isel({PERTURBATION: mine}), list(run.labels.genes))
        if isinstance(learned, str):
            return learned
        run.vectors[context, split.name] = learned
    return run.vectors[context, split.name]


def learned_embedding(profiles: xr.DataArray, genes: list[str]) -> Embedding | str:
    """Embed genes by their expression over training profiles, or return why that is impossible."""
    dim = min(TRAINING_DIM, profiles.shape[0] - 1, len(genes) - 1)
    if dim < 1:
        return "too few training perturbations to learn an embedding from; pass embedding="
    return embeddings.from_training(profiles.values, genes=genes, dim=dim)


def has_none(embedding: Embedding, training: np.ndarray) -> str | None:
    """Return that no training perturbation has a vector, (n, d), where that is so."""
    if np.isfinite(training).all(axis=1).any():
        return None
    return f"embedding {embedding.name!r} has none of the training perturbations"
