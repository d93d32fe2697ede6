"""All tasks of the benchmark, in the order in which a run goes through them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pertscale.benchmark.tasks.base import Task
from pertscale.benchmark.tasks.expression import HeldOutExpression
from pertscale.benchmark.tasks.interactions import GeneticInteractions
from pertscale.benchmark.tasks.transfer import Transfer
from pertscale.benchmark.tasks.within import Within
from pertscale.schema import DOUBLE, SINGLE
from pertscale.splits.rule import double_split, single_split

ALL_TASKS: Final[tuple[Task, ...]] = (
    Within(),
    HeldOutExpression(SINGLE, single_split),
    HeldOutExpression(DOUBLE, double_split),
    GeneticInteractions(),
    Transfer(),
)


def tasks_of(names: Sequence[str]) -> list[Task]:
    """Return the tasks that were asked for, in the order of a run."""
    return [task for task in ALL_TASKS if task.name in names]
