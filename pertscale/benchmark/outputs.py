"""The tables and the manifest of a benchmark, from what its units left."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pertscale.benchmark.inputs import INGESTED_STORE
from pertscale.benchmark.split_files import SPLITS_RECORD, split_file, write_split_files
from pertscale.benchmark.state import RunRecord, ScreenRun
from pertscale.benchmark.tasks.interactions import interaction_scores, interaction_table, null_of
from pertscale.benchmark.tasks.transfer import with_averages
from pertscale.benchmark.units import expression_unit
from pertscale.benchmark.units.class_unit import BLAS, UNIT_FILES, ClassUnit, read_scores
from pertscale.benchmark.units.expression_unit import ExpressionUnit, unit_record
from pertscale.embeddings.embedding import Embedding
from pertscale.errors import ExistsError
from pertscale.execution.blas_build import blas_libraries
from pertscale.io.checksums import Sums, sums_of
from pertscale.io.parquet import declared_frame, read_table, stacked, write_table
from pertscale.io.store.layout import STORE_FILES
from pertscale.report.findings import findings
from pertscale.results.unit_files import UNIT_FILE, read_unit
from pertscale.schema import (
    COVERAGE_COLUMNS,
    COVERAGE_FILE,
    DROP_COLUMNS,
    DROPS_FILE,
    INTERACTION_COLUMNS,
    INTERACTIONS_FILE,
    LABELS_DIR,
    LOG_FILE,
    MANIFEST_FILE,
    PREDICTIONS_DIR,
    PSEUDOBULK_DIR,
    REPORT_FILE,
    SCHEMA_VERSION,
    SCORE_COLUMNS,
    SCORES_FILE,
    SKIPPED_COLUMNS,
    SKIPPED_FILE,
    SPLITS_DIR,
    TIMINGS_FILE,
    WORK_DIR,
)
from pertscale.stats.differential.rank_sum import TABLE_FILES
from pertscale.storage.locations import Location, Remote
from pertscale.storage.own_files import remove_ours
from pertscale.storage.publish import OutputLayout

_FILES = "|".join(
    (
        TABLE_FILES,
        rf"{PREDICTIONS_DIR}(?:/[^/]+){{4}}/(?:{UNIT_FILES})",
        rf"{INGESTED_STORE}/(?:{STORE_FILES})",
    )
)
#: What is published on object storage.
LAYOUT = OutputLayout(
    (LABELS_DIR, PSEUDOBULK_DIR, SPLITS_DIR, PREDICTIONS_DIR, INGESTED_STORE, "screens", WORK_DIR),
    MANIFEST_FILE,
    keep=True,
    files=rf"\{WORK_DIR}/.*|(?:screens/[^/]+/)?(?:[^/]+|{_FILES})|screens/[^/]+/\{WORK_DIR}/.*",
    recorded=(SPLITS_DIR, f"{WORK_DIR}/{SPLITS_RECORD}"),
)

#: Tables in the output folder.
TABLES = (SCORES_FILE, INTERACTIONS_FILE, DROPS_FILE, COVERAGE_FILE, SKIPPED_FILE)


def write_tables(runs: RunRecord, plans: Sequence[ScreenRun]) -> None:
    """Write all tables: of the runs and of the screens, which may be one and the same."""
    _clear(runs)
    write_split_files(runs)
    parts = _parts(runs, plans)
    scores = [*(_scores(part) for part in parts), *(interaction_scores(plan) for plan in plans)]
    skipped = [row for part in parts for row in part.log.skipped]
    coverage = [row for part in parts for row in part.coverage]
    for plan in plans:
        coverage += [*plan.outsiders.coverage, *_embedding_coverage(plan)]
    folder = runs.folder
    write_table(folder / SCORES_FILE, with_averages(stacked(scores, SCORE_COLUMNS)))
    write_table(
        folder / INTERACTIONS_FILE,
        stacked(list(map(interaction_table, plans)), INTERACTION_COLUMNS),
    )
    write_table(folder / DROPS_FILE, stacked(list(map(_drops, plans)), DROP_COLUMNS))
    write_table(folder / COVERAGE_FILE, declared_frame(coverage, COVERAGE_COLUMNS))
    write_table(folder / SKIPPED_FILE, declared_frame(skipped, SKIPPED_COLUMNS))


def _parts(runs: RunRecord, plans: Sequence[ScreenRun]) -> list[RunRecord]:
    """Return the runs and the screens, which may be one and the same."""
    return [runs, *(plan for plan in plans if plan is not runs)]


def _clear(runs: RunRecord) -> None:
    """Remove the predictions that an earlier call left and this one does not ask for."""
    wanted = {u.folder for u in (*runs.units, *runs.failed)} | {u.folder for u in runs.expression}
    for marker in sorted((runs.folder / PREDICTIONS_DIR).glob(f"*/*/*/*/{UNIT_FILE}")):
        if marker.parent.relative_to(runs.folder).as_posix() not in wanted:
            remove_ours(marker.parent, UNIT_FILES)
            for parent in list(marker.parents)[1:4]:  # split, labels, context
                if not any(parent.iterdir()):
                    parent.rmdir()


def _scores(runs: RunRecord) -> pd.DataFrame:
    """Scores of classes and of expression."""
    parts = [read_scores(runs.folder, runs.units)]
    parts += expression_unit.read_unit_scores(runs.folder, runs.expression)
    return stacked(parts, SCORE_COLUMNS)


def _embedding_coverage(plan: ScreenRun) -> list[dict[str, Any]]:
    """Which perturbations and genes have a vector: of the methods', and of models' own."""
    rows = [
        _covered(plan, embedding, context, split, embedding.name)
        for (context, split), embedding in plan.vectors.items()
    ]
    for name, method in plan.wanted.models.items():
        if name in plan.wanted.own:
            for value in method.make(0).get_params(deep=False).values():
                if isinstance(value, Embedding):
                    rows += [
                        _covered(plan, value, context, "", f"{name}: {value.name}")
                        for context in plan.labels.contexts
                    ]
    return rows


def _covered(
    plan: ScreenRun, embedding: Embedding, context: str, split: str, name: str
) -> dict[str, Any]:
    names = list(plan.screen.context_groups(context)["perturbation"][1:])
    genes = list(plan.screen.genes)
    found = embedding.coverage(names, targets=plan.screen.targets)["covered"].to_numpy()
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


def _drops(plan: ScreenRun) -> pd.DataFrame:
    """Cells and genes that ingest left out, and perturbations that were not tested."""
    table = plan.labels.perturbations
    untested = [
        {
            "kind": "perturbation",
            "name": row.perturbation,
            "context": row.context,
            "source": Path(plan.screen.path).name,
            "row": -1,
            "label": row.perturbation,
            "reason": row.reason,
        }
        for row in table[~table["tested"]].itertuples()
    ]
    ingested = plan.screen.drops.to_dict("records")
    return declared_frame([*ingested, *untested], DROP_COLUMNS)


def manifest(
    runs: RunRecord, plans: Sequence[ScreenRun], options: dict[str, Any]
) -> dict[str, Any]:
    """Return what ``manifest.json`` says: versions, options, hashes, splits, units."""
    parts = _parts(runs, plans)
    without_changes = {c: why for part in parts for c, why in part.without_changes.items()}
    vectors_lack = [row for part in parts for row in part.vectors_lack]
    genes_seen = [row for part in parts for row in part.genes_seen]
    packages = ("pertscale", "dask", "distributed", "numpy", "scipy", "pandas", "numba", "zarr")
    alone = len(plans) == 1 and plans[0] is runs
    return {
        "schema_version": SCHEMA_VERSION,
        "options": options,
        "screen": plans[0].screen.fingerprint if alone else "",
        "labels_key": plans[0].labels.key if alone else "",
        "screens": [] if alone else [p.folder.relative_to(runs.folder).as_posix() for p in plans],
        "embeddings": {
            f"{context} / {split}": {"name": e.name, "hash": e.hash, "provenance": e.provenance}
            for plan in plans
            for (context, split), e in plan.vectors.items()
        },
        "splits": {
            context: {name: split_file(context, split) for name, split in mine.items()}
            for context, mine in runs.splits.items()
        },
        "drawn_splits": [row for part in parts for row in part.drawn],
        "without_changes": without_changes,
        "vectors_lack": vectors_lack,
        "genes_seen": genes_seen,
        "findings": findings(
            read_table(runs.folder / SCORES_FILE),
            _held_out(parts),
            without_changes=without_changes,
            vectors_lack=vectors_lack,
            genes_seen=genes_seen,
        ),
        "units": [
            {
                **_unit_head(u),
                "labels": u.labels,
                "method": u.method,
                "key": u.key(runs.matrices[u.context, u.labels]),
            }
            for u in runs.units
        ],
        "expression": [
            {**_unit_head(u), "key": unit_record(runs.folder, u)["key"]} for u in runs.expression
        ],
        "interactions": {
            context: null_of(found)
            for plan in plans
            for context, found in plan.interactions.items()
        },
        BLAS: _blas_libraries(runs),
        "versions": {"python": platform.python_version()} | {p: version(p) for p in packages},
    }


def _blas_libraries(runs: RunRecord) -> list[dict[str, str]]:
    """Return the BLAS libraries with which units were fitted, here or by earlier calls."""
    folders = [unit.folder for unit in runs.units] + [unit.folder for unit in runs.expression]
    used = [*blas_libraries(), *(b for f in folders for b in read_unit(runs.folder / f)[BLAS])]
    return [dict(one) for one in sorted({tuple(sorted(library.items())) for library in used})]


def result_sums(runs: RunRecord, content: Mapping[str, Any]) -> Sums:
    """Return the sums of what a manifest says is there, and that is the same in every run.

    Of a folder with a record of its own (a unit, a screen's result) that of the record.
    """
    units = [f"{unit['folder']}/{UNIT_FILE}" for unit in content["units"] + content["expression"]]
    splits = [
        f"{SPLITS_DIR}/{file}" for mine in content["splits"].values() for file in mine.values()
    ]
    screens = [f"{folder}/{MANIFEST_FILE}" for folder in content["screens"]]
    return sums_of(runs.folder, {*TABLES, *units, *splits, *screens})


def _held_out(parts: Sequence[RunRecord]) -> dict[tuple[str, str], int]:
    """Return how many perturbations each split of each context holds out."""
    return {
        (context, name): len(split.held_out)
        for part in parts
        for context, splits in part.splits.items()
        for name, split in splits.items()
    }


def _unit_head(unit: ClassUnit | ExpressionUnit) -> dict[str, Any]:
    return {
        "task": unit.task,
        "context": unit.context,
        "train_contexts": unit.source,
        "split": unit.split.name,
        "split_hash": unit.split.hash,
        "folder": unit.folder,
    }


def check_fresh(output: Location) -> None:
    """Refuse a folder that no run has worked in, with files of the names that ours have."""
    if isinstance(output, Remote) or any((output / n).exists() for n in (MANIFEST_FILE, LOG_FILE)):
        return
    for name in (*TABLES, TIMINGS_FILE, REPORT_FILE):
        if (output / name).exists():
            raise ExistsError(
                f"{output / name} is there, though no benchmark was run in this folder, and would "
                "be overwritten; move it away, or write to another place (out=, --out)"
            )
