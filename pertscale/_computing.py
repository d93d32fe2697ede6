"""Lazy arrays are computed on the current scheduler; inside of a task, in its own thread.

A task that handed work to the scheduler it runs on would wait for it with a thread that others
need, and start more threads than there are cores.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import dask
import dask.array as da

_IN_TASK = ContextVar("in_task", default=False)


@contextmanager
def in_task() -> Iterator[None]:
    """Mark this thread as that of a task."""
    token = _IN_TASK.set(True)
    try:
        yield
    finally:
        _IN_TASK.reset(token)


def compute(*values: Any) -> tuple[Any, ...]:
    """Return values with what is lazy in them computed."""
    return dask.compute(*values, scheduler=_scheduler(None))


def store(sources: Sequence[Any], targets: Sequence[Any]) -> None:
    """Compute arrays, and write them to others that several threads may write to."""
    da.store(list(sources), list(targets), lock=False, scheduler=_scheduler("threads"))


def _scheduler(other: str | None) -> str | None:
    return "synchronous" if _IN_TASK.get() else other
