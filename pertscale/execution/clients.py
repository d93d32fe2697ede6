"""Which Dask scheduler does the work, and what its workers are.

The current scheduler is used as it is: a ``distributed`` client where there is one, else Dask's
local scheduler (threads unless configured otherwise). Nothing is started, closed or configured.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
from dask.utils import parse_timedelta

from pertscale.diagnostics.progress import say
from pertscale.errors import ArgumentError, ClusterError, PertscaleError
from pertscale.execution.memory import machine_limit

ClientLike = Any  # None, Client, cluster, address, or the path of a scheduler file

#: Dask setting: how long to wait for the first worker.
TIMEOUT_SETTING = "pertscale.worker-timeout"
_DEFAULT_TIMEOUT = "10 minutes"
#: How often a scheduler file is looked at, half a second apart, before it is given up.
_LOOKS = 6
#: Dask's names of its local schedulers.
_THREADS = ("threads", "threading")
_ONE = ("sync", "synchronous", "single-threaded")
_PROCESSES = ("processes", "multiprocessing")
#: Packages that results may depend on: the same version in this process and in all workers.
_SAME_VERSIONS = ("pertscale", "dask", "distributed", "numba", "numpy", "zarr")


@contextmanager
def use_client(client: ClientLike, *, quiet: bool = False) -> Iterator[Any]:
    """Resolve what the user passed as ``client=`` to a ``distributed.Client`` or None.

    A client that is opened here (for a cluster, an address or a scheduler file) is closed here;
    one that the user made stays as it was. None means the current client where there is one; in a
    task that is the worker's own, and the task gives its thread back while it waits.

    Parameters
    ----------
    client : Client, cluster, address, path of a scheduler file, or None
    quiet : bool
        Do not print what is waited for.

    Raises
    ------
    ArgumentError
        For something else, or where no scheduler answers.
    ClusterError
        If no worker comes in time, or if workers run other versions than this process.
    """
    with _opened(client) as found:
        if found is not None:
            _wait_for_workers(found, quiet=quiet)
            check_versions(found)
        yield found


@contextmanager
def _opened(client: ClientLike) -> Iterator[Any]:
    if client is None:
        if _in_task():
            from distributed import worker_client

            with worker_client() as found:
                yield found
        else:
            yield _current_client()
        return
    from distributed import Client

    if isinstance(client, Client):
        if client.asynchronous:
            raise ArgumentError("client= is asynchronous; pass one made without asynchronous=True")
        yield client
        return
    where = _where(client)
    try:
        opened = Client(**where, set_as_default=False)
    except (OSError, ValueError) as error:  # ValueError: an address of no known protocol
        raise ArgumentError(f"no scheduler answers at client={client!r}: {error}") from error
    with opened:
        yield opened


def _where(client: Any) -> dict[str, Any]:
    """Return the arguments of a Client for what the user passed."""
    if isinstance(client, str) and "://" in client:
        return {"address": client}
    if isinstance(client, str | os.PathLike):
        if not os.path.exists(client):  # noqa: PTH110
            raise ArgumentError(
                f"client={str(client)!r} is neither an address such as 'tcp://host:8786' nor "
                "the path of an existing scheduler file"
            )
        return {"address": _address_in(Path(client))}
    if hasattr(client, "scheduler_address"):
        return {"address": client}
    raise ArgumentError(
        f"client= got a {type(client).__name__}; give a distributed Client, a cluster, an "
        "address ('tcp://…'), the path of a scheduler file, or None for the current one"
    )


def _address_in(file: Path) -> str:
    """Return the address in a scheduler file, once that is complete."""
    for _ in range(_LOOKS):
        try:
            found = json.loads(file.read_bytes())
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, dict) and isinstance(found.get("address"), str):
            return str(found["address"])
        time.sleep(0.5)
    raise ArgumentError(
        f"client={str(file)!r} is not a scheduler file: it has no address; dask scheduler "
        "--scheduler-file writes one"
    )


def _in_task() -> bool:
    if "distributed" not in sys.modules:
        return False
    from distributed import get_worker

    try:
        get_worker()
    except ValueError:
        return False
    return True


def _current_client() -> Any:
    if "distributed" not in sys.modules:
        return None  # nobody has made a client; importing it takes a third of a second
    from distributed import get_client

    if dask.config.get("scheduler", None) in (*_THREADS, *_ONE, *_PROCESSES):
        return None  # chosen by the user in a `with dask.config.set(scheduler=…)` block
    try:
        return get_client(timeout=0)
    except ValueError:
        return None


# --- its workers ----------------------------------------------------------------------------------


def worker_timeout() -> float:
    """Return how many seconds to wait for a first worker."""
    return float(parse_timedelta(dask.config.get(TIMEOUT_SETTING, _DEFAULT_TIMEOUT)))


def no_worker_error(client: Any, n_paused: int = 0) -> ClusterError:
    """Return an error: no worker has come, or all are paused; it says what to look at."""
    if n_paused:
        return ClusterError(
            f"all {n_paused} workers of the scheduler at {client.scheduler.address} have been "
            f"paused for {worker_timeout():.0f} s, which Dask does with those that hold too much "
            "memory; give them more, or pass a smaller memory="
        )
    return ClusterError(
        f"the scheduler at {client.scheduler.address} has had no worker for "
        f"{worker_timeout():.0f} s; look whether the workers' jobs still wait in the queue "
        f"(squeue) or have failed (their log files), or wait longer with "
        f"dask.config.set({{{TIMEOUT_SETTING!r}: '2h'}})"
    )


def _wait_for_workers(client: Any, *, quiet: bool) -> None:
    """Wait for the first worker: a plan depends on what workers are like."""
    if client.nthreads():
        return
    say(
        f"waiting up to {worker_timeout():.0f} s for a worker at {client.scheduler.address}; "
        f"dashboard: {client.dashboard_link}",
        quiet=quiet,
    )
    # an adaptive cluster starts workers for tasks only
    future = client.submit(os.getpid, pure=False, key=f"first-worker-{os.urandom(6).hex()}")
    try:
        future.result(timeout=worker_timeout())
    except TimeoutError as error:
        raise no_worker_error(client) from error
    finally:
        future.cancel()


def check_versions(client: Any) -> None:
    """Refuse workers whose versions differ from this process's: results might, too."""
    versions = client.get_versions(packages=_SAME_VERSIONS)
    here = _versions(versions["client"])
    lines = []
    for address, info in versions["workers"].items():
        there = _versions(info)
        differences = [
            f"{name} {there.get(name) or 'missing'} (here {version})"
            for name, version in here.items()
            if there.get(name) != version
        ]
        if differences:
            lines.append(f"  {address}: {', '.join(differences)}")
    if lines:
        raise ClusterError(
            "workers run other versions than this process; start them in the same environment:\n"
            + "\n".join(sorted(lines)[:10])
        )


def _versions(info: dict[str, Any]) -> dict[str, str | None]:
    packages = info["packages"]
    python = ".".join(str(packages["python"]).split(".")[:2])
    return {"python": python} | {name: packages.get(name) for name in _SAME_VERSIONS}


def tasks_per_process(client: Any) -> int:
    """Return how many tasks run at once in one process: they share its memory."""
    if client is not None:
        return max(client.nthreads().values(), default=1)
    chosen = dask.config.get("scheduler", None)
    return 1 if chosen in (*_ONE, *_PROCESSES) else tasks_in_all(None)


def tasks_in_all(client: Any) -> int:
    """Return how many tasks run at once in all processes."""
    if client is not None:
        return max(1, sum(client.nthreads().values()))
    if dask.config.get("scheduler", None) in _ONE:
        return 1
    pool = dask.config.get("pool", None)
    workers = dask.config.get("num_workers", None) or getattr(pool, "_max_workers", None)
    return int(workers or dask.system.CPU_COUNT)


def memory_limit(client: Any) -> int | None:
    """Return the smallest memory limit of a worker in bytes; None where there is none.

    Dask's local pool of processes shares what this process may have.
    """
    if client is None:
        processes = dask.config.get("scheduler", None) in _PROCESSES
        return machine_limit() // tasks_in_all(None) if processes else None
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    limits = [worker["memory_limit"] for worker in workers if worker.get("memory_limit")]
    return int(min(limits)) if limits else None


def run_on_all_workers(function: Callable[[], None], client: Any) -> None:
    """Call a function in this process and, with a client, in every live worker."""
    function()
    if client is not None:
        client.run(function, on_error="ignore")


@contextmanager
def cluster_errors(client: Any) -> Iterator[None]:
    """Turn network errors into a ClusterError: the scheduler is gone, or workers died."""
    if client is None:
        yield
        return
    from asyncio import CancelledError

    from distributed import KilledWorker
    from distributed.client import ClosedClientError
    from distributed.comm import CommClosedError

    remedy = "the same call goes on with what is missing"
    try:
        yield
    except PertscaleError:
        raise
    except KilledWorker as error:
        raise ClusterError(
            "workers died each time they did a part of this work, most often because they ran out "
            f"of memory; give workers more: {remedy}"
        ) from error
    except (CancelledError, ClosedClientError, OSError, TimeoutError) as error:
        if client.status in ("closing", "closed"):
            raise ClusterError(f"the client was closed while its tasks ran; {remedy}") from error
        if client.status == "running" and not isinstance(error, CancelledError | CommClosedError):
            raise
        address = getattr(client.scheduler, "address", "unknown")
        raise ClusterError(
            f"the scheduler at {address} is gone ({error or type(error).__name__}); start the "
            f"cluster again: {remedy}"
        ) from error
