"""The pages of a run: one for each screen, and one for all; side by side on a cluster."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask

from pertscale.execution.allocator import keep_little, trim
from pertscale.execution.runner import run
from pertscale.results.result import BenchmarkResult
from pertscale.screen import Screen

#: Matplotlib's settings are those of the process: its threads draw one after the other.
_drawing = threading.Lock()


@dataclass(frozen=True)
class ReportTask:
    """A page to write.

    Attributes
    ----------
    name : str
        Of the task in the log.
    folder : Path
        Of the result.
    content : dict
        What its manifest will say, without checksums.
    screen : Screen, optional
        That it is of; None for the page of several.
    """

    name: str
    folder: Path
    content: dict[str, Any]
    screen: Screen | None


def write_page(task: ReportTask) -> None:
    """Write a page in this process."""
    from pertscale.report import write_report  # with matplotlib, which nothing else of a run needs

    keep_little()
    write_report(BenchmarkResult(task.folder, task.content), task.screen)
    gc.collect()  # figures hold each other, and what they were drawn of
    trim()


def write_on_cluster(tasks: Sequence[ReportTask], *, client: Any, quiet: bool) -> list[float]:
    """Write pages on workers; return the seconds that each took."""
    return run(_in_turn, tasks, label="report", client=client, quiet=quiet)


def _in_turn(task: ReportTask) -> float:
    """Write a page, reading in this thread: others of the cluster would be waited for."""
    with _drawing, dask.config.set(scheduler="synchronous"):
        started = time.perf_counter()
        write_page(task)
        return time.perf_counter() - started
