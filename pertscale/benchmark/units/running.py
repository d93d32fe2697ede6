"""Units as tasks: each is looked up, fitted, scored and kept where it runs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask

from pertscale.benchmark.units.base import Unit, check_unit_replaceable
from pertscale.execution.runner import run
from pertscale.schema import MANIFEST_FILE
from pertscale.storage.atomic import remove

#: Pairs of all units together up to which they run in the process that asked: a cluster would take
#: longer to be asked.
LOCAL_PAIRS = 20_000_000


@dataclass(frozen=True, eq=False)
class UnitPlan:
    """What the tasks of some units have in common, sent to each worker once.

    Attributes
    ----------
    out : Path
        Folder that units are kept in.
    results : tuple of Path
        Results that are no longer finished once a unit is made, the outermost first.
    units : tuple of Unit
    """

    out: Path
    results: tuple[Path, ...]
    units: tuple[Unit, ...]


@dataclass(frozen=True)
class UnitTask:
    """A unit, by its number in the plan; the name is that of its task in the log."""

    number: int
    name: str


@dataclass(frozen=True)
class UnitReceipt:
    """What a task did.

    Attributes
    ----------
    seconds : float
    reused : bool
        Whether the unit was there already.
    models : dict of str to float
        Seconds of models that are timed apart.
    damage : tuple of str
        What is said of a unit that was there, and not whole.
    """

    seconds: float
    reused: bool
    models: dict[str, float]
    damage: tuple[str, ...]


def run_units(plan: UnitPlan, *, client: Any, quiet: bool) -> list[UnitReceipt]:
    """Do what is missing of the units of a plan; return a receipt of each, in their order."""
    receipts: dict[int, UnitReceipt] = {}
    n_pairs = sum(unit.n_pairs for unit in plan.units)
    for where, here in ((client, False), (None, True)):
        tasks = [
            UnitTask(number, unit.title)
            for number, unit in enumerate(plan.units)
            if here == (unit.is_local or client is None or n_pairs <= LOCAL_PAIRS)
        ]
        with _threads() if where is None else nullcontext():
            done = run(do_unit, tasks, shared=plan, label="methods", client=where, quiet=quiet)
        receipts |= {task.number: one for task, one in zip(tasks, done, strict=True)}
    return [receipts[number] for number in range(len(plan.units))]


def _threads() -> Any:
    """Context in which tasks are threads here, also where the scheduler is a pool of processes."""
    pools = ("processes", "multiprocessing")
    chosen = dask.config.get("scheduler", None) in pools
    return dask.config.set(scheduler="threads") if chosen else nullcontext()


def do_unit(task: UnitTask, plan: UnitPlan) -> UnitReceipt:
    """Run a unit, or reuse it from an earlier call."""
    unit, started = plan.units[task.number], time.perf_counter()
    damage: list[str] = []
    models: dict[str, float] = {}
    reused = unit.is_done(plan.out, tell=damage.append)
    if not reused:
        check_unit_replaceable(plan.out / unit.folder)
        unmark(plan.results)
        if unit.is_predicted(plan.out):
            unit.score_again(plan.out)
        else:
            models = unit.run(plan.out)
    return UnitReceipt(time.perf_counter() - started, reused, models, tuple(damage))


def unmark(results: Sequence[Path]) -> None:
    """Take the manifests of results away, the outermost first."""
    for result in results:
        remove(result / MANIFEST_FILE)
