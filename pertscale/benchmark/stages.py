"""The stages of a run: what is listed of each screen, what runs, and what ends it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pertscale.baselines.expression.base import rows_of
from pertscale.benchmark.external import ExternalPredictions
from pertscale.benchmark.inputs import OpenedScreen
from pertscale.benchmark.left_out import leave_out
from pertscale.benchmark.options import BenchmarkOptions
from pertscale.benchmark.outputs import manifest, result_sums, write_tables
from pertscale.benchmark.report_tasks import ReportTask, write_on_cluster, write_page
from pertscale.benchmark.resampling.resample import resample_tables
from pertscale.benchmark.resampling.tables import RESAMPLES, scored_tables
from pertscale.benchmark.split_files import check_split_files
from pertscale.benchmark.state import ContextPlan, RunRecord, ScreenRun, records_of
from pertscale.benchmark.tasks.registry import tasks_of
from pertscale.benchmark.units.kept import is_kept, remove_superseded
from pertscale.benchmark.units.running import UnitPlan, run_units, unit_budget, unmark
from pertscale.diagnostics.progress import say
from pertscale.display import shown_path
from pertscale.errors import InputError, StorageError
from pertscale.io.checksums import FILES, write_record
from pertscale.io.parquet import declared_frame, write_table
from pertscale.predictions.given_split import coverage
from pertscale.predictions.predictions import CELLS, Predictions
from pertscale.report.findings import seen_genes
from pertscale.results.result import BenchmarkResult
from pertscale.schema import (
    CONFIDENT,
    CONTROL,
    MANIFEST_FILE,
    PERTURBATION,
    TIMING_COLUMNS,
    TIMINGS_FILE,
    TRANSFER,
    WITHIN,
    WORK_DIR,
)
from pertscale.screen import Screen, check_unchanged
from pertscale.splits import Split, with_seen_genes
from pertscale.stats.differential.options import RankSumOptions
from pertscale.stats.differential.rank_sum import (
    check_tables_replaceable,
    label_screen,
    prepare_run,
)
from pertscale.stats.labels.table import LabelTable, read_labels
from pertscale.stats.pseudobulk import open_pseudobulk

#: Why a method that is for labels with gaps is not fitted on full ones.
_NO_GAPS = (
    "every tested perturbation has a label of every gene, so neighbours that have one are the "
    "nearest; these methods are for curated pairs"
)


def plan_context(run: ScreenRun, context: str) -> None:
    """Split the perturbations of a context and list what to fit and score."""
    options, table = run.options, run.labels.perturbations
    tested = leave_out(run, context, table[(table["context"] == context) & table["tested"]])
    names = list(tested[PERTURBATION])
    if options.rule.given is not None:
        row = coverage(options.rule.given, run.screen, context, names, quiet=run.log.quiet)
        run.record.coverage.append(row)
    try:
        splits = options.rule.splits(names, run.screen.target_groups)
    except InputError as error:
        run.log.skip("all methods", context, str(error))
        return
    run.tell_splits(context, "perturbations", splits, len(names))
    _tell_genes(run, context, splits, names)
    run.class_splits[context] = splits
    settings = {}
    if {WITHIN, TRANSFER} & set(options.tasks):
        settings = _settings_by_labels(run, context, tested)
        for split in splits:
            run.record.keep_split(context, split)
    plan = ContextPlan(run=run, context=context, names=names, splits=splits, settings=settings)
    for task in tasks_of(options.tasks):
        task.plan(plan)


def _settings_by_labels(
    run: ScreenRun, context: str, tested: pd.DataFrame
) -> dict[str, tuple[str, ...]]:
    """Write the label matrices of a context; return which settings are scored on which."""
    options, changed = run.options, (tested["n_up"] + tested["n_down"]).any()
    if not changed:
        fewest, most = tested["n_cells"].min(), tested["n_cells"].max()
        cells = f"{fewest:,} cells each" if fewest == most else f"{fewest:,} to {most:,} cells each"
        why = f"no DE gene among {len(tested):,} perturbations, {cells}; classes can't be scored"
        run.record.without_changes[context] = why
        run.log.skip("classes", context, why)
    full = tuple(s for s in options.settings if s != "curated")
    if CONFIDENT in full and changed:
        try:
            run.confident[context] = run.confident_of(context)
        except InputError as error:
            run.log.skip(CONFIDENT, context, str(error))
    if context not in run.confident:
        full = tuple(s for s in full if s != CONFIDENT)
    same = [name for name, method in options.methods.items() if method.needs_gaps]
    if full and changed and same:
        run.log.skip(f"{', '.join(same)} (full)", context, _NO_GAPS)
    settings: dict[str, tuple[str, ...]] = {}
    if full:
        run.matrices[context, "full"] = run.matrix_of(context, "full")
        settings["full"] = full
    if "curated" in options.settings and changed:
        try:
            run.matrices[context, "curated"] = run.matrix_of(context, "curated")
            settings["curated"] = ("curated",)
        except InputError as error:
            run.log.skip("curated", context, str(error))
    return settings


def _tell_genes(
    run: ScreenRun, context: str, splits: Sequence[Split], names: Sequence[str]
) -> None:
    """Report which held-out genes are trained on, and perturbations with genes on both sides."""
    rule, record = run.options.rule, run.record
    for split in splits:
        row = {
            "context": context,
            "split": split.name,
            "n": len(split.held_out),
            "n_seen": len(with_seen_genes(split, groups=run.screen.target_groups)),
            "drawn": rule.given is None,
        }
        record.genes_seen.append(row)
        if rule.gene_disjoint:
            row = coverage(split, run.screen, context, names, quiet=run.log.quiet)
            record.coverage.append(row)
    for line in seen_genes(record.genes_seen, context):
        say(line, quiet=run.log.quiet)


@dataclass(frozen=True)
class RunResources:
    """What the stages of a run have to work with.

    Attributes
    ----------
    memory : str or int
        What the tasks of one process may hold together.
    client : Client, optional
    quiet : bool
    """

    memory: str | int
    client: Any
    quiet: bool


def plan_screen(
    opened: OpenedScreen,
    options: BenchmarkOptions,
    files: dict[str, list[Predictions]],
    testing: RankSumOptions,
    resources: RunResources,
) -> ScreenRun:
    """Label one screen and list the units of its own contexts."""
    screen, folder, log = opened.screen, opened.folder, opened.log
    labels = _label(opened, testing, options.replicates, resources)
    run = ScreenRun(
        record=RunRecord(
            folder=folder, options=options.on(screen), log=log, parents=opened.parents
        ),
        screen=screen,
        labels=labels,
        external=ExternalPredictions(
            files=files,
            screen=screen,
            controls=_controls(folder, screen),
            rule=options.rule,
            min_cells=testing.min_cells,
            min_knockdown=options.min_knockdown,
            alone=opened.alone,
        ),
    )
    if any(one.kind == CELLS for of_name in files.values() for one in of_name):
        with log.stage("predicted cells"):
            cells = folder / WORK_DIR / "cells"
            run.external.label_cells(cells, options=testing, **vars(resources))
    for context in run.labels.contexts:
        plan_context(run, context)
    check_split_files(run.record)
    for kind in {kind for _, kind in run.matrices}:
        used = [matrix.path for (_, one), matrix in run.matrices.items() if one == kind]
        remove_superseded(folder / WORK_DIR / kind, used)
    if run.confident:
        used = [matrix.path for matrix in run.confident.values()]
        remove_superseded(folder / WORK_DIR / CONFIDENT, used)
    return run


def _label(
    opened: OpenedScreen, testing: RankSumOptions, replicates: int, resources: RunResources
) -> LabelTable:
    """Return the labels of a screen, of an earlier call or new ones."""
    folder = opened.folder
    with opened.log.stage("labels") as stage:
        run = prepare_run(opened.screen, folder, testing, replicates=replicates)
        stage.reused = run.is_finished()  # label_screen tells of damage
        if stage.reused:
            run.remove_staging()
            return read_labels(folder)
        # the folder is of other labels, and no longer a result
        check_tables_replaceable(folder)
        unmark((*opened.parents, folder))
        return label_screen(
            opened.screen, folder, testing, replicates=replicates, **vars(resources)
        )


def plan_across(screens: Sequence[ScreenRun], record: RunRecord) -> None:
    """List what is trained on some contexts and predicts others."""
    for task in tasks_of(record.options.tasks):
        task.plan_across(screens, record)
    check_split_files(record)


def run_planned(screens: Sequence[ScreenRun], record: RunRecord, resources: RunResources) -> None:
    """Run what is listed, of all screens together, and what are no units."""
    records = records_of(record, screens)
    planned = [one.planned() for one in records]
    for one in records:
        one.tell_earlier_version()
    plan = UnitPlan(
        units=tuple(unit for units in planned for unit in units),
        learned=tuple(vectors for one in records for vectors in one.learned.values()),
        memory=unit_budget(resources.memory, resources.client),
    )
    receipts = iter(run_units(plan, client=resources.client, quiet=resources.quiet))
    for one, units in zip(records, planned, strict=True):
        one.take([next(receipts) for _ in units])
    for task in tasks_of(record.options.tasks):
        for screen in screens:
            task.run(screen)
    if record.options.intervals:
        _resample(records, screens, resources)


def _resample(
    records: Sequence[RunRecord], screens: Sequence[ScreenRun], resources: RunResources
) -> None:
    """Resample all tables of scores that are not kept of an earlier call."""
    tables = {one.folder: list(scored_tables(one, screens)) for one in records}
    every = [table for mine in tables.values() for table in mine]
    with records[0].log.stage("intervals") as stage:
        missing = [table for table in every if not is_kept(table.path)]
        stage.reused = not missing
        for one in records if missing else ():
            one.unmark()
        resample_tables(missing, client=resources.client, quiet=resources.quiet)
    for folder, mine in tables.items():
        remove_superseded(folder / WORK_DIR / RESAMPLES, [table.path for table in mine])


@dataclass(frozen=True)
class ResultPart:
    """What gets a folder with tables, a report and a manifest: a screen, or all of them.

    Attributes
    ----------
    record : RunRecord
    screens : sequence of ScreenRun
    """

    record: RunRecord
    screens: Sequence[ScreenRun]

    @property
    def screen(self) -> Screen | None:
        """The screen that it is of; None for several."""
        return self.screens[0].screen if self.screens[0].record is self.record else None


def finish_run(
    parts: Sequence[ResultPart], files: dict[str, list[Predictions]], resources: RunResources
) -> None:
    """Write tables and reports and, last, the manifests, which say that all is there.

    `parts` are the screens, or the whole run, which comes after them: it has their manifests.
    """
    contents = []
    for part in parts:
        part.record.unmark()
        write_tables(part.record, part.screens)
        contents.append(_content(part, files))
    _report(parts, contents, resources)
    for part, content in zip(parts, contents, strict=True):
        record = part.record
        for run in part.screens:  # tables and report read the stores, too
            check_unchanged(run.screen)
        sums = {FILES: result_sums(record, content)}
        write_record(record.folder / MANIFEST_FILE, {**content, **sums})
        report = BenchmarkResult(record.folder).report
        say(f"report: {shown_path(report)}", quiet=record.log.quiet)


def find_finished(
    parts: Sequence[ResultPart], files: dict[str, list[Predictions]], resources: RunResources
) -> None:
    """Check that read-only folders hold the results that are asked for."""
    for part in parts:
        folder = part.record.folder
        result = BenchmarkResult(folder)
        result.check()
        made, asked = result.manifest, _content(part, files)
        asked[FILES] = result_sums(part.record, asked)
        if any(made.get(key) != asked[key] for key in asked.keys() - {"versions", "blas"}):
            raise StorageError(
                f"{folder} can't be written to, and holds a benchmark with other options; write to "
                "another place (out=, --out)"
            )


def _content(part: ResultPart, files: dict[str, list[Predictions]]) -> dict[str, Any]:
    """Return what the manifest says of the tables that are there, without checksums."""
    record, screens = part.record, part.screens
    options = record.options
    asked = {
        "store": ", ".join(Path(run.screen.path).name for run in screens),
        "embedding": None if options.embedding is None else options.embedding.name,
        "predictions": {name: [one.name for one in of] for name, of in files.items()},
        "models": sorted(options.user_models),
        "tasks": list(options.tasks),
        "methods": [*options.methods, *options.models],
        "settings": list(options.settings),
        "threshold": options.threshold,
        "targets": options.targets,
        "intervals": options.intervals,
        "cluster": options.cluster,
        "reference": options.reference,
        "replicates": options.replicates,
        "exclude_test_perturbations": options.exclude_test_perturbations,
        **({} if options.min_knockdown is None else {"min_knockdown": options.min_knockdown}),
        **options.rule.as_dict(),
        **screens[0].labels.options,
    }
    return dict(json.loads(json.dumps(manifest(record, screens, asked), sort_keys=True)))  # as read


def _controls(folder: Path, screen: Screen) -> dict[str, np.ndarray]:
    """Return the mean log1p expression of the controls by context, (n_genes,) each."""
    return {
        context: rows_of(open_pseudobulk(folder, context=context)["mean_log1p"], [CONTROL]).values[
            0
        ]
        for context in screen.contexts
    }


def _report(
    parts: Sequence[ResultPart], contents: Sequence[dict[str, Any]], resources: RunResources
) -> None:
    """Write the reports, and the times before and after them: they show those of other stages."""
    tasks = []
    for part, content in zip(parts, contents, strict=True):
        _write_timings(part)
        name = "report" if part.screen is None else f"report of {Path(part.screen.path).name}"
        tasks.append(ReportTask(name, part.record.folder, content, part.screen))
    if resources.client is None or len(parts) == 1:
        for part, task in zip(parts, tasks, strict=True):
            with part.record.log.stage("report"):
                write_page(task)
    else:
        seconds = write_on_cluster(tasks, client=resources.client, quiet=resources.quiet)
        for part, taken in zip(parts, seconds, strict=True):
            part.record.log.add("report", "", taken)
    for part in parts:
        _write_timings(part)
        part.record.log.say_skipped()


def _write_timings(part: ResultPart) -> None:
    """Write the times of a part; of several screens, theirs among them."""
    of_screens = [run.log for run in part.screens if run.record is not part.record]
    rows = [row for log in (*of_screens, part.record.log) for row in log.timings]
    write_table(part.record.folder / TIMINGS_FILE, declared_frame(rows, TIMING_COLUMNS))
