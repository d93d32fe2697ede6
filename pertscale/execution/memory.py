"""Memory budgets: what the user allows, and what the limits of a process allow."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from dask.utils import parse_bytes

from pertscale.display import n_bytes
from pertscale.errors import ArgumentError, MemoryBudgetError

#: Take what the limits leave, up to :data:`MOST_BYTES`.
AUTO = "auto"
#: More memory than this makes nothing faster.
MOST_BYTES = 2_000_000_000
#: What a process holds beside the data of its tasks: the interpreter, libraries, compiled kernels.
PROCESS_BYTES = 300_000_000
#: Share of a limit that may be used: above it Dask pauses a worker, and a little later kills it.
USABLE = 0.8


def memory_bytes(memory: str | int) -> int:
    """Return a size in bytes.

    Raises
    ------
    ArgumentError
        For what is not a size above zero.
    """
    try:
        size = parse_bytes(memory)
    except ValueError:
        size = 0
    if size <= 0:
        raise ArgumentError(
            f"memory={memory!r} is not a size; write '2GB', '500MB', a number of bytes, or 'auto'"
        )
    return int(size)


def check_memory(memory: str | int) -> None:
    """Raise an ArgumentError for what is neither a size nor 'auto'."""
    if memory != AUTO:
        memory_bytes(memory)


def task_budget(memory: str | int, *, worker_limit: int | None, most: int = MOST_BYTES) -> int:
    """Return what the tasks of one process may hold together, in bytes.

    Parameters
    ----------
    memory : str or int
        ``'auto'``, or what the user allows.
    worker_limit : int, optional
        Memory limit of a worker; None where this process does the work, whose limit is that of
        the machine, the control group, or the SLURM job.
    most : int
        What ``'auto'`` takes at most.

    Raises
    ------
    MemoryBudgetError
        If the limit leaves less than `memory`, or nothing.
    """
    limit = worker_limit or machine_limit()
    room = int(limit * USABLE) - PROCESS_BYTES
    what = "a worker" if worker_limit else "this process"
    account = (
        f"the limit of {what} is {n_bytes(limit)}, of which {USABLE:.0%} less "
        f"{n_bytes(PROCESS_BYTES)} for the process itself can be used"
    )
    needed = MOST_BYTES // 10 if memory == AUTO else memory_bytes(memory)
    if room >= needed:
        return min(room, most) if memory == AUTO else needed
    enough = -(-(needed + PROCESS_BYTES) // int(USABLE * 1e6))
    remedy = f"give it at least {enough} MB"
    if worker_limit:
        remedy += f" (memory_limit='{enough}MB', --memory-limit {enough}MB)"
    if memory != AUTO and room > 0:
        remedy = f"pass memory='{room // 1_000_000}MB' or less, or " + remedy
    raise MemoryBudgetError(f"memory={memory!r} needs {n_bytes(needed)}, but {account}; {remedy}")


def machine_limit() -> int:
    """Return how much memory this process may have: the machine's, or less by a limit, in bytes."""
    return min([_physical(), *_control_groups(), *_slurm_job(os.environ)])


def _physical() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _control_groups(root: Path = Path("/sys/fs/cgroup"), mine: str | None = None) -> Iterator[int]:
    """Yield the limits of this process's control groups, up to the root, of version 2 or 1."""
    listed = Path("/proc/self/cgroup")
    if mine is None:
        mine = listed.read_text() if listed.exists() else ""
    for line in mine.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        top, name = root, "memory.max"  # version 2 has one tree for all controllers
        if controllers:
            top, name = root / "memory", "memory.limit_in_bytes"
        here = top / path.strip("/")
        for folder in (here, *here.parents):
            file = folder / name
            if file.is_file() and (text := file.read_text().strip()).isdigit():
                yield int(text)
            if folder == top:
                break


def _slurm_job(environment: os._Environ[str] | dict[str, str]) -> Iterator[int]:
    """Yield what SLURM gives this job on the node, where control groups do not enforce it."""
    # 0 stands for all that the node has
    if node := int(environment.get("SLURM_MEM_PER_NODE", "0")):
        yield node * 2**20
    elif cpu := int(environment.get("SLURM_MEM_PER_CPU", "0")):
        yield cpu * 2**20 * int(environment.get("SLURM_CPUS_ON_NODE", "1"))
