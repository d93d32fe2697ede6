"""Runs a function over small descriptors on whatever Dask scheduler is current.

A task gets a descriptor (a path, row ranges, options: under a kilobyte), opens what it needs,
writes its own piece under the commit protocol of :mod:`pertscale.storage.atomic`, and gives back a
small receipt. No matrix travels through the graph.

A task that fails is tried again, :data:`TRIES` times in all, and does not take the others down:
they are done, then what failed is reported. A full disk, or :data:`MOST_FAILED` failures, end the
map at once; tasks that still run are not waited for: they write only what the next call would.
"""

from __future__ import annotations

import os
import pickle
import queue
import socket
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar, cast

import dask
import dask.threaded
from dask.callbacks import Callback

from pertscale._computing import in_task
from pertscale.diagnostics.events import TaskDone, emit
from pertscale.diagnostics.progress import Progress
from pertscale.errors import (
    ClusterError,
    CorruptFileError,
    PertscaleError,
    StorageError,
    TaskError,
)
from pertscale.execution.clients import (
    check_versions,
    cluster_errors,
    no_worker_error,
    worker_timeout,
)
from pertscale.storage.disk_errors import NO_STORAGE, reason

T = TypeVar("T")
R = TypeVar("R")

#: Tasks handed to a distributed scheduler beyond those that its threads can run at once.
IN_FLIGHT_PER_THREAD = 4
#: How often a task is tried that fails in a way that may pass.
TRIES = 3
#: So many failures have a common cause: stop and report it.
MOST_FAILED = 20
#: Failed tasks that an error lists.
_LISTED = 10
#: Seconds between two looks at a cluster that finishes nothing.
_TICK = 2.0
#: Seconds that the result of a task may take to get here; its worker may die meanwhile.
_FETCH = 60.0
#: Dask's name for a task that was done, and whose result was lost.
_RUNS_AGAIN = ("lost", "pending")
#: Dask's names for the scheduler of a current client.
_CLUSTERS = ("dask.distributed", "distributed")
#: Seconds before a task is tried again.
_PAUSES = (0.2, 1.0)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Result or error of a task, and what it took.

    Attributes
    ----------
    result
        What the function returned.
    error : Exception, optional
        Why there is no result.
    seconds : float
    n_tries : int
    worker : str
        Host and process.
    peak_bytes : int
        Largest resident memory of that process so far.
    """

    result: Any = None
    error: Exception | None = None
    seconds: float = 0.0
    n_tries: int = 0
    worker: str = ""
    peak_bytes: int = 0


def run(
    function: Callable[..., R],
    descriptors: Sequence[T],
    *,
    label: str,
    shared: Any = None,
    client: Any = None,
    quiet: bool = False,
) -> list[R]:
    """Call ``function(descriptor)`` for each descriptor; return the receipts in their order.

    Parameters
    ----------
    function : callable
        Defined at the top of a module, so that a worker can import it.
    descriptors : sequence
        Small and picklable. One with a method ``describe()`` is named by it where it fails, and
        one with an attribute ``name`` by that in the log.
    label : str
        Name of the tasks on the dashboard and of the progress bar.
    shared : object, optional
        What all descriptors refer to, such as names, a few megabytes at most: the function's second
        argument. It is sent to each worker once.
    client : distributed.Client, optional
        As resolved by :func:`pertscale.execution.clients.use_client`.
    quiet : bool
        Show no progress.

    Raises
    ------
    TaskError, or the PertscaleError that a task raised
        Lists the tasks that failed; the others are done, so the same call goes on from there.
    StorageError
        The disk is full or not writable.
    ClusterError
        The scheduler or all of its workers are gone.
    """
    if not descriptors:
        return []
    with Progress(label, total=len(descriptors), quiet=quiet) as progress:
        found = _Outcomes(label, descriptors, progress)
        call, more = partial(attempt, function), () if shared is None else (shared,)
        if client is not None:
            _run_distributed(call, descriptors, more, label, client, found.add)
        else:
            _run_local(call, descriptors, more, label, found.add)
        return found.results()


# --- one task -----------------------------------------------------------------------------------


def attempt(function: Callable[..., R], descriptor: T, *shared: Any) -> Outcome:
    """Call a function, again where that may help; failures are part of the outcome."""
    started = time.perf_counter()
    result, failure, n = None, None, 0
    for n in range(1, TRIES + 1):
        try:
            with in_task():
                result, failure = function(descriptor, *shared), None
            break
        except Exception as error:  # noqa: BLE001 - the client reports it, with the others
            failure = _portable(error)
            if not _may_pass(error):
                break
            if n < TRIES:
                time.sleep(_PAUSES[n - 1])
    return Outcome(
        result=result,
        error=failure,
        seconds=time.perf_counter() - started,
        n_tries=n,
        worker=f"{socket.gethostname()}:{os.getpid()}",
        peak_bytes=peak_bytes(),
    )


def _may_pass(error: Exception) -> bool:
    if isinstance(error, OSError) and error.errno in NO_STORAGE:
        return False
    return not isinstance(error, PertscaleError) or isinstance(error, CorruptFileError)


def _portable(error: Exception) -> Exception:
    """Return an error that can travel to the client, with the trace of this process."""
    trace = "".join(traceback.format_exception(error))
    if isinstance(error, OSError) and error.errno in NO_STORAGE:
        return StorageError(reason(error))
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    except Exception:  # noqa: BLE001 - whatever its class does on the way
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.__traceback__ = error.__cause__ = error.__context__ = None  # they hold arrays
    if not isinstance(error, PertscaleError):
        error.add_note(trace)
    return error


def peak_bytes() -> int:
    """Return the largest resident memory of this process so far, in bytes."""
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


# --- all of them --------------------------------------------------------------------------------


class _Outcomes:
    """Collects outcomes: counts them, logs them, and reports failures together."""

    def __init__(self, label: str, descriptors: Sequence[Any], progress: Progress) -> None:
        self._label, self._descriptors, self._progress = label, descriptors, progress
        self._found: dict[int, Outcome] = {}
        self._failed: list[int] = []

    def add(self, i: int, outcome: Outcome) -> None:
        self._found[i] = outcome
        receipt = outcome.result if isinstance(outcome.result, dict) else {}
        emit(
            TaskDone(
                stage=self._label,
                unit=str(getattr(self._descriptors[i], "name", i)),
                seconds=outcome.seconds,
                worker=outcome.worker,
                peak_bytes=outcome.peak_bytes,
                bytes_read=receipt.get("bytes_read"),
                n_tries=outcome.n_tries,
                error=None if outcome.error is None else _text(outcome.error),
            )
        )
        if outcome.error is None:
            self._progress.advance()
            return
        self._failed.append(i)
        if isinstance(outcome.error, StorageError):
            raise StorageError(
                f"{self._label}: {_describe(self._descriptors[i])}: the output can't be written to "
                f"({outcome.error}); make room, or write to another place; the same call goes on "
                "with what is missing"
            ) from outcome.error
        if len(self._failed) == MOST_FAILED:
            self._raise("the rest was not tried")

    def results(self) -> list[Any]:
        if self._failed:
            self._raise("the others are done")
        return [self._found[i].result for i in range(len(self._descriptors))]

    def _raise(self, rest: str) -> None:
        errors = [self._found[i].error for i in self._failed]
        lines = [
            f"  {_describe(self._descriptors[i])}: {_text(error)}"
            for i, error in zip(self._failed[:_LISTED], errors, strict=False)
            if error is not None
        ]
        if len(self._failed) > _LISTED:
            lines.append(f"  … and {len(self._failed) - _LISTED} more")
        first = errors[0]
        kind = type(first) if isinstance(first, PertscaleError) else TaskError
        raise kind(
            f"{self._label}: {len(self._failed)} of {len(self._descriptors)} tasks failed, {rest}; "
            "the same call does only what is missing\n" + "\n".join(lines)
        ) from first


def _describe(descriptor: Any) -> str:
    if hasattr(descriptor, "describe"):
        return str(descriptor.describe())
    return str(getattr(descriptor, "name", descriptor))


def _text(error: Exception) -> str:
    return str(error) if isinstance(error, PertscaleError) else f"{type(error).__name__}: {error}"


# --- where they run -----------------------------------------------------------------------------


def _run_local(
    call: Callable[..., Outcome],
    descriptors: Sequence[Any],
    shared: tuple[Any, ...],
    label: str,
    add: Callable[[int, Outcome], None],
) -> None:
    name = f"{label}-{os.urandom(6).hex()}"
    task = dask.delayed(call, pure=False, traverse=False)
    more = [dask.delayed(one, pure=False, traverse=False) for one in shared]
    # Dask starts equals by the text of their keys, the last one first; with numbers that count
    # down, tasks start in the order of the descriptors
    tasks = [
        task(d, *more, dask_key_name=(name, f"{len(descriptors) - i:09d}", i))
        for i, d in enumerate(descriptors)
    ]

    def collect(key: Any, outcome: Outcome, *_: Any) -> None:
        if isinstance(key, tuple) and key[0] == name:
            add(key[2], outcome)

    # named here, since looking for a default would import `distributed`; a client is not local
    chosen = dask.config.get("scheduler", None)
    scheduler = dask.threaded.get if chosen in (None, *_CLUSTERS) else None
    # passed, not registered: what is registered belongs to the first map of any thread that starts
    callbacks = [*Callback.active, (None, None, None, collect, None)]
    dask.compute(*tasks, optimize_graph=False, scheduler=scheduler, callbacks=callbacks)


def _run_distributed(
    call: Callable[..., Outcome],
    descriptors: Sequence[Any],
    shared: tuple[Any, ...],
    label: str,
    client: Any,
    add: Callable[[int, Outcome], None],
) -> None:
    with _Flow(client, call, shared, label) as flow:
        waiting = deque(enumerate(descriptors))
        lost = []
        while waiting or flow.n_open:
            while waiting and flow.has_room():
                flow.submit(*waiting.popleft())
            i, outcome = flow.next()
            if outcome is None:
                lost.append(i)
            else:
                add(i, outcome)
        for i in lost:  # the worker may have died of another task: now they run alone
            flow.submit(i, descriptors[i])
            _, outcome = flow.next()
            add(i, outcome or Outcome(error=_lost_worker(client)))


def _same(shared: T) -> T:
    return shared


def _lost_worker(client: Any) -> TaskError:
    return TaskError(
        "its workers died each time, when it ran alone too; most often because they ran out of "
        "memory: give workers more, or pass a smaller memory= "
        f"(what workers said is in their logs; scheduler {client.scheduler.address})"
    )


class _Flow:
    """Tasks on a distributed scheduler: a few more than its workers can run at once."""

    def __init__(
        self, client: Any, call: Callable[..., Outcome], shared: tuple[Any, ...], label: str
    ) -> None:
        self._client, self._call, self._label = client, call, label
        # a task, not scattered data: what was lost with its worker is made again
        self._shared = [client.submit(_same, one, pure=False) for one in shared]
        self._open: dict[str, tuple[int, Any, Any]] = {}  # number, descriptor, future
        self._done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._again: list[Any] = []  # were done, and their results lost
        self._looked, self._threads = 0.0, 0
        self._known = frozenset(client.nthreads())
        self._alone_since: float | None = None

    def __enter__(self) -> _Flow:
        return self

    def __exit__(self, *_: Any) -> None:
        if self._open and self._client.status == "running":
            self._client.cancel([future for *_, future in self._open.values()], force=True)

    @property
    def n_open(self) -> int:
        return len(self._open)

    def has_room(self) -> bool:
        if time.monotonic() - self._looked > _TICK:  # workers come and go
            self._look()
        return self.n_open < max(1, self._threads) * IN_FLIGHT_PER_THREAD

    def submit(self, i: int, descriptor: Any) -> None:
        key = f"{self._label}-{os.urandom(6).hex()}-{i}"
        with cluster_errors(self._client):
            future = self._client.submit(
                self._call, descriptor, *self._shared, pure=False, key=key, priority=-i
            )
        self._open[key] = i, descriptor, future
        future.add_done_callback(self._done.put)

    def next(self) -> tuple[int, Outcome | None]:
        """Wait for a task; no outcome if its worker died too often."""
        while True:
            future = self._wait()
            try:
                outcome = self._fetch(future)
            except TimeoutError:
                self._again.append(future)
                self._look()
            else:
                return self._open.pop(future.key)[0], outcome

    def _wait(self) -> Any:
        """Wait for a future that is done."""
        while True:
            for future in self._again:
                if future.status not in _RUNS_AGAIN:
                    self._again.remove(future)
                    return future
            try:
                return self._done.get(timeout=_TICK)
            except queue.Empty:
                self._look()

    def _fetch(self, future: Any) -> Outcome | None:
        """Return what a task returned; TimeoutError if that was lost, with its worker."""
        from distributed import KilledWorker

        if future.status in _RUNS_AGAIN:
            raise TimeoutError
        if future.status == "error":
            error = future.exception()
            return None if isinstance(error, KilledWorker) else Outcome(error=error)
        with cluster_errors(self._client):
            if future.status == "finished":
                try:
                    return cast(Outcome, future.result(timeout=_FETCH))
                except KilledWorker:  # lost at this moment, and then
                    return None
            self._client.scheduler_info()  # fails where client or scheduler are gone
        raise ClusterError(
            f"the scheduler at {getattr(self._client.scheduler, 'address', 'unknown')} is "
            f"gone, or its tasks were stopped ({future.status}); the same call goes "
            "on with what is missing"
        )

    def _look(self) -> None:
        """Look at the workers; fail if there are none for too long, or some with other versions."""
        with cluster_errors(self._client):
            workers = self._client.scheduler_info(n_workers=-1)["workers"]
            if not self._known.issuperset(workers):
                check_versions(self._client)
        self._known |= set(workers)
        running = [worker for worker in workers.values() if worker["status"] == "running"]
        self._threads = sum(worker["nthreads"] for worker in running)
        self._looked = time.monotonic()
        if self._threads:
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = self._looked
        elif self._looked - self._alone_since > worker_timeout():
            begun = [_describe(one) for _, one, _ in list(self._open.values())[:_LISTED]]
            what = "; ".join(begun) or "none"
            raise ClusterError(f"{no_worker_error(self._client, len(workers))}; open tasks: {what}")
