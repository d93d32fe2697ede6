"""The units that a benchmark would run, planned by the code that plans the run.

Where there are labels already, the units are those of the run, and finished ones are known by their
hashes. Without labels names are enough for most of it: which perturbations are tested follows from
their cells, random vectors stand in for real ones, and curation is assumed to keep half of the
perturbations and 100 more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from pertscale.baselines import MeanExpression, NoChange
from pertscale.benchmark.external import ExternalPredictions
from pertscale.benchmark.knocked_down import measured_targets
from pertscale.benchmark.options import BenchmarkOptions
from pertscale.benchmark.run_log import RunLog
from pertscale.benchmark.stages import plan_context
from pertscale.benchmark.state import RunRecord, ScreenRun
from pertscale.benchmark.tasks.registry import tasks_of
from pertscale.benchmark.units.base import Unit
from pertscale.benchmark.units.class_unit import ClassUnit
from pertscale.benchmark.units.expression_unit import ExpressionUnit
from pertscale.benchmark.units.label_matrix import LabelMatrix, confident_matrix, label_matrix
from pertscale.benchmark.units.predictors import ClassifierPredictor
from pertscale.benchmark.vectors import TRAINING_DIM
from pertscale.embeddings.embedding import Embedding
from pertscale.evaluation.expression import N_GENES
from pertscale.io.parquet import declared_frame
from pertscale.predictions.given_split import check_names
from pertscale.schema import CONFIDENT, TARGET_COLUMNS, WORK_DIR
from pertscale.screen import Screen
from pertscale.stats.differential.rank_sum import RankSumRun
from pertscale.stats.labels.curation import Curation, curate
from pertscale.stats.labels.table import LabelTable, read_labels


@dataclass(frozen=True, kw_only=True)
class ExpectedUnit:
    """A unit that is to be run, by its size.

    Attributes
    ----------
    method : str
        Name of its method; empty for a unit of expression, which has all models.
    n_perturbations, n_test, n_genes : int
        Training and test perturbations together; test perturbations; genes.
    done : bool
        Whether an earlier call has done it.
    n_compared : int
        Values that predictions and truths are compared by, each prediction with every truth.
    """

    method: str
    n_perturbations: int
    n_test: int
    n_genes: int
    done: bool
    n_compared: int = 0


@dataclass(kw_only=True)
class _PlannedScreen(ScreenRun):
    """A plan that writes nothing."""

    labels_exist: bool = field(default=True)

    def matrix_of(self, context: str, kind: str) -> LabelMatrix:
        """Return the label matrix as it will be; only its names are there."""
        place = self.folder / WORK_DIR / kind
        if self.labels_exist:
            labels = self.labels
            if kind == "curated":
                labels = curate(self.labels_to_curate(context), context=context, recipe=Curation())
            return label_matrix(labels, context, place, write=False)
        table, genes = self.labels.perturbations, tuple(self.labels.genes)
        mine = table[(table["context"] == context) & table["tested"]]
        names = tuple(mine["perturbation"])
        if kind == "curated":
            recipe = Curation()
            kept = min(len(names), len(names) // 2 + recipe.n_null)
            chosen = np.random.default_rng(0).permutation(len(names))[:kept]
            names = tuple(names[i] for i in sorted(chosen))
            genes = genes[: max(1, round(len(genes) * (1 - recipe.gene_holdout)))]
        return LabelMatrix(place, names, genes, "")

    def confident_of(self, context: str) -> LabelMatrix:
        """Return the matrix of likely labels as it will be; only its names are there."""
        place = self.folder / WORK_DIR / CONFIDENT
        if self.labels_exist:
            return confident_matrix(self.labels, context, place, write=False)
        return LabelMatrix(place, (), (), "")

    def targets(self) -> pd.DataFrame:
        """Return what became of the targets; without labels that is not known of any."""
        if not self.labels_exist:
            return declared_frame([], TARGET_COLUMNS)
        return measured_targets(self.folder, self.labels)


def expected_units(
    jobs: Sequence[RankSumRun], folder: Path, options: BenchmarkOptions
) -> tuple[list[ExpectedUnit], list[ExpectedUnit], list[dict[str, str]]]:
    """Return the units of classes, those of expression, and what will be skipped, with reasons."""
    ready = all(job.is_finished(content=False) for job in jobs)
    if not ready and options.embedding is None:
        options = replace(options, embedding=_stand_in(jobs))
    if options.rule.given is not None:
        screens = [job.screen for job in jobs]
        check_names(options.rule.given, screens, options.aliases, quiet=True)
    runs = [_plan(job, options) for job in jobs]
    records = [run.record for run in runs]
    if len(runs) > 1:
        records.append(RunRecord(folder=folder, options=options, log=RunLog(quiet=True)))
    for task in tasks_of(options.tasks):
        task.plan_across(runs, records[-1])
    classes = [_of_classes(unit, record) for record in records for unit in record.units]
    profiles = [_of_expression(unit, record) for record in records for unit in record.expression]
    return classes, profiles, [row for record in records for row in record.log.skipped]


def _plan(job: RankSumRun, options: BenchmarkOptions) -> _PlannedScreen:
    screen, done = job.screen, job.is_finished(content=False)
    controls = {context: np.zeros(screen.n_genes) for context in screen.contexts}
    run = _PlannedScreen(
        record=RunRecord(folder=job.folder, options=options.on(screen), log=RunLog(quiet=True)),
        screen=screen,
        labels=read_labels(job.folder) if done else _labels_to_be(screen, job),
        external=ExternalPredictions(
            files={},
            screen=screen,
            controls=controls,
            rule=options.rule,
            min_cells=job.options.min_cells,
        ),
        labels_exist=done,
    )
    for context in run.labels.contexts:
        plan_context(run, context)
    return run


def _labels_to_be(screen: Screen, job: RankSumRun) -> LabelTable:
    """Return the label table of a screen as far as it is known from its groups."""
    groups = screen.groups
    groups = groups[~groups["is_control"]]
    names = groups["perturbation"]
    n_cells = screen.group_sizes[groups.index]
    table = pd.DataFrame(
        {
            "context": groups["context"],
            "perturbation": names,
            "targets": ["+".join(screen.targets[name]) for name in names],
            "n_cells": n_cells,
            "tested": n_cells >= job.options.min_cells,
            "n_up": 1,
            "n_down": 0,
        }
    ).reset_index(drop=True)
    return LabelTable(
        genes=screen.genes,
        perturbations=table,
        contexts=screen.contexts,
        options=job.options.as_dict(),
        key=job.key,
    )


def _stand_in(jobs: Sequence[RankSumRun]) -> Embedding:
    """Return vectors for all genes and targets, in place of those that are learned."""
    names: dict[str, None] = {}
    for job in jobs:
        names |= dict.fromkeys(job.screen.genes)
        names |= dict.fromkeys(g for mine in job.screen.targets.values() for g in mine)
    shape = len(names), TRAINING_DIM
    return Embedding("stand-in", tuple(names), np.random.default_rng(0).normal(size=shape))


def _of_classes(unit: ClassUnit, record: RunRecord) -> ExpectedUnit:
    predictor, n_train = unit.predictor, len(unit.split.train)
    if isinstance(predictor, ClassifierPredictor):
        n_train = len(predictor.training.names)
    return _size(unit, record, unit.method, (n_train, len(unit.matrix.genes)))


def _of_expression(unit: ExpressionUnit, record: RunRecord) -> ExpectedUnit:
    """Size of a unit of expression; models that predict the same for all are compared once."""
    n_models = sum(
        not isinstance(method.make(0), NoChange | MeanExpression) for method in unit.models.values()
    )
    size = _size(unit, record, "", unit.profiles.shape)
    return replace(size, n_compared=n_models * size.n_test**2 * min(size.n_genes, N_GENES))


def _size(unit: Unit, record: RunRecord, method: str, training: tuple[int, int]) -> ExpectedUnit:
    n_train, n_genes = training
    n_test = len(unit.split.held_out)
    done = unit.is_done(record.folder, content=False)
    return ExpectedUnit(
        method=method,
        n_perturbations=n_train + n_test,
        n_test=n_test,
        n_genes=n_genes,
        done=done,
    )
