"""Score the baselines on label tables without a screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from pertscale.arguments import checked
from pertscale.baselines import METHODS
from pertscale.baselines.inputs import UnitInputs
from pertscale.benchmark.resampling.versions_of import KEYS
from pertscale.benchmark.tasks.transfer import averages, of_one_source
from pertscale.benchmark.units.base import with_head
from pertscale.benchmark.units.class_scores import Points, score_settings
from pertscale.embeddings.embedding import Embedding
from pertscale.errors import ArgumentError
from pertscale.evaluation import share_changed
from pertscale.evaluation.classification import ScoredPairs
from pertscale.evaluation.resampling.draws import Draws
from pertscale.evaluation.resampling.pairs import resampled_scores
from pertscale.gene_names import match_genes
from pertscale.guide_names import target_group
from pertscale.io.gene_aliases import Aliases, read_aliases
from pertscale.io.parquet import stacked
from pertscale.perturbation_names import targets
from pertscale.predictions.given_split import on_labels
from pertscale.schema import GENE, INTERVAL, PERTURBATION, SCORE_COLUMNS, TRANSFER, WITHIN, Label
from pertscale.splits import Split
from pertscale.stats.labels.table import LabelTable

if TYPE_CHECKING:
    import xarray as xr

Rows = Literal["train", "test", "all"]


@checked
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
        Names that the table lacks are left out, with a warning, as are perturbations that are in no
        part of the split.
    context : str, optional
        Needed where the table has several.
    embedding : Embedding, optional
        Vectors of genes, for the methods that need them.
    methods : sequence of str, optional
        Names in :data:`pertscale.baselines.METHODS`; by default all that can run, and neighbours
        that have a label only where some training pairs have none.

    Returns
    -------
    DataFrame
        :data:`pertscale.schema.SCORE_COLUMNS`, with intervals over perturbations; the setting is
        ``full``. Memory: the label matrix of the context, and 13 bytes per test pair for
        predictions.

    Raises
    ------
    ArgumentError
        If a method was asked for that needs an embedding, and there is none.
    InputError
        If the table lacks more than half of the split's names.

    References
    ----------
    Sun, Zhu and Chen (2026), https://openreview.net/forum?id=EZ2KZwM1mR

    Examples
    --------
    >>> labels = ps.read_labels("k562.labels")
    >>> split = ps.splits.holdout(labels.perturbations["perturbation"], seed=1)
    >>> scores = ps.score_labels(labels, split, methods=["majority_vote", "all_non_de"])
    >>> sorted(scores["method"].unique())
    ['all_non_de', 'majority_vote']
    """
    if not isinstance(split, Split):
        raise ArgumentError(
            f"split is {split!r}; a table without a column of splits has none: draw one with "
            "pertscale.splits.holdout(labels.perturbations['perturbation'])"
        )
    context = labels.only_context(context)
    matrix = labels.matrix(context).compute()
    names, genes = list(matrix[PERTURBATION].values), list(matrix[GENE].values)
    split = on_labels(split, names, genes, context=context, can_alias=False).restrict(names)
    train, truth = (
        matrix.sel({PERTURBATION: list(part)}) for part in (split.train, split.held_out)
    )
    head = {"task": WITHIN, "context": context, "train_contexts": context}
    return _scored(train.values, split.train, truth, split, embedding, methods, ("full",), head)


@checked
def score_transfer(
    labels: Mapping[str, LabelTable],
    splits: Mapping[str, Split],
    *,
    target: str | None = None,
    embedding: Embedding | None = None,
    methods: Sequence[str] | None = None,
    exclude_test_perturbations: bool = True,
    source_rows: Rows = "train",
    target_rows: Rows = "test",
    aliases: Aliases | None = None,
) -> pd.DataFrame:
    """Fit the baselines on the labels of some contexts and score them on another (method E4).

    Every context is predicted: from each other one alone (pairwise), whose scores are averaged as
    well, and from all others together (pooled).

    Parameters
    ----------
    labels : mapping of str to LabelTable
        One context each, by its name.
    splits : mapping of str to Split
        By the same names; what a context lacks is handled as in :func:`score_labels`.
    target : str, optional
        Predict this context only.
    embedding, methods
        As of :func:`score_labels`.
    exclude_test_perturbations : bool
        Leave the perturbations that are predicted out of the other contexts.
    source_rows : {'train', 'all'}
        Perturbations of the other contexts to train on: with 'all' their held-out ones too.
    target_rows : {'test', 'all'}
        Perturbations to predict.
    aliases : path or mapping, optional
        Other names of genes → names.

    Returns
    -------
    DataFrame
        :data:`pertscale.schema.SCORE_COLUMNS`; settings ``full`` (genes without training labels
        count as unchanged) and ``full_overlap`` (they are left out). ``train_contexts`` are joined
        by ``,`` if pooled, by ``|`` if averaged: these have no intervals. Memory: the label
        matrices.

    Raises
    ------
    ArgumentError
        There are fewer than two contexts, one has no split, or `target` is none of them.
    InputError
        If a table lacks more than half of its split's names.

    References
    ----------
    Sun, Zhu and Chen (2026), https://openreview.net/forum?id=EZ2KZwM1mR

    Examples
    --------
    >>> pairs = pd.DataFrame(
    ...     {"perturbation": ["GATA1", "KLF1", "TP53"], "gene": "HBG1", "label": [1, 1, 0]}
    ... )
    >>> lines = {name: ps.LabelTable.from_pairs(pairs, context=name) for name in ("k562", "rpe1")}
    >>> splits = {name: ps.Split(name, ("GATA1", "TP53"), ("KLF1",)) for name in lines}
    >>> scores = ps.score_transfer(lines, splits, target="rpe1", methods=["majority_vote"])
    >>> list(scores["train_contexts"].unique())
    ['k562']
    """
    if len(labels) < 2 or set(labels) != set(splits):
        raise ArgumentError(
            f"labels are of {', '.join(labels) or 'none'}, splits of "
            f"{', '.join(splits) or 'none'}; needed are at least two contexts, each with both"
        )
    for value, part, what in ((source_rows, "train", "source"), (target_rows, "test", "target")):
        if value not in (part, "all"):
            raise ArgumentError(f"{what}_rows={value!r} is not {part!r} or 'all'")
    if target is not None and target not in labels:
        raise ArgumentError(f"target={target!r} is none of {', '.join(labels)}")
    matrices = {name: table.matrix().compute() for name, table in labels.items()}
    other_names = read_aliases(aliases)  # once, not for each pair of contexts
    named = {}
    for name, matrix in matrices.items():
        names, genes = list(matrix[PERTURBATION].values), list(matrix[GENE].values)
        named[name] = on_labels(
            splits[name], names, genes, other_names, context=name, can_alias=True
        )
    tables = []
    for context in matrices if target is None else [target]:
        matrix = matrices[context]
        split = named[context].restrict(list(matrix[PERTURBATION].values))
        test = (*split.train, *split.held_out) if target_rows == "all" else split.held_out
        truth = matrix.sel({PERTURBATION: list(test)})
        others = [name for name in matrices if name != context]
        modes = [[name] for name in others] + ([others] if len(others) > 1 else [])
        for sources in modes:
            parts = [
                _elsewhere(
                    matrices[s],
                    named[s],
                    source_rows,
                    matrix,
                    other_names,
                    test if exclude_test_perturbations else (),
                )
                for s in sources
            ]
            y, names = np.concatenate([p[0] for p in parts]), [n for p in parts for n in p[1]]
            head = {"task": TRANSFER, "context": context, "train_contexts": ",".join(sources)}
            settings = ("full", "full_overlap")
            tables.append(_scored(y, names, truth, split, embedding, methods, settings, head))
    scores = pd.concat(tables, ignore_index=True)
    alone = of_one_source(scores, set(scores["context"]))
    mean = averages(alone.drop(columns=INTERVAL))
    without = dict.fromkeys(INTERVAL, np.nan) | {"n_clusters": 0}
    return stacked([scores, mean.assign(**without)], SCORE_COLUMNS)


def _elsewhere(
    matrix: xr.DataArray,
    split: Split,
    rows: Rows,
    target: xr.DataArray,
    aliases: Mapping[str, str],
    without: Sequence[str],
) -> tuple[np.ndarray, list[str]]:
    """Return labels of another context on the genes of the target, and their perturbations."""
    there = set(matrix[PERTURBATION].values) - set(without)
    mine = split.train if rows == "train" else (*split.train, *split.held_out)
    names = [name for name in mine if name in there]
    match = match_genes(list(matrix[GENE].values), list(target[GENE].values), aliases=aliases)
    y = np.full((len(names), target.shape[1]), Label.UNTESTED, np.int8)
    here = match.position >= 0
    y[:, match.position[here]] = matrix.sel({PERTURBATION: names}).values[:, here]
    return y, names


def _scored(
    y_train: np.ndarray,
    train: Sequence[str],
    truth: xr.DataArray,
    split: Split,
    embedding: Embedding | None,
    methods: Sequence[str] | None,
    settings: Sequence[str],
    head: dict[str, str],
) -> pd.DataFrame:
    """Fit all methods, predict the perturbations of `truth`, and score them in each setting."""
    test, genes = ([str(n) for n in truth[dim].values] for dim in (PERTURBATION, GENE))
    untested = y_train == Label.UNTESTED
    chosen = (
        list(methods)
        if methods is not None
        else [
            name
            for name, method in METHODS.items()
            if (embedding or not method.needs_embedding)
            and (untested.any() or not method.needs_gaps)
        ]
    )
    rows = [*train, *test]
    groups = target_group(rows, set(genes))
    seen, rate = ~untested.all(axis=0), share_changed(y_train)

    def vectors() -> np.ndarray:
        assert embedding is not None
        of_row = {row: targets(groups[row]) for row in rows}
        return embedding.normalized().vectors(rows, targets=of_row)

    def gene_vectors() -> np.ndarray:
        assert embedding is not None
        return embedding.normalized().vectors(genes)

    given = UnitInputs(
        labels=y_train,
        groups=[groups[row] for row in train],
        test_groups=[groups[row] for row in test],
        seed=split.seed,
        vectors=vectors,
        gene_vectors=gene_vectors,
        truth=lambda: truth.values,
    )
    drawn = " / ".join(head.values())
    draws = Draws.of(drawn, {row: targets(groups[row]) for row in test})
    tables = []
    for name in chosen:
        method = METHODS[name]
        if method.needs_embedding and embedding is None:
            raise ArgumentError(f"method {name!r} needs an embedding; pass embedding=")
        predicted = method.fit_predict(given)
        scores = score_settings(
            predicted,
            truth.values,
            test,
            settings=settings,
            target_pairs=np.empty((0, 2), np.intp),
            overlap=lambda: seen,
            points=Points(rate) if method.ranks else Points(same=True),
            keep_sums=True,
        )
        for setting, one in scores.items():
            table = with_head(
                one.table.assign(method=name),
                {name: predicted.params},
                split,
                **head,
                setting=setting,
            )
            tables.append(_with_intervals(table, one, draws, test))
    return pd.concat(tables, ignore_index=True)


def _with_intervals(
    rows: pd.DataFrame, scored: ScoredPairs, draws: Draws, test: Sequence[str]
) -> pd.DataFrame:
    """Add the columns of intervals to the scores of a method in a setting."""
    assert scored.sums is not None
    keys, found = resampled_scores(scored.sums, draws, test)
    exact = rows.set_index(KEYS)["value"]
    found = found.shifted_to(np.array([exact[key] for key in keys]))
    frame = pd.DataFrame(keys, columns=KEYS).assign(**vars(found.interval()))
    both = rows.merge(frame, on=KEYS, how="left")
    return both.assign(n_clusters=both["n_clusters"].fillna(0).astype(np.int64))
