"""Scoring the baselines on a label table that came without a screen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from pertscale.baselines import METHODS
from pertscale.benchmark.predictors import fit_predict
from pertscale.benchmark.units import TASK, with_areas, with_head
from pertscale.conditions import target_group, targets
from pertscale.embeddings import Embedding
from pertscale.errors import ArgumentError
from pertscale.evaluation import evaluate
from pertscale.schema import GENE, PERTURBATION
from pertscale.splits import Split
from pertscale.stats.labels import LabelTable


def score_labels(
    labels: LabelTable,
    split: Split,
    *,
    context: str | None = None,
    embedding: Embedding | None = None,
    methods: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Fit the baselines on a label table and score them, without a screen.

    Parameters
    ----------
    labels : LabelTable
        For instance PerturbQA's, from :func:`pertscale.stats.read_perturbqa`.
    split : Split
        Perturbations that the table does not have are left out of it.
    context : str, optional
        Needed where the table has several.
    embedding : Embedding, optional
        Vectors of genes, for the methods that need them.
    methods : sequence of str, optional
        Names in :data:`pertscale.baselines.METHODS`; by default all that can run.

    Returns
    -------
    DataFrame
        :data:`pertscale.schema.SCORE_COLUMNS`; the setting is ``full``. Memory: the label matrix
        of the context, and 13 bytes per test pair for predictions.

    Raises
    ------
    ArgumentError
        If a method was asked for that needs an embedding, and there is none.
    """
    context = labels.only_context(context)
    matrix = labels.matrix(context).compute()
    names = list(matrix[PERTURBATION].values)
    split = split.restrict(names)
    groups = target_group(names, set(matrix[GENE].values))
    chosen = list(methods) if methods is not None else [
        name for name, method in METHODS.items() if embedding or not method.needs_embedding
    ]  # fmt: skip
    y_train, truth = (
        matrix.sel({PERTURBATION: list(part)}).values for part in (split.train, split.test)
    )
    rows = [*split.train, *split.test]
    gene_vectors = None
    if embedding is not None:
        gene_vectors = embedding.normalized().vectors(list(matrix[GENE].values))
    tables = []
    for name in chosen:
        if METHODS[name].needs_embedding and embedding is None:
            raise ArgumentError(f"method {name!r} needs an embedding; pass embedding=")
        vectors = np.empty((len(rows), 0))
        if embedding is not None and METHODS[name].needs_embedding:
            genes = {row: targets(groups[row]) for row in rows}
            vectors = embedding.normalized().vectors(rows, targets=genes)
        predicted, scores, params = fit_predict(
            METHODS[name], split.seed, vectors[: len(y_train)], y_train, vectors[len(y_train) :],
            groups=np.array([groups[row] for row in split.train]), truth=truth,
            gene_vectors=gene_vectors if METHODS[name].needs_gene_vectors else None,
        )  # fmt: skip
        table = evaluate(truth, predicted, scores=scores, perturbations=split.test)
        head = {"task": TASK, "setting": "full", "context": context, "train_contexts": context}
        tables.append(with_head(with_areas(table, truth, scores), split, name, params, **head))
    return pd.concat(tables, ignore_index=True)
