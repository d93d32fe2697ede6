"""The tables and the manifest of a benchmark, from what its units left."""

from __future__ import annotations

import platform
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pertscale.benchmark.inputs import INGESTED_STORE
from pertscale.benchmark.resampling.resample import INTERVAL_COLUMNS, INTERVALS_FILE
from pertscale.benchmark.resampling.tables import ScoredTable, scored_tables
from pertscale.benchmark.split_files import SPLITS_RECORD, split_file, write_split_files
from pertscale.benchmark.state import RunRecord, ScreenRun, records_of
from pertscale.benchmark.tasks.registry import ALL_TASKS
from pertscale.benchmark.tasks.transfer import averages, of_one_source
from pertscale.benchmark.units.base import BLAS, UNIT_FILES
from pertscale.benchmark.units.learned import opened
from pertscale.embeddings.embedding import Embedding
from pertscale.errors import ExistsError
from pertscale.execution.blas_build import blas_libraries
from pertscale.io.checksums import Sums, sums_of
from pertscale.io.parquet import (
    ROW_GROUP_ROWS,
    arrow_table,
    declared_frame,
    plain_schema,
    read_arrow,
    read_table,
    stacked,
    table_file,
    write_table,
)
from pertscale.io.store.layout import STORE_FILES
from pertscale.report.findings import NEEDED_SCORES, findings
from pertscale.results.averages import averaged_scores
from pertscale.results.unit_files import UNIT_FILE, read_unit
from pertscale.schema import (
    CALIBRATION_COLUMNS,
    CALIBRATION_FILE,
    COMPARISON_COLUMNS,
    COMPARISONS_FILE,
    COVERAGE_COLUMNS,
    COVERAGE_FILE,
    DROP_COLUMNS,
    DROPS_FILE,
    ESTIMATE_COLUMNS,
    ESTIMATES_FILE,
    HALVES_DIR,
    INTERACTIONS_FILE,
    INTERVAL,
    LABELS_DIR,
    LOG_FILE,
    MANIFEST_FILE,
    NULL_CALIBRATION_COLUMNS,
    NULL_CALIBRATION_FILE,
    NULLS_DIR,
    PREDICTIONS_DIR,
    PSEUDOBULK_DIR,
    RANK_COLUMNS,
    RANKS_FILE,
    REPORT_FILE,
    REPRODUCIBILITY_COLUMNS,
    REPRODUCIBILITY_FILE,
    SCORE_COLUMNS,
    SCORES_FILE,
    SKIPPED_COLUMNS,
    SKIPPED_FILE,
    SPLITS_DIR,
    STRATA_COLUMNS,
    STRATA_FILE,
    TARGET_COLUMNS,
    TARGETS_FILE,
    TIMINGS_FILE,
    UNIT_SCORE_COLUMNS,
    WORK_DIR,
)
from pertscale.stats.differential.rank_sum import TABLE_FILES
from pertscale.stats.half_agreement import reproducibility
from pertscale.stats.null_tests import null_calibration
from pertscale.storage.locations import Location, Remote
from pertscale.storage.own_files import remove_ours
from pertscale.storage.publish import OutputLayout
from pertscale.versions import SCHEMA_VERSION

_FILES = "|".join(
    (
        TABLE_FILES,
        rf"{PREDICTIONS_DIR}(?:/[^/]+){{4}}/(?:{UNIT_FILES})",
        rf"{INGESTED_STORE}/(?:{STORE_FILES})",
    )
)
#: What is published on object storage.
LAYOUT = OutputLayout(
    (
        LABELS_DIR,
        PSEUDOBULK_DIR,
        HALVES_DIR,
        NULLS_DIR,
        SPLITS_DIR,
        PREDICTIONS_DIR,
        INGESTED_STORE,
        "screens",
        WORK_DIR,
    ),
    MANIFEST_FILE,
    keep=True,
    files=rf"\{WORK_DIR}/.*|(?:screens/[^/]+/)?(?:[^/]+|{_FILES})|screens/[^/]+/\{WORK_DIR}/.*",
    recorded=(SPLITS_DIR, f"{WORK_DIR}/{SPLITS_RECORD}"),
)

#: Threads that read the scores of units, and units whose scores are in memory together.
_READERS, _UNITS_AT_A_TIME = 4, 64
#: Tables that are made of all scores of a table of methods.
OF_TABLES = {
    ESTIMATES_FILE: ESTIMATE_COLUMNS,
    COMPARISONS_FILE: COMPARISON_COLUMNS,
    RANKS_FILE: RANK_COLUMNS,
    CALIBRATION_FILE: CALIBRATION_COLUMNS,
    STRATA_FILE: STRATA_COLUMNS,
}
#: Those that averages are made of.
_AVERAGED = (ESTIMATES_FILE, RANKS_FILE, CALIBRATION_FILE)
#: Tables in the output folder.
TABLES = (
    SCORES_FILE,
    *OF_TABLES,
    INTERACTIONS_FILE,
    TARGETS_FILE,
    NULL_CALIBRATION_FILE,
    REPRODUCIBILITY_FILE,
    DROPS_FILE,
    COVERAGE_FILE,
    SKIPPED_FILE,
)


def write_tables(record: RunRecord, screens: Sequence[ScreenRun]) -> None:
    """Write all tables, of the run and of its screens, whose records may be the same one."""
    _clear(record)
    write_split_files(record)
    records, folder = records_of(record, screens), record.folder
    skipped = [row for one in records for row in one.log.skipped]
    coverage = [row for one in records for row in one.coverage]
    for run in screens:
        coverage += [*run.external.coverage, *_embedding_coverage(run)]
    for task in ALL_TASKS:
        task.write_tables(folder, screens)
    contexts = {unit.context for one in records for unit in (*one.units, *one.expression)}
    tables = [table for one in records for table in scored_tables(one, screens)]
    tables = tables if record.options.intervals else []
    _write_scores(folder, _scores(records, screens), contexts, _intervals(tables))
    for name, columns in OF_TABLES.items():
        with table_file(folder / name, declared=columns) as write:
            for table in tables:
                write(read_arrow(table.path / name, columns))
    targets = [run.targets() for run in screens]
    write_table(folder / TARGETS_FILE, stacked(targets, TARGET_COLUMNS))
    nulls = [null_calibration(run.folder) for run in screens if run.options.replicates]
    write_table(folder / NULL_CALIBRATION_FILE, stacked(nulls, NULL_CALIBRATION_COLUMNS))
    agreement = [reproducibility(run.folder) for run in screens if run.options.replicates]
    write_table(folder / REPRODUCIBILITY_FILE, stacked(agreement, REPRODUCIBILITY_COLUMNS))
    write_table(folder / DROPS_FILE, stacked(list(map(_drops, screens)), DROP_COLUMNS))
    write_table(folder / COVERAGE_FILE, declared_frame(coverage, COVERAGE_COLUMNS))
    write_table(folder / SKIPPED_FILE, declared_frame(skipped, SKIPPED_COLUMNS))


def _scores(records: Sequence[RunRecord], screens: Sequence[ScreenRun]) -> Iterator[pa.Table]:
    """Yield the scores of all units, then those that are of none."""
    with ThreadPoolExecutor(_READERS) as pool:
        for one in records:
            units = [*one.units, *one.expression]
            for start in range(0, len(units), _UNITS_AT_A_TIME):
                some = units[start : start + _UNITS_AT_A_TIME]
                yield from pool.map(lambda unit, folder=one.folder: unit.scores(folder), some)
    for task in ALL_TASKS:
        yield from (arrow_table(table, UNIT_SCORE_COLUMNS) for table in task.scores(screens))


def _intervals(tables: Sequence[ScoredTable]) -> pd.DataFrame:
    """Return the intervals of the scores of single splits, by what says whose they are."""
    found = [read_table(table.path / INTERVALS_FILE) for table in tables]
    keys = [c.name for c in INTERVAL_COLUMNS if c.name not in (*INTERVAL, "value")]
    return stacked(found, INTERVAL_COLUMNS).set_index(keys)[INTERVAL]


def _write_scores(
    folder: Path, tables: Iterator[pa.Table], contexts: Collection[str], intervals: pd.DataFrame
) -> None:
    """Write scores as they come, as all together may be large; rows of no perturbation are last.

    Those are few, and in row groups of their own, so that they can be read without the others.
    """
    means, waiting = [], []
    with table_file(folder / SCORES_FILE, declared=SCORE_COLUMNS) as write:
        for table in tables:
            some, single = _apart(table)
            means.append(some.to_pandas())
            waiting.append(single)
            if sum(map(len, waiting)) > ROW_GROUP_ROWS:
                write(_without_intervals(pa.concat_tables(waiting)))
                waiting.clear()
        if waiting:
            write(_without_intervals(pa.concat_tables(waiting)))
        found = stacked(means, UNIT_SCORE_COLUMNS)
        found = stacked([found, averages(of_one_source(found, contexts))], UNIT_SCORE_COLUMNS)
        found = found.join(intervals, on=intervals.index.names)
        write(found.fillna({"n_clusters": 0}).astype({"n_clusters": np.int64}))


def _without_intervals(table: pa.Table) -> pa.Table:
    """Add the columns of intervals, which single perturbations have none of."""
    nothing = {"n_clusters": np.zeros(len(table), np.int64)}
    for name in INTERVAL:
        table = table.append_column(name, pa.array(nothing.get(name, np.full(len(table), np.nan))))
    return table.cast(plain_schema(SCORE_COLUMNS))


def _apart(table: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Return the rows of no single perturbation, and the others, which units have at the end."""
    single = pc.equal(table["level"], "perturbation")
    n = len(table) - (pc.sum(single).as_py() or 0)
    if pc.any(single.slice(0, n)).as_py():  # of an earlier version
        return table.filter(pc.invert(single)), table.filter(single)
    return table.slice(0, n), table.slice(n)


def _clear(record: RunRecord) -> None:
    """Remove the predictions that an earlier call left and this one does not ask for."""
    wanted = {unit.folder for unit in (*record.units, *record.failed, *record.expression)}
    for marker in sorted((record.folder / PREDICTIONS_DIR).glob(f"*/*/*/*/{UNIT_FILE}")):
        if marker.parent.relative_to(record.folder).as_posix() not in wanted:
            remove_ours(marker.parent, UNIT_FILES)
            for parent in list(marker.parents)[1:4]:  # split, labels, context
                if not any(parent.iterdir()):
                    parent.rmdir()


def _embedding_coverage(run: ScreenRun) -> list[dict[str, Any]]:
    """Which perturbations and genes have a vector: of the methods', and of models' own."""
    rows = [
        _covered(run, opened(vectors), context, split, vectors.name)
        for (context, split), vectors in run.vectors.items()
    ]
    for name, method in run.options.models.items():
        if name in run.options.user_models:
            for value in method.make(0).get_params(deep=False).values():
                if isinstance(value, Embedding):
                    rows += [
                        _covered(run, value, context, "", f"{name}: {value.name}")
                        for context in run.labels.contexts
                    ]
    return rows


def _covered(
    run: ScreenRun, embedding: Embedding, context: str, split: str, name: str
) -> dict[str, Any]:
    names = list(run.screen.context_groups(context)["perturbation"][1:])
    genes = list(run.screen.genes)
    found = embedding.coverage(names, targets=run.screen.targets)["covered"].to_numpy()
    there = embedding.coverage(genes)["covered"].to_numpy()
    return {
        "what": "embedding",
        "name": name,
        "context": context,
        "split": split,
        "n_perturbations": len(names),
        "n_perturbations_predicted": int(found.sum()),
        "perturbations_missing": _missing(names, found),
        "n_genes": len(genes),
        "n_genes_predicted": int(there.sum()),
        "genes_missing": _missing(genes, there),
        "not_in_screen": "",
        "note": "",
    }


def _missing(names: list[str], found: np.ndarray) -> str:
    return ",".join(name for name, there in zip(names, found, strict=True) if not there)


def _drops(run: ScreenRun) -> pd.DataFrame:
    """Cells and genes that ingest left out, and perturbations that are neither split nor scored."""
    table = run.labels.perturbations
    untested = table.loc[~table["tested"], ["context", "perturbation", "reason"]]
    kept_target = [(c, name, why) for c, of in run.left_out.items() for name, why in of.items()]
    perturbations = [
        {
            "kind": "perturbation",
            "name": name,
            "context": context,
            "source": Path(run.screen.path).name,
            "row": -1,
            "label": name,
            "reason": reason,
        }
        for context, name, reason in [*untested.itertuples(index=False), *kept_target]
    ]
    ingested = run.screen.drops.to_dict("records")
    return declared_frame([*ingested, *perturbations], DROP_COLUMNS)


def manifest(
    record: RunRecord, screens: Sequence[ScreenRun], options: dict[str, Any]
) -> dict[str, Any]:
    """Return what ``manifest.json`` says: versions, options, hashes, splits, units."""
    records = records_of(record, screens)
    without_changes = {c: why for one in records for c, why in one.without_changes.items()}
    vectors_lack = [row for one in records for row in one.vectors_lack]
    genes_seen = [row for one in records for row in one.genes_seen]
    packages = ("pertscale", "dask", "distributed", "numpy", "scipy", "pandas", "numba", "zarr")
    alone = screens[0].record is record
    content = {
        "schema_version": SCHEMA_VERSION,
        "options": options,
        "screen": screens[0].screen.fingerprint if alone else "",
        "labels_key": screens[0].labels.key if alone else "",
        "screens": []
        if alone
        else [run.folder.relative_to(record.folder).as_posix() for run in screens],
        "embeddings": {
            f"{context} / {split}": {"name": e.name, "hash": e.hash, "provenance": e.provenance}
            for run in screens
            for (context, split), vectors in run.vectors.items()
            for e in (opened(vectors),)
        },
        "splits": {
            context: {name: split_file(context, split) for name, split in of_context.items()}
            for context, of_context in record.splits.items()
        },
        "drawn_splits": [row for one in records for row in one.drawn],
        "without_changes": without_changes,
        "vectors_lack": vectors_lack,
        "genes_seen": genes_seen,
        "findings": findings(
            scores := read_table(record.folder / SCORES_FILE, filters=NEEDED_SCORES),
            averaged_scores(
                scores[scores["level"] != "perturbation"],
                *(read_table(record.folder / name) for name in _AVERAGED),
            ),
            read_table(record.folder / COMPARISONS_FILE),
            _held_out(records),
            without_changes=without_changes,
            vectors_lack=vectors_lack,
            genes_seen=genes_seen,
        ),
        "units": [unit.as_dict() for unit in record.units],
        "expression": [unit.as_dict() for unit in record.expression],
        BLAS: _blas_libraries(record),
        "versions": {"python": platform.python_version()} | {p: version(p) for p in packages},
    }
    for task in ALL_TASKS:
        content |= task.manifest(screens)
    return content


def _blas_libraries(record: RunRecord) -> list[dict[str, str]]:
    """Return the BLAS libraries with which units were fitted, here or by earlier calls."""
    units = [*record.units, *record.expression]
    used = [
        *blas_libraries(),
        *(b for u in units for b in read_unit(record.folder / u.folder)[BLAS]),
    ]
    return [dict(one) for one in sorted({tuple(sorted(library.items())) for library in used})]


def result_sums(record: RunRecord, content: Mapping[str, Any]) -> Sums:
    """Return the checksums of the outputs in a manifest that are the same in every run.

    Of a folder with a record of its own (a unit, a screen's result) that of the record.
    """
    units = [f"{unit['folder']}/{UNIT_FILE}" for unit in content["units"] + content["expression"]]
    splits = [
        f"{SPLITS_DIR}/{file}" for mine in content["splits"].values() for file in mine.values()
    ]
    screens = [f"{folder}/{MANIFEST_FILE}" for folder in content["screens"]]
    return sums_of(record.folder, {*TABLES, *units, *splits, *screens})


def _held_out(records: Sequence[RunRecord]) -> dict[tuple[str, str], int]:
    """Return how many perturbations each split of each context holds out."""
    return {
        (context, name): len(split.held_out)
        for record in records
        for context, splits in record.splits.items()
        for name, split in splits.items()
    }


def check_fresh(output: Location) -> None:
    """Refuse a folder in which no run has worked but which has files with the names of ours."""
    if isinstance(output, Remote) or any((output / n).exists() for n in (MANIFEST_FILE, LOG_FILE)):
        return
    for name in (*TABLES, TIMINGS_FILE, REPORT_FILE):
        if (output / name).exists():
            raise ExistsError(
                f"{output / name} is there, though no benchmark was run in this folder, and would "
                "be overwritten; move it away, or write to another place (out=, --out)"
            )
