"""Classes within a context, on full and curated tables: planned and run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pertscale.baselines.registry import CLASS_FLOORS, ON_HALVES, REPLICATE
from pertscale.benchmark.state import ContextPlan, ScreenRun
from pertscale.benchmark.tasks.base import Task
from pertscale.benchmark.units.changes import ModelChanges
from pertscale.benchmark.units.class_unit import ClassUnit, Predictor
from pertscale.benchmark.units.learned import Vectors, covered
from pertscale.benchmark.units.predictors import (
    ClassifierPredictor,
    FilePredictor,
    ThresholdPredictor,
    TrainingLabels,
    TrainingSet,
    thresholded_file,
)
from pertscale.benchmark.units.profiles import OwnProfiles
from pertscale.benchmark.units.replicate_unit import HalvesUnit, ReplicatePredictor
from pertscale.benchmark.vectors import has_none, learned_from, vectors_for
from pertscale.diagnostics.progress import say
from pertscale.errors import InputError
from pertscale.hashing import digest
from pertscale.predictions.predictions import EXPRESSION, AlignedPredictions
from pertscale.report.findings import without_vectors
from pertscale.schema import WITHIN
from pertscale.splits import Split


class Within(Task):
    """Classes of held-out perturbations, by methods fitted on the others of the context."""

    name = WITHIN

    def plan(self, context: ContextPlan) -> None:
        """List the units of all splits, on full and on curated labels."""
        run = context.run
        for split in context.splits:
            if context.context not in run.record.without_changes:
                _plan_split(run, context.context, split, context.settings)
        for line in without_vectors(run.record.vectors_lack, context.context):
            say(line, quiet=run.log.quiet)


def _plan_split(
    run: ScreenRun, context: str, split: Split, settings: Mapping[str, tuple[str, ...]]
) -> None:
    """List the units of one split."""
    if any(method.needs_embedding for method in run.options.methods.values()):
        run.record.vectors_lack.append(_lacking(run, context, split))
    given = run.external.for_split(context, split, log=run.log)
    changes = _changes(run, context, split, given)
    classes = {
        name: FilePredictor(predictions)
        for name, predictions in given.items()
        if predictions.predictions.kind != EXPRESSION
    }
    for kind, of_kind in settings.items():
        matrix = run.matrices[context, kind]
        try:
            usable = split.restrict(matrix.perturbations)
        except InputError as error:
            left = "curation keeps none of its test perturbations, or none of its training ones"
            why = left if kind == "curated" else str(error)
            run.log.skip(f"{kind}, {split.name}", context, why)
            continue
        predictors: dict[str, Predictor] = {
            **_classifiers(run, context, split, kind, usable.train),
            **changes,
            **classes,
        }
        of_all: dict[str, Any] = {
            "task": WITHIN,
            "context": context,
            "split": usable,
            "target_genes": run.screen.targets,
            "labels": kind,
            "matrix": matrix,
            "settings": of_kind,
            "intervals": run.options.intervals,
            "confident": run.confident.get(context) if kind == "full" else None,
        }
        run.record.units += [
            ClassUnit(method=name, predictor=predictor, **of_all)
            for name, predictor in predictors.items()
        ]
        halves = run.halves(context)
        if halves is None:
            continue
        floors = {f"{name}{ON_HALVES}": p for name, p in predictors.items() if name in CLASS_FLOORS}
        run.record.units += [
            HalvesUnit(method=name, predictor=predictor, halves=halves, **of_all)
            for name, predictor in {REPLICATE: ReplicatePredictor(halves), **floors}.items()
        ]


def _classifiers(
    run: ScreenRun, context: str, split: Split, kind: str, train: tuple[str, ...]
) -> dict[str, ClassifierPredictor]:
    """Return the methods on labels of a kind; those that lack vectors are skipped."""
    groups = run.screen.target_groups
    labels = TrainingLabels(run.matrices[context, kind], train)
    training = TrainingSet((labels,), tuple(groups[n] for n in train))
    classifiers = {}
    for name, method in run.options.methods_on(kind).items():
        vectors = vectors_for(run, context, split) if method.needs_embedding else None
        reason = _no_vectors(run, vectors, train)
        if reason is None:
            classifiers[name] = ClassifierPredictor(
                method=method,
                training=training,
                test_groups=groups,
                embedding=None if isinstance(vectors, str) else vectors,
                targets=run.screen.targets,
            )
        else:
            run.log.skip(f"{name} ({kind}, {split.name})", context, reason)
    return classifiers


def _lacking(run: ScreenRun, context: str, split: Split) -> dict[str, Any]:
    """Count the held-out perturbations without a vector, for which methods call the majority."""
    found, n = vectors_for(run, context, split), len(split.held_out)
    n_lacking = n
    if not isinstance(found, str):
        n_lacking -= int(covered(found, split.held_out, targets=run.screen.targets).sum())
    given = None if run.options.embedding is None else run.options.embedding.name
    return {
        "context": context,
        "split": split.name,
        "n": n,
        "n_lacking": n_lacking,
        "embedding": given,
    }


def _no_vectors(run: ScreenRun, vectors: Vectors | str | None, train: Sequence[str]) -> str | None:
    """Return why a method that needs vectors can't run, or None."""
    if vectors is None or isinstance(vectors, str):
        return vectors
    return has_none(vectors, train, targets=run.screen.targets)


def _changes(
    run: ScreenRun, context: str, split: Split, given: dict[str, AlignedPredictions]
) -> dict[str, ThresholdPredictor]:
    """Return the models of expression and files of it as predictors of classes (method G2)."""
    control = run.external.controls[context]
    genes, everything = tuple(run.screen.genes), frozenset(split.train + split.held_out)
    components = learned_from(run, context, split.train)
    found = {}
    for name, method in run.options.models.items():
        vectors = vectors_for(run, context, split) if method.needs_embedding else None
        hashed = vectors if isinstance(vectors, str) else "" if vectors is None else vectors.hash
        found[name] = ThresholdPredictor(
            changes=ModelChanges(
                method=method,
                profiles=OwnProfiles(run.profiles[context], split.train, components),
                embedding=vectors,
                targets=run.screen.targets,
                seed=split.seed,
            ),
            genes=genes,
            covered=everything,
            rule=run.options.threshold,
            is_file=False,
            source_key=digest(run.labels.key, name, method.version, method.key, hashed),
        )
    for name, mine in given.items():
        if mine.predictions.kind == EXPRESSION:
            found[name] = thresholded_file(mine, control, run.options.threshold)
    return found
