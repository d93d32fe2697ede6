"""The steps of a task of the benchmark, in the order of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pertscale.benchmark.state import ContextPlan, RunRecord, ScreenRun


class Task:
    """A column of the benchmark; by default a step does nothing.

    Units are listed by one of the first two, in the records, which run them; their scores are read
    by the code that writes the tables. A forecast lists the same units and takes their sizes: a
    task says nothing of its cost.

    Attributes
    ----------
    name : str
        Of :data:`pertscale.schema.TASKS`, as users ask for it.
    """

    name: str

    def plan(self, context: ContextPlan) -> None:
        """List the units of a context."""

    def plan_across(self, screens: Sequence[ScreenRun], record: RunRecord) -> None:
        """List the units between contexts, of one screen or several, in the record of all."""

    def run(self, screen: ScreenRun) -> None:
        """Do what are no units."""

    def scores(self, screens: Sequence[ScreenRun]) -> list[pd.DataFrame]:
        """Return scores that are not those of a unit."""
        return []

    def write_tables(self, folder: Path, screens: Sequence[ScreenRun]) -> None:
        """Write the task's own tables, whether it was asked for or not."""

    def manifest(self, screens: Sequence[ScreenRun]) -> dict[str, Any]:
        """Return the task's own entries of the manifest."""
        return {}
