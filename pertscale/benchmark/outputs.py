"""The tables and the manifest of a benchmark, from what its units left."""

from __future__ import annotations

import platform
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from pertscale.benchmark import expression
from pertscale.benchmark.expression import DOUBLE
from pertscale.benchmark.plan import Plan
from pertscale.benchmark.units import TASK, read_scores
from pertscale.io.atomic import remove
from pertscale.io.tables import declared_frame, write_table
from pertscale.schema import (
    DROP_COLUMNS,
    DROPS_FILE,
    INTERACTION_COLUMNS,
    INTERACTIONS_FILE,
    PREDICTIONS_DIR,
    SCHEMA_VERSION,
    SCORES_FILE,
    SKIPPED_COLUMNS,
    SKIPPED_FILE,
    SPLITS_DIR,
)


def write_tables(plan: Plan) -> None:
    """Join the scores of the units, write what was left out, and clear what is no longer asked."""
    wanted = {u.folder for u in plan.units} | {u.folder for u in plan.expression}
    for marker in sorted((plan.folder / PREDICTIONS_DIR).glob("*/*/*/*/unit.json")):
        if marker.parent.relative_to(plan.folder).as_posix() not in wanted:
            remove(marker.parent)
            for parent in list(marker.parents)[1:4]:  # split, labels, context
                if not any(parent.iterdir()):
                    parent.rmdir()
    files = {file for mine in plan.splits.values() for file in mine.values()}
    for path in (plan.folder / SPLITS_DIR).glob("*.json"):
        if path.name not in files:
            remove(path)
    write_table(plan.folder / SCORES_FILE, _scores(plan))
    write_table(plan.folder / INTERACTIONS_FILE, _interactions(plan))
    write_table(plan.folder / DROPS_FILE, _drops(plan))
    write_table(plan.folder / SKIPPED_FILE, declared_frame(plan.log.skipped, SKIPPED_COLUMNS))


def _scores(plan: Plan) -> pd.DataFrame:
    """Scores of classes, of expression, and of calls of interactions."""
    parts = [read_scores(plan.folder, plan.units)]
    parts += expression.read_unit_scores(plan.folder, plan.expression)
    parts += [
        expression.score_interactions(plan.folder, unit, plan.interactions[unit.context])
        for unit in plan.expression
        if unit.task == DOUBLE and unit.context in plan.interactions
    ]
    filled = [part for part in parts if len(part)]
    return pd.concat(filled, ignore_index=True) if filled else parts[0]


def _interactions(plan: Plan) -> pd.DataFrame:
    """All pairs that were judged, context by context."""
    tables = [
        found.table.assign(context=context)[[c.name for c in INTERACTION_COLUMNS]]
        for context, found in plan.interactions.items()
    ]
    if not tables:
        return declared_frame([], INTERACTION_COLUMNS)
    return pd.concat(tables, ignore_index=True)


def _drops(plan: Plan) -> pd.DataFrame:
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


def manifest(plan: Plan, options: dict[str, Any]) -> dict[str, Any]:
    """Return what ``manifest.json`` says: versions, options, hashes, splits, units."""
    packages = ("pertscale", "dask", "distributed", "numpy", "scipy", "pandas", "numba", "zarr")
    return {
        "schema_version": SCHEMA_VERSION,
        "task": TASK,
        "options": options,
        "screen": plan.screen.fingerprint,
        "labels_key": plan.labels.key,
        "embeddings": {
            f"{context} / {split}": {"name": e.name, "hash": e.hash, "provenance": e.provenance}
            for (context, split), e in plan.vectors.items()
        },
        "splits": plan.splits,
        "units": [
            {
                "context": u.context,
                "labels": u.labels,
                "split": u.split.name,
                "split_hash": u.split.hash,
                "method": u.method,
                "folder": u.folder,
                "key": u.key(plan.matrices[u.context, u.labels]),
            }
            for u in plan.units
        ],
        "expression": [
            {
                "context": u.context,
                "task": u.task,
                "split": u.split.name,
                "split_hash": u.split.hash,
                "folder": u.folder,
                "key": u.key(plan.labels.key),
            }
            for u in plan.expression
        ],
        "interactions": {
            context: {
                "null": asdict(found.fit.null),
                "lower": found.lower,
                "upper": found.upper,
                "rule": found.rule,
                "threshold": found.threshold,
                "level": found.level,
                "misfit": found.fit.misfit,
                "notes": list(found.fit.notes),
            }
            for context, found in plan.interactions.items()
        },
        "versions": {"python": platform.python_version()} | {p: version(p) for p in packages},
    }
