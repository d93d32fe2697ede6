"""What perturbations do to their targets, as a run keeps it, and whose target stays (method P5)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from pertscale.benchmark.units.kept import is_kept, keeping, remove_superseded
from pertscale.hashing import digest
from pertscale.io.parquet import read_table, write_table
from pertscale.schema import PERTURBATION, TARGETS_FILE, WORK_DIR
from pertscale.stats.labels.table import LabelTable
from pertscale.stats.pseudobulk import open_pseudobulk
from pertscale.stats.target_expression import knockdown
from pertscale.versions import TARGETS_VERSION


def measured_targets(folder: Path, labels: LabelTable) -> pd.DataFrame:
    """Return what became of the targets, from the tables in a run's folder."""
    return knockdown(labels, open_pseudobulk(folder, dask=False))


def kept_targets(folder: Path, labels: LabelTable) -> pd.DataFrame:
    """Return the same; they are kept, since all of the label table is read for them."""
    place = folder / WORK_DIR / "targets"
    path = place / f"{digest(TARGETS_VERSION, labels.key)[:12]}.parquet"
    if not is_kept(path):
        found = measured_targets(folder, labels)
        with keeping(path) as temporary:
            temporary.mkdir(parents=True)
            write_table(temporary / TARGETS_FILE, found)
        remove_superseded(place, [path])
    return read_table(path / TARGETS_FILE)


def without_knockdown(found: pd.DataFrame, least: float) -> dict[str, str]:
    """Return the perturbations with a target whose expression is not lowered so much, and why.

    All measured targets of a perturbation have to be down; those that are not measured say nothing.
    """
    above = found[found["residual"] > 1 - least]
    needed = f"min_knockdown={least:g} needs {100 * (1 - least):.1f} % or less"
    return {
        str(name): f"{', '.join(map(_left, rows['target'], rows['residual']))}; {needed}"
        for name, rows in above.groupby(PERTURBATION, sort=False)
    }


def _left(target: str, residual: float) -> str:
    return f"{target} is at {100 * residual:.1f} % of the control's expression"
