"""Events of a run, sent to whoever records them.

Code that does work calls :func:`emit`; a run that keeps a log sets a sink for its duration. Without
one nothing happens. The sink belongs to the current context (thread), not to the process.

An event is a frozen dataclass whose fields are plain values, in the order in which a log has them;
its `kind` is what a log calls it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened."""

    kind: ClassVar[str]


@dataclass(frozen=True, kw_only=True)
class RunStarted(Event):
    """A run has begun to work in its folder.

    Attributes
    ----------
    host : str
        Name of the machine.
    pid : int
        Its process.
    version : str
        Of pertscale.
    stores : list of str
        Screens, as they were named.
    """

    kind = "start"
    host: str
    pid: int
    version: str
    stores: list[str]


@dataclass(frozen=True, kw_only=True)
class ClusterSeen(Event):
    """The tasks will run on a cluster.

    Attributes
    ----------
    scheduler : str
        Its address.
    n_workers : int
        Workers that are there.
    """

    kind = "cluster"
    scheduler: str
    n_workers: int


@dataclass(frozen=True, kw_only=True)
class TaskDone(Event):
    """A task has ended, well or not.

    Attributes
    ----------
    stage : str
        Name of the map that it is part of.
    unit : str
        Its own name, or its number.
    seconds : float
        What it took, all tries together.
    worker : str
        Host and process that did it.
    peak_bytes : int
        Largest resident memory of that process so far.
    bytes_read : int, optional
        Decoded bytes of the matrix.
    n_tries : int
        How often it was tried.
    error : str, optional
        Why it failed.
    """

    kind = "task"
    stage: str
    unit: str
    seconds: float
    worker: str
    peak_bytes: int
    bytes_read: int | None
    n_tries: int
    error: str | None


@dataclass(frozen=True, kw_only=True)
class StageDone(Event):
    """A stage of a run has ended.

    Attributes
    ----------
    stage : str
        Its name.
    unit : str
        What it was done for, where a run does it several times.
    seconds : float
        What it took.
    reused : bool
        Whether the result of an earlier run was taken.
    """

    kind = "stage"
    stage: str
    unit: str
    seconds: float
    reused: bool


@dataclass(frozen=True, kw_only=True)
class SplitsDrawn(Event):
    """It is known how the perturbations of a context are split.

    Attributes
    ----------
    context : str
        Where.
    of : str
        What is split: ``"perturbations"`` or ``"doubles"``.
    n : int
        How many there are.
    n_held_out : int
        How many a split holds out.
    n_splits : int
        How many splits there are.
    reason : str
        Why so many.
    """

    kind = "splits"
    context: str
    of: str
    n: int
    n_held_out: int
    n_splits: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class SplitNamesUnknown(Event):
    """A split that was given has names that no screen has.

    Attributes
    ----------
    split : str
        Its name.
    n : int
        Names in it.
    not_in_screen : list of str
        Those that are unknown.
    """

    kind = "split_names"
    split: str
    n: int
    not_in_screen: list[str]


@dataclass(frozen=True, kw_only=True)
class KnockdownChecked(Event):
    """Perturbations of a context were left out whose target keeps its expression.

    Attributes
    ----------
    context : str
        Where.
    min_knockdown : float
        Share by which the expression has to be lowered.
    n : int
        Tested perturbations.
    n_left_out : int
        Those that are left out.
    n_not_measured : int
        Those none of whose targets is measured; they stay.
    n_activated : int
        Those with a target that goes up.
    """

    kind = "knockdown"
    context: str
    min_knockdown: float
    n: int
    n_left_out: int
    n_not_measured: int
    n_activated: int


@dataclass(frozen=True, kw_only=True)
class Skipped(Event):
    """Something was asked for and did not run.

    Attributes
    ----------
    what : str
        A method, a task or a split.
    context : str
        Where; empty for all.
    reason : str
        Why.
    """

    kind = "skipped"
    what: str
    context: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class RunFailed(Event):
    """A run has ended with an error.

    Attributes
    ----------
    error : str
        Its class.
    message : str
        What it says.
    """

    kind = "failed"
    error: str
    message: str


@dataclass(frozen=True, kw_only=True)
class RunEnded(Event):
    """A run has ended well."""

    kind = "end"


Sink = Callable[[Event], None]

_sinks: ContextVar[tuple[Sink, ...]] = ContextVar("pertscale_sinks", default=())


def emit(event: Event) -> None:
    """Send an event to all sinks."""
    for sink in _sinks.get():
        sink(event)


@contextmanager
def recording(sink: Sink) -> Iterator[None]:
    """Send what happens inside the block to `sink` too."""
    token = _sinks.set((*_sinks.get(), sink))
    try:
        yield
    finally:
        _sinks.reset(token)
