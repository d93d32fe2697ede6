"""Runs a function over small descriptors on whatever Dask scheduler is current.

A task gets a descriptor (a path, row ranges, options: under a kilobyte), opens what it needs,
writes its own piece under the commit protocol of :mod:`pertscale.io.atomic`, and gives back a
small receipt. No matrix travels through the graph.

The current scheduler is used as it is: a ``distributed`` client where there is one, else Dask's
local scheduler (threads unless configured otherwise). Nothing is started, closed or configured.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import dask
import dask.threaded
from dask.callbacks import Callback

from pertscale.errors import ArgumentError, PertscaleError
from pertscale.progress import Progress

T = TypeVar("T")
R = TypeVar("R")

#: Tasks handed to a distributed scheduler beyond those that its threads can run at once.
IN_FLIGHT_PER_THREAD = 4


ClientLike = Any  # None, Client, cluster, address, or the path of a scheduler file


@contextmanager
def use_client(client: ClientLike) -> Iterator[Any]:
    """Resolve what the user passed as ``client=`` to a ``distributed.Client`` or None.

    A client that is opened here (for a cluster, an address or a scheduler file) is closed here;
    one that the user made stays as it was. None means the current client where there is one.
    """
    if client is None:
        yield _current_client()
        return
    from distributed import Client

    if isinstance(client, Client):
        yield client
        return
    if isinstance(client, str) and "://" in client:
        where: dict[str, Any] = {"address": client}
    elif isinstance(client, str | os.PathLike):
        if not os.path.exists(client):  # noqa: PTH110
            raise ArgumentError(
                f"client={str(client)!r} is neither an address such as 'tcp://host:8786' nor "
                "the path of an existing scheduler file"
            )
        where = {"scheduler_file": os.fspath(client)}
    elif hasattr(client, "scheduler_address"):
        where = {"address": client}
    else:
        raise ArgumentError(
            f"client= got a {type(client).__name__}; give a distributed Client, a cluster, an "
            "address ('tcp://…'), the path of a scheduler file, or None for the current one"
        )
    try:
        opened = Client(**where, set_as_default=False)
    except OSError as error:
        raise ArgumentError(f"no scheduler answers at client={client!r}: {error}") from error
    with opened:
        yield opened


def _current_client() -> Any:
    if "distributed" not in sys.modules:
        return None  # nobody has made a client; importing it takes a third of a second
    from distributed import get_client

    if dask.config.get("scheduler", None) in ("threads", "processes", "sync", "synchronous"):
        return None  # chosen by the user in a `with dask.config.set(scheduler=…)` block
    try:
        return get_client(timeout=0)
    except ValueError:
        return None


def tasks_per_process(client: Any) -> int:
    """Return how many tasks run at once in one process: they share its memory."""
    if client is not None:
        return max(client.nthreads().values(), default=1)
    if dask.config.get("scheduler", "threads") not in ("threads", "threading"):
        return 1
    return tasks_in_all(None)


def tasks_in_all(client: Any) -> int:
    """Return how many tasks run at once in all processes."""
    if client is not None:
        return max(1, sum(client.nthreads().values()))
    if dask.config.get("scheduler", "threads") in ("sync", "synchronous", "single-threaded"):
        return 1
    pool = dask.config.get("pool", None)
    workers = dask.config.get("num_workers", None) or getattr(pool, "_max_workers", None)
    return int(workers or dask.system.CPU_COUNT)


def run(
    function: Callable[[T], R],
    descriptors: Sequence[T],
    *,
    label: str,
    client: Any = None,
    quiet: bool = False,
) -> list[R]:
    """Call ``function(descriptor)`` for each descriptor; return the receipts in their order.

    Parameters
    ----------
    function : callable
        Defined at the top of a module, so that a worker can import it.
    descriptors : sequence
        Small and picklable.
    label : str
        Name of the tasks on the dashboard and of the progress bar.
    client : distributed.Client, optional
        As resolved by :func:`use_client`.
    quiet : bool
        Show no progress.

    Raises
    ------
    Exception
        Whatever a task raised. Finished pieces stay, so the same call goes on from there.
    """
    if not descriptors:
        return []
    with Progress(label, total=len(descriptors), quiet=quiet) as progress:
        if client is not None:
            return _run_distributed(function, descriptors, label, client, progress)
        return _run_local(function, descriptors, label, progress)


def everywhere(function: Callable[[], None], client: Any) -> None:
    """Call a function in this process, and in every worker if there is a client."""
    function()
    if client is not None:
        client.run(function)


def _run_local(
    function: Callable[[T], R], descriptors: Sequence[T], label: str, progress: Progress
) -> list[R]:
    token = dask.base.tokenize(label, len(descriptors))
    task = dask.delayed(function, pure=False, traverse=False)
    # tuple keys are ordered by their number, so tasks start in the order of the descriptors
    tasks = [task(d, dask_key_name=(f"{label}-{token}", i)) for i, d in enumerate(descriptors)]

    def count(*_: Any) -> None:
        progress.advance()

    # named here, since looking for a default would import `distributed`
    scheduler = None if dask.config.get("scheduler", None) else dask.threaded.get
    with Callback(posttask=count):
        return list(dask.compute(*tasks, optimize_graph=False, scheduler=scheduler))


def _run_distributed(
    function: Callable[[T], R],
    descriptors: Sequence[T],
    label: str,
    client: Any,
    progress: Progress,
) -> list[R]:
    from distributed import as_completed

    waiting = iter(enumerate(descriptors))
    position: dict[str, int] = {}
    results: dict[int, R] = {}
    flow = as_completed(loop=client.loop)

    def submit_next() -> None:
        item = next(waiting, None)
        if item is None:
            return
        i, descriptor = item
        future = client.submit(
            function, descriptor, pure=False, key=f"{label}-{os.urandom(6).hex()}-{i}", priority=-i
        )
        position[future.key] = i
        flow.add(future)

    threads = max(1, sum(client.nthreads().values()))
    for _ in range(threads * IN_FLIGHT_PER_THREAD):
        submit_next()
    for future in flow:
        results[position[future.key]] = _result(future, label)
        progress.advance()
        submit_next()
    return [results[i] for i in range(len(descriptors))]


def _result(future: Any, label: str) -> Any:
    from distributed.scheduler import KilledWorker

    try:
        return future.result()
    except KilledWorker as error:
        raise PertscaleError(
            f"{label}: a task lost its worker {error.allowed_failures + 1} times, most often "
            "because the worker ran out of memory; give the workers more memory or pass a smaller "
            "memory= (the same call goes on with the tiles that are missing)"
        ) from error
