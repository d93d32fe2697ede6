"""Units as tasks: each is looked up, fitted, scored and kept where it runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask

from pertscale.benchmark.units.base import Unit, check_unit_replaceable
from pertscale.benchmark.units.held import held_arrays
from pertscale.benchmark.units.learned import LearnedVectors
from pertscale.execution.allocator import keep_little, trim
from pertscale.execution.blas import one_blas_thread
from pertscale.execution.clients import memory_limit, run_on_all_workers, tasks_per_process
from pertscale.execution.gate import holding
from pertscale.execution.memory import task_budget
from pertscale.execution.order import start_order
from pertscale.execution.runner import run
from pertscale.schema import MANIFEST_FILE
from pertscale.storage.atomic import remove

#: Pairs of all units together up to which they run in the process that asked: a cluster would take
#: longer to be asked.
LOCAL_PAIRS = 20_000_000
#: By default, where there is as much: room for a unit of a screen of 2,000 perturbations on each
#: thread. More makes nothing faster: larger ones run beside smaller ones.
_BYTES_PER_THREAD = 320_000_000
#: Bytes of a unit above which its memory is given back when it is done.
_TRIMMED_BYTES = 50_000_000


@dataclass(frozen=True, eq=False)
class PlannedUnit:
    """A unit, and where it is kept.

    Attributes
    ----------
    unit : Unit
    out : Path
        Folder that it is kept in.
    results : tuple of Path
        Results that are no longer finished once it is made, the outermost first.
    """

    unit: Unit
    out: Path
    results: tuple[Path, ...]


@dataclass(frozen=True, eq=False)
class UnitPlan:
    """What the tasks of all units have in common, sent to each worker once.

    Attributes
    ----------
    units : tuple of PlannedUnit
    learned : tuple of LearnedVectors
        Vectors that several units use.
    memory : int
        What the units of one process may hold together, in bytes.
    """

    units: tuple[PlannedUnit, ...]
    learned: tuple[LearnedVectors, ...]
    memory: int


@dataclass(frozen=True)
class UnitTask:
    """A unit, or vectors, by number in the plan; the name is that of its task in the log."""

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
    units = [planned.unit for planned in plan.units]
    where = client if sum(unit.n_pairs for unit in units) > LOCAL_PAIRS else None
    vectors = [UnitTask(number, one.describe()) for number, one in enumerate(plan.learned)]
    sizes = [one.n_bytes for one in plan.learned]
    map_tasks(
        make_vectors, _ordered(vectors, sizes, sizes, plan, where), plan, "vectors", where, quiet
    )
    tasks = [UnitTask(number, unit.title) for number, unit in enumerate(units)]
    costs, sizes = [unit.cost for unit in units], [unit.n_bytes for unit in units]
    tasks = _ordered(tasks, costs, sizes, plan, where)
    receipts: dict[int, UnitReceipt] = {}
    trim()  # of labels and plans, before units fill what they may
    for place in (where, None) if where is not None else (None,):
        rest = [task for task in tasks if task.number not in receipts]
        mine = [t for t in rest if place is None or not units[t.number].is_local]
        done = map_tasks(do_unit, mine, plan, "methods", place, quiet)
        receipts |= {task.number: receipt for task, receipt in zip(mine, done, strict=True)}
    run_on_all_workers(release_memory, where)
    return [receipts[number] for number in range(len(units))]


def _ordered(
    tasks: Sequence[UnitTask],
    costs: Sequence[float],
    sizes: Sequence[int],
    plan: UnitPlan,
    client: Any,
) -> list[UnitTask]:
    """Return tasks in the order in which they are started."""
    n_threads = tasks_per_process(client)
    order = start_order(costs, sizes, n_threads=n_threads, budget=plan.memory)
    return [tasks[i] for i in order]


def unit_budget(memory: str | int, client: Any) -> int:
    """Return what the units of one process may hold together, in bytes."""
    most = _BYTES_PER_THREAD * tasks_per_process(client)
    return task_budget(memory, worker_limit=memory_limit(client), most=most)


def map_tasks(
    function: Callable[[Any, Any], Any],
    tasks: Sequence[Any],
    plan: Any,
    label: str,
    client: Any,
    quiet: bool,
) -> list[Any]:
    """Do tasks on a cluster, or as threads of this process; return what each returns."""
    with _threads() if client is None else nullcontext():
        return run(function, tasks, shared=plan, label=label, client=client, quiet=quiet)


def _threads() -> Any:
    """Context in which tasks are threads here, also where the scheduler is a pool of processes."""
    pools = ("processes", "multiprocessing")
    chosen = dask.config.get("scheduler", None) in pools
    return dask.config.set(scheduler="threads") if chosen else nullcontext()


@one_blas_thread()
def make_vectors(task: UnitTask, plan: UnitPlan) -> None:
    """Make vectors that several units use, unless they are there."""
    keep_little()
    vectors = plan.learned[task.number]
    with holding(vectors.n_bytes, budget=plan.memory):
        vectors.make()
    trim()


@one_blas_thread()
def do_unit(task: UnitTask, plan: UnitPlan) -> UnitReceipt:
    """Run a unit, or reuse it from an earlier call."""
    keep_little()
    planned, started = plan.units[task.number], time.perf_counter()
    unit, out = planned.unit, planned.out
    damage: list[str] = []
    models: dict[str, float] = {}
    reused = unit.is_done(out, tell=damage.append)
    if not reused:
        check_unit_replaceable(out / unit.folder)
        unmark(planned.results)
        with holding(unit.n_bytes, budget=plan.memory):
            started = time.perf_counter()
            if unit.is_predicted(out):
                unit.score_again(out)
            else:
                models = unit.run(out)
        if unit.n_bytes > _TRIMMED_BYTES:
            trim()
    return UnitReceipt(time.perf_counter() - started, reused, models, tuple(damage))


def release_memory() -> None:
    """Free what units of this process kept for the next one."""
    held_arrays.clear()
    trim()


def unmark(results: Sequence[Path]) -> None:
    """Take the manifests of results away, the outermost first."""
    for result in results:
        remove(result / MANIFEST_FILE)
