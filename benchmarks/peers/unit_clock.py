"""Clock of a benchmark in this process: the CPU of its stages and units, and when units ran."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pandas as pd


class Times(NamedTuple):
    """When a stage or a task began and ended, and the CPU seconds of its process or thread."""

    began: float
    ended: float
    cpu: float


class UnitClock:
    """Adds to a benchmark's timings what they lack; for threads of this process.

    A stage has the process for itself, and its CPU is the process's. Units, and vectors that they
    share, are tasks side by side, each in a thread of its own.

    Attributes
    ----------
    units : dict of str to Times
        By title of the unit.
    vectors : list of Times
        Of each that were made; those of several splits have the same name.
    stages : dict of (str, str) to Times
        By name of the stage and its unit.
    """

    def __init__(self) -> None:
        self.units: dict[str, Times] = {}
        self.vectors: list[Times] = []
        self.stages: dict[tuple[str, str], Times] = {}

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Time the units and stages of what is run in the block."""
        from pertscale.benchmark import run_log
        from pertscale.benchmark.units import running

        do_unit, make_vectors, stage = running.do_unit, running.make_vectors, run_log.RunLog.stage

        @contextmanager
        def timed_stage(log: Any, name: str, unit: str = "") -> Iterator[Any]:
            began, cpu = time.perf_counter(), time.process_time()
            with stage(log, name, unit) as found:
                yield found
            ended = time.perf_counter()
            self.stages[name, unit] = Times(began, ended, time.process_time() - cpu)

        running.do_unit = _timed(do_unit, self.units.__setitem__)
        running.make_vectors = _timed(make_vectors, lambda _, times: self.vectors.append(times))
        run_log.RunLog.stage = timed_stage
        try:
            yield
        finally:
            running.do_unit, running.make_vectors = do_unit, make_vectors
            run_log.RunLog.stage = stage

    def cpu(self, stage: str, unit: str) -> float | None:
        """CPU seconds of a row of the timings; None for models, which are parts of a unit."""
        times = self.stages.get((stage, unit))
        if times is None and stage in UNIT_STAGES:
            times = self.units.get(unit)
        return None if times is None else times.cpu

    def busy(self) -> float:
        """Seconds during which at least one task ran."""
        total, until = 0.0, float("-inf")
        for began, ended, _ in sorted([*self.vectors, *self.units.values()]):
            total += max(0.0, ended - max(began, until))
            until = max(until, ended)
        return total


def _timed(
    function: Callable[..., Any], note: Callable[[str, Times], object]
) -> Callable[..., Any]:
    """Return the function of a task that notes its times, with the name of the task."""

    def timed(task: Any, plan: Any) -> Any:
        began, cpu = time.perf_counter(), time.thread_time()
        result = function(task, plan)
        note(task.name, Times(began, time.perf_counter(), time.thread_time() - cpu))
        return result

    return timed


#: Stages of the timings that are units.
UNIT_STAGES = ("method", "expression")
VECTORS = "vectors"


def rows(timings: pd.DataFrame, clock: UnitClock) -> list[dict[str, Any]]:
    """Sum the timings of stages by stage and method: seconds, CPU, tasks, and the peak by its end.

    Parameters
    ----------
    timings : DataFrame
        Of a :class:`pertscale.BenchmarkResult`.
    clock : UnitClock
    """
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for one in timings[timings["level"] == "stage"].itertuples():
        key = one.stage, _name(one.stage, one.unit)
        row = found.setdefault(
            key, {"stage": key[0], "name": key[1], "n": 0, "seconds": 0.0, "cpu": 0.0, "peak": 0}
        )
        cpu = clock.cpu(one.stage, one.unit)
        row["n"] += 1
        row["seconds"] = round(row["seconds"] + one.seconds, 4)
        row["cpu"] = None if cpu is None or row["cpu"] is None else round(row["cpu"] + cpu, 4)
        row["peak"] = max(row["peak"], int(one.peak_bytes))
    return [*found.values(), *_vectors(clock)]


def _vectors(clock: UnitClock) -> list[dict[str, Any]]:
    """Return the row of the vectors, of which the timings have none; none where there are none."""
    if not clock.vectors:
        return []
    times = clock.vectors
    row = {
        "stage": VECTORS,
        "name": "",
        "n": len(times),
        "seconds": round(sum(one.ended - one.began for one in times), 4),
        "cpu": round(sum(one.cpu for one in times), 4),
        "peak": 0,
    }
    return [row]


def _name(stage: str, unit: str) -> str:
    """Return the method of a unit of classes, the model or the task of one of expression, or ''."""
    parts = unit.split(" / ")
    if stage in ("method", "model"):
        return parts[-1]
    return parts[1] if stage == "expression" else ""
