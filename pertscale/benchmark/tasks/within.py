"""Classes within a context: full and curated tables, planned and run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pandas as pd

from pertscale.baselines import ExpressionMethod, ExpressionModel, Method
from pertscale.baselines.expression.base import rows_of
from pertscale.benchmark.state import RunRecord, ScreenRun, given_for
from pertscale.benchmark.units.class_unit import (
    TASK,
    ClassUnit,
    check_unit_replaceable,
    failure,
    is_done,
    run_unit,
)
from pertscale.benchmark.units.predictors import (
    ClassifierPredictor,
    FilePredictor,
    ThresholdPredictor,
    TrainingLabels,
    thresholded_file,
)
from pertscale.benchmark.vectors import embedding_for
from pertscale.diagnostics.progress import Progress
from pertscale.embeddings.embedding import Embedding
from pertscale.errors import InputError
from pertscale.hashing import digest
from pertscale.predictions.predictions import EXPRESSION, AlignedPredictions
from pertscale.schema import CONTROL, GENE
from pertscale.splits import Split

#: Why a method that is for labels with gaps is not fitted on full ones.
_NO_GAPS = (
    "every tested perturbation has a label of every gene, so neighbours that have one are the "
    "nearest; these methods are for curated pairs"
)


def label_kinds(plan: ScreenRun, context: str, mine: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    """Write the label matrices of a context; return which settings are scored on which."""
    settings, changed = plan.wanted.settings, (mine["n_up"] + mine["n_down"]).any()
    if not changed:
        fewest, most = mine["n_cells"].min(), mine["n_cells"].max()
        cells = f"{fewest:,} cells each" if fewest == most else f"{fewest:,} to {most:,} cells each"
        why = f"no DE gene among {len(mine):,} perturbations, {cells}; classes can't be scored"
        plan.without_changes[context] = why
        plan.log.skip("classes", context, why)
    full = tuple(s for s in settings if s.startswith("full"))
    same = [name for name, method in plan.wanted.methods.items() if method.needs_gaps]
    if full and changed and same:
        plan.log.skip(f"{', '.join(same)} (full)", context, _NO_GAPS)
    tables: dict[str, tuple[str, ...]] = {}
    if full:
        plan.matrices[context, "full"] = plan.matrix_of(context, "full")
        tables["full"] = full
    if "curated" in settings and changed:
        try:
            plan.matrices[context, "curated"] = plan.matrix_of(context, "curated")
            tables["curated"] = ("curated",)
        except InputError as error:
            plan.log.skip("curated", context, str(error))
    return tables


def plan_classes(
    plan: ScreenRun,
    context: str,
    split: Split,
    tables: dict[str, tuple[str, ...]],
    groups: dict[str, str],
) -> None:
    """List the units of classes of one split."""
    if context in plan.without_changes:
        return
    if any(method.needs_embedding for method in plan.wanted.methods.values()):
        plan.vectors_lack.append(_lacking(plan, context, split))
    given = given_for(plan, context, split)
    changes = _changes(plan, context, split, given)
    for kind, settings in tables.items():
        matrix = plan.matrices[context, kind]
        try:
            usable = split.restrict(matrix.perturbations)
        except InputError as error:
            left = "curation keeps none of its test perturbations, or none of its training ones"
            why = left if kind == "curated" else str(error)
            plan.log.skip(f"{kind}, {split.name}", context, why)
            continue
        unit = partial(ClassUnit, context, kind, usable)
        training = (TrainingLabels(matrix, usable.train),)
        for name, method in plan.wanted.methods_on(kind).items():
            vectors = embedding_for(plan, context, split) if method.needs_embedding else None
            reason = _no_vectors(plan, vectors, usable.train)
            if reason is not None:
                plan.log.skip(f"{name} ({kind}, {split.name})", context, reason)
                continue
            fitted = fitted_on(plan, method, training, usable.train, vectors, groups)
            plan.units.append(unit(name, settings, fitted))
        plan.units += [unit(name, settings, predictor) for name, predictor in changes.items()]
        plan.units += [
            unit(name, settings, FilePredictor(found))
            for name, found in given.items()
            if found.predictions.kind != EXPRESSION
        ]


def _lacking(plan: ScreenRun, context: str, split: Split) -> dict[str, Any]:
    """Count the held-out perturbations without a vector, for which methods call the majority."""
    found, n = embedding_for(plan, context, split), len(split.held_out)
    n_lacking = n
    if isinstance(found, Embedding):
        vectors = plan.vectors_of(found, split.held_out)
        n_lacking = int((~np.isfinite(vectors).all(axis=1)).sum())
    given = None if plan.wanted.embedding is None else plan.wanted.embedding.name
    return {
        "context": context,
        "split": split.name,
        "n": n,
        "n_lacking": n_lacking,
        "embedding": given,
    }


def fitted_on(
    plan: ScreenRun,
    method: Method,
    training: tuple[TrainingLabels, ...],
    names: Sequence[str],
    vectors: Embedding | str | None,
    groups: Mapping[str, str],
) -> ClassifierPredictor:
    """Return a classifier on the labels of one screen; `groups` are the targets behind names."""
    embedding = vectors if isinstance(vectors, Embedding) else None

    def both(test: Sequence[str]) -> np.ndarray:
        assert embedding is not None
        return plan.vectors_of(embedding, [*names, *test])

    def of_genes(genes: Sequence[str]) -> np.ndarray:
        assert embedding is not None
        return embedding.normalized().vectors(list(genes))

    return ClassifierPredictor(
        method=method,
        training=training,
        groups=tuple(groups[name] for name in names),
        test_groups=lambda test: [groups[name] for name in test],
        vectors=both,
        gene_vectors=of_genes,
        vectors_key="" if embedding is None else embedding.hash,
    )


def _no_vectors(
    plan: ScreenRun, vectors: Embedding | str | None, train: Sequence[str]
) -> str | None:
    """Return why a method that needs vectors can't run, or None."""
    if not isinstance(vectors, Embedding):
        return vectors
    return has_none(vectors, plan.vectors_of(vectors, train))


def has_none(embedding: Embedding, training: np.ndarray) -> str | None:
    """Return that no training perturbation has a vector, (n, d), where that is so."""
    if np.isfinite(training).all(axis=1).any():
        return None
    return f"embedding {embedding.name!r} has none of the training perturbations"


def _changes(
    plan: ScreenRun, context: str, split: Split, given: dict[str, AlignedPredictions]
) -> dict[str, ThresholdPredictor]:
    """Return the models of expression and files of it as predictors of classes (method G2)."""
    control = plan.outsiders.controls[context]
    genes, everything = tuple(plan.screen.genes), frozenset(split.train + split.held_out)
    found = {}
    for name, method in plan.wanted.models.items():
        fitted = lru_cache(maxsize=1)(partial(_fitted_model, plan, context, split, method))
        found[name] = ThresholdPredictor(
            partial(_model_changes, fitted, control, genes),
            genes,
            everything,
            plan.wanted.threshold,
            False,
            digest(plan.labels.key, name, method.key),
            partial(_params_of, fitted),
        )
    for name, mine in given.items():
        if mine.predictions.kind == EXPRESSION:
            found[name] = thresholded_file(mine, control, plan.wanted.threshold)
    return found


def _fitted_model(
    plan: ScreenRun, context: str, split: Split, method: ExpressionMethod
) -> ExpressionModel:
    embedding = embedding_for(plan, context, split) if method.needs_embedding else None
    train = rows_of(plan.profiles(context), [CONTROL, *split.train])
    if isinstance(embedding, str):
        raise InputError(embedding)
    return method.fit(train, seed=split.seed, embedding=embedding, targets=plan.screen.targets)


def _model_changes(
    fitted: Callable[[], ExpressionModel],
    control: np.ndarray,
    genes: Sequence[str],
    names: Sequence[str],
) -> np.ndarray:
    predicted = fitted().predict(names).reindex({GENE: list(genes)})
    return (predicted.values - control).astype(np.float32)


def _params_of(fitted: Callable[[], ExpressionModel]) -> dict[str, Any]:
    return fitted().fitted_params()


def run_units(plan: RunRecord) -> None:
    """Run the units of classes, or take them from an earlier call; what failed is recorded."""
    with Progress(
        "methods", total=len(plan.units), unit="method", quiet=plan.log.quiet
    ) as progress:
        for unit in plan.units:
            matrix = plan.matrices[unit.context, unit.labels]
            with plan.log.stage("method", unit.title) as stage:
                stage.reused = is_done(plan.folder, unit, matrix, quiet=plan.log.quiet)
                if not stage.reused:
                    check_unit_replaceable(plan.folder / unit.folder)
                    plan.unmark()
                    run_unit(plan.folder, unit, matrix, plan.targets[unit.context])
            progress.advance()
    done = []
    for unit in plan.units:
        reason = failure(plan.folder, unit)
        if reason is None:
            done.append(unit)
        else:
            source = "" if unit.task == TASK else f" from {unit.source}"
            what = f"{unit.method} ({unit.labels}{source}, {unit.split.name})"
            plan.log.skip(what, unit.context, reason)
            plan.failed.append(unit)
    plan.units = done
