"""The units that a benchmark will run, before it does: planned by the code that plans the run.

Where labels are there already, the units are those of the run, and those that are done are known by
their hashes. Where they are not, names are enough for most of it: which perturbations are tested
follows from their cells, vectors are stood in for by drawn ones, and curation is assumed to keep
half of the perturbations and 100 more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pertscale.baselines import MeanExpression, NoChange
from pertscale.benchmark.external import ExternalPredictions
from pertscale.benchmark.options import BenchmarkOptions
from pertscale.benchmark.run_log import RunLog
from pertscale.benchmark.stages import plan_context
from pertscale.benchmark.state import RunRecord, ScreenRun
from pertscale.benchmark.tasks.transfer import plan_transfer
from pertscale.benchmark.units import class_unit, expression_unit
from pertscale.benchmark.units.label_matrix import LabelMatrix, label_matrix
from pertscale.benchmark.units.predictors import ClassifierPredictor
from pertscale.benchmark.vectors import TRAINING_DIM
from pertscale.embeddings.embedding import Embedding
from pertscale.evaluation.expression import N_GENES
from pertscale.predictions.given_split import check_names
from pertscale.schema import TRANSFER, WORK_DIR
from pertscale.screen import Screen
from pertscale.stats.differential.rank_sum import RankSumRun
from pertscale.stats.labels.curation import Curation, curate
from pertscale.stats.labels.table import LabelTable, read_labels


@dataclass(frozen=True)
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
                labels = curate(labels, context=context, recipe=Curation())
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


def expected_units(
    jobs: Sequence[RankSumRun], folder: Path, wanted: BenchmarkOptions
) -> tuple[list[ExpectedUnit], list[ExpectedUnit], list[dict[str, str]]]:
    """Return the units of classes, those of expression, and what will be skipped, with reasons."""
    ready = all(job.is_finished(content=False) for job in jobs)
    if not ready and wanted.embedding is None:
        wanted = replace(wanted, embedding=_stand_in(jobs))
    if wanted.how.given is not None:
        check_names(wanted.how.given, [job.screen for job in jobs], wanted.aliases, quiet=True)
    plans = [_plan(job, wanted) for job in jobs]
    together = len(plans) > 1
    runs = RunRecord(folder=folder, wanted=wanted, log=RunLog(quiet=True)) if together else plans[0]
    classes = [_of_classes(plan, unit) for plan in plans for unit in plan.units]
    profiles = [_of_expression(plan, unit) for plan in plans for unit in plan.expression]
    if TRANSFER in wanted.tasks:
        runs.units = []
        transferred = plan_transfer(plans, runs)
        classes += [_of_classes(runs, unit) for unit in runs.units]
        profiles += [
            _profiles(
                one.unit,
                len(one.names),
                len(one.target.genes),
                expression_unit.is_done(runs.folder, one.unit, one.inputs, content=False),
            )
            for one in transferred
        ]
    logs = [plan.log for plan in plans] + ([runs.log] if together else [])
    return classes, profiles, [row for log in logs for row in log.skipped]


def _plan(job: RankSumRun, wanted: BenchmarkOptions) -> _PlannedScreen:
    screen, done = job.screen, job.is_finished(content=False)
    labels = read_labels(job.folder) if done else _labels_to_be(screen, job)
    controls = {context: np.zeros(screen.n_genes) for context in screen.contexts}
    plan = _PlannedScreen(
        folder=job.folder,
        wanted=wanted.on(screen),
        log=RunLog(quiet=True),
        screen=screen,
        labels=labels,
        outsiders=ExternalPredictions(
            {}, screen, controls, rule=wanted.how, min_cells=job.options.min_cells
        ),
        labels_exist=done,
    )
    for context in labels.contexts:
        plan_context(plan, context)
    return plan


def _labels_to_be(screen: Screen, job: RankSumRun) -> LabelTable:
    """Return the label table of a screen as far as it is known from its groups."""
    groups = screen.groups
    groups = groups[~groups["is_control"]]
    names = groups["perturbation"]
    n_cells = groups["stop"] - groups["start"]
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
    return LabelTable(screen.genes, table, screen.contexts, job.options.as_dict(), job.key)


def _stand_in(jobs: Sequence[RankSumRun]) -> Embedding:
    """Return vectors for all genes and targets, in place of those that are learned."""
    names: dict[str, None] = {}
    for job in jobs:
        names |= dict.fromkeys(job.screen.genes)
        names |= dict.fromkeys(g for mine in job.screen.targets.values() for g in mine)
    shape = len(names), TRAINING_DIM
    return Embedding("stand-in", tuple(names), np.random.default_rng(0).normal(size=shape))


def _of_classes(runs: RunRecord, unit: class_unit.ClassUnit) -> ExpectedUnit:
    matrix = runs.matrices[unit.context, unit.labels]
    predictor, n_train = unit.predictor, len(unit.split.train)
    if isinstance(predictor, ClassifierPredictor):
        n_train = sum(len(part.names) for part in predictor.training)
    done = class_unit.is_done(runs.folder, unit, matrix, content=False)
    return _size(unit.method, unit, n_train, len(matrix.genes), done)


def _of_expression(plan: ScreenRun, unit: expression_unit.ExpressionUnit) -> ExpectedUnit:
    done = expression_unit.is_done(plan.folder, unit, plan.labels.key, content=False)
    return _profiles(unit, len(unit.split.train), plan.screen.n_genes, done)


def _profiles(
    unit: expression_unit.ExpressionUnit, n_train: int, n_genes: int, done: bool
) -> ExpectedUnit:
    """Size of a unit of expression; models that predict the same for all are compared once."""
    n_models = sum(
        not isinstance(method.make(0), NoChange | MeanExpression) for method in unit.models.values()
    )
    found = _size("", unit, n_train, n_genes, done)
    return replace(found, n_compared=n_models * found.n_test**2 * min(n_genes, N_GENES))


def _size(method: str, unit: Any, n_train: int, n_genes: int, done: bool) -> ExpectedUnit:
    n_test = len(unit.split.held_out)
    return ExpectedUnit(method, n_train + n_test, n_test, n_genes, done)
