"""The stages of one screen, and what ends a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pertscale.baselines.expression.base import rows_of
from pertscale.benchmark.external import ExternalPredictions
from pertscale.benchmark.inputs import parents_of
from pertscale.benchmark.options import BenchmarkOptions
from pertscale.benchmark.outputs import manifest, result_sums, write_tables
from pertscale.benchmark.run_log import RunLog
from pertscale.benchmark.split_files import check_split_files
from pertscale.benchmark.state import RunRecord, ScreenRun, keep_split, tell_splits, unmark
from pertscale.benchmark.tasks.expression import plan_expression, run_expression
from pertscale.benchmark.tasks.within import label_kinds, plan_classes, run_units
from pertscale.benchmark.units.class_unit import TASK, compute_here
from pertscale.benchmark.units.label_matrix import remove_superseded
from pertscale.diagnostics.progress import say
from pertscale.display import shown_path
from pertscale.errors import InputError, StorageError
from pertscale.io.checksums import FILES, write_record
from pertscale.io.parquet import declared_frame, write_table
from pertscale.predictions.given_split import coverage
from pertscale.predictions.predictions import CELLS, Predictions
from pertscale.report import write_report
from pertscale.report.findings import seen_genes, without_vectors
from pertscale.results.result import BenchmarkResult
from pertscale.schema import (
    CONTROL,
    MANIFEST_FILE,
    PERTURBATION,
    TIMING_COLUMNS,
    TIMINGS_FILE,
    TRANSFER,
    WORK_DIR,
)
from pertscale.screen import Screen, check_unchanged
from pertscale.splits import Split, with_seen_genes
from pertscale.stats.differential.options import RankSumOptions
from pertscale.stats.differential.rank_sum import (
    check_tables_replaceable,
    is_finished,
    labels_key,
    rank_sum,
)
from pertscale.stats.labels.table import read_labels
from pertscale.stats.pseudobulk import open_pseudobulk


def plan_context(plan: ScreenRun, context: str) -> None:
    """Split the perturbations of a context and list what to fit and score."""
    given = plan.wanted.how.given
    table = plan.labels.perturbations
    mine = table[(table["context"] == context) & table["tested"]]
    groups = plan.screen.target_groups
    names = list(mine[PERTURBATION])
    if given is not None:
        quiet = plan.log.quiet
        plan.coverage.append(coverage(given, plan.screen, context, names, quiet=quiet))
    try:
        splits = plan.wanted.how.splits(names, groups)
    except InputError as error:
        plan.log.skip("all methods", context, str(error))
        return
    tell_splits(plan, context, "perturbations", splits, len(names))
    _tell_genes(plan, context, splits, names)
    plan.class_splits[context] = splits
    plan.targets[context] = plan.screen.targets
    if {TASK, TRANSFER} & set(plan.wanted.tasks):
        tables = label_kinds(plan, context, mine)
        for split in splits:
            keep_split(plan, context, split)
            if TASK in plan.wanted.tasks:
                plan_classes(plan, context, split, tables, groups)
        for line in without_vectors(plan.vectors_lack, context):
            say(line, quiet=plan.log.quiet)
    if plan.wanted.models or plan.outsiders.files:
        plan_expression(plan, context, names, splits)


def _tell_genes(
    plan: ScreenRun, context: str, splits: Sequence[Split], names: Sequence[str]
) -> None:
    """Tell whose genes are trained on, and what is in no part as its genes are on both sides."""
    how, groups = plan.wanted.how, plan.screen.target_groups
    for split in splits:
        plan.genes_seen.append(
            {
                "context": context,
                "split": split.name,
                "n": len(split.held_out),
                "n_seen": len(with_seen_genes(split, groups=groups)),
                "drawn": how.given is None,
            }
        )
        if how.gene_disjoint:
            row = coverage(split, plan.screen, context, names, quiet=plan.log.quiet)
            plan.coverage.append(row)
    for line in seen_genes(plan.genes_seen, context):
        say(line, quiet=plan.log.quiet)


def run_screen(
    screen: Screen,
    log: RunLog,
    folder: Path,
    wanted: BenchmarkOptions,
    files: dict[str, list[Predictions]],
    alone: bool,
    testing: dict[str, Any],
    how: dict[str, Any],
) -> ScreenRun:
    """Label one screen and run all units of its own contexts."""
    parents = parents_of(folder, alone)
    with log.stage("labels") as stage:
        stage.reused = is_finished(folder, labels_key(screen, RankSumOptions(**testing)))
        if not stage.reused:  # what is there is of other labels, and no result any more
            check_tables_replaceable(folder)
            unmark(*parents, folder)
            labels = rank_sum(screen, out=folder, **testing, **how)
        else:
            labels = read_labels(folder)
    outsiders = ExternalPredictions(
        files,
        screen,
        _controls(folder, screen),
        rule=wanted.how,
        min_cells=labels.options["min_cells"],
        alone=alone,
    )
    if any(one.kind == CELLS for mine in files.values() for one in mine):
        with log.stage("predicted cells"):
            outsiders.label_cells(folder / WORK_DIR / "cells", **testing, **how)
    plan = ScreenRun(
        folder=folder,
        wanted=wanted.on(screen),
        log=log,
        parents=parents,
        screen=screen,
        labels=labels,
        outsiders=outsiders,
    )
    for context in labels.contexts:
        plan_context(plan, context)
    check_split_files(plan)
    for kind in {kind for _, kind in plan.matrices}:
        mine = [matrix for (_, one), matrix in plan.matrices.items() if one == kind]
        remove_superseded(folder / WORK_DIR / kind, mine)
    with compute_here(how["client"], plan.n_pairs):
        run_units(plan)
        run_expression(plan)
    return plan


def finish_run(
    runs: RunRecord, plans: Sequence[ScreenRun], files: dict[str, list[Predictions]]
) -> BenchmarkResult:
    """Write tables and report and, last, the manifest, which says that all is there."""
    runs.unmark()
    write_tables(runs, plans)
    content = _content(runs, plans, files)
    _report(runs, plans, content)
    for plan in plans:  # tables and report read of the stores, too
        check_unchanged(plan.screen)
    write_record(runs.folder / MANIFEST_FILE, content)
    result = BenchmarkResult(runs.folder)
    say(f"report: {shown_path(result.report)}", quiet=runs.log.quiet)
    return result


def find_finished(
    runs: RunRecord, plans: Sequence[ScreenRun], files: dict[str, list[Predictions]]
) -> BenchmarkResult:
    """Return the result in a folder that can't be written to, if it is the one asked for."""
    result = BenchmarkResult(runs.folder)
    result.check()
    made, asked = result.manifest, _content(runs, plans, files)
    if any(made.get(key) != asked[key] for key in asked.keys() - {"versions", "blas"}):
        raise StorageError(
            f"{runs.folder} can't be written to, and holds a benchmark with other options; write "
            "to another place (out=, --out)"
        )
    return result


def _content(
    runs: RunRecord, plans: Sequence[ScreenRun], files: dict[str, list[Predictions]]
) -> dict[str, Any]:
    """Return what the manifest says of the tables that are there."""
    wanted = runs.wanted
    options = {
        "store": ", ".join(Path(plan.screen.path).name for plan in plans),
        "embedding": None if wanted.embedding is None else wanted.embedding.name,
        "predictions": {name: [one.name for one in mine] for name, mine in files.items()},
        "models": sorted(wanted.own),
        "tasks": list(wanted.tasks),
        "methods": [*wanted.methods, *wanted.models],
        "settings": list(wanted.settings),
        "threshold": wanted.threshold,
        "targets": wanted.targets,
        "exclude_test_perturbations": wanted.exclude_test_perturbations,
        **wanted.how.as_dict(),
        **plans[0].labels.options,
    }
    content: dict[str, Any] = json.loads(
        json.dumps(manifest(runs, plans, options), sort_keys=True)
    )  # as read
    return {**content, FILES: result_sums(runs, content)}


def _controls(folder: Path, screen: Screen) -> dict[str, np.ndarray]:
    """Return the mean log1p expression of the controls by context, (n_genes,) each."""
    return {
        context: rows_of(open_pseudobulk(folder, context=context)["mean_log1p"], [CONTROL]).values[
            0
        ]
        for context in screen.contexts
    }


def _report(runs: RunRecord, plans: Sequence[ScreenRun], content: dict[str, Any]) -> None:
    """Write the report, and the times before and after it: it shows those of the other stages."""
    folder, alone = runs.folder, plans[0] is runs
    timings = [] if alone else [row for plan in plans for row in plan.log.timings]

    def write_timings() -> None:
        rows = [*timings, *runs.log.timings]
        write_table(folder / TIMINGS_FILE, declared_frame(rows, TIMING_COLUMNS))

    write_timings()
    with runs.log.stage("report"):
        write_report(BenchmarkResult(folder, content), plans[0].screen if alone else None)
    write_timings()
    runs.log.say_skipped()
