"""What a script needs while it runs in a job; ``python -m pertscale.slurm.inside`` in a shell."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pertscale.errors import ArgumentError, PertscaleError

#: Share of a task's memory that its worker may take; its nanny needs some as well.
WORKER_SHARE = 0.9


def task_memory(environ: Mapping[str, str] | None = None) -> int:
    """Return the bytes of memory that SLURM grants each task of the job this runs in.

    Raises
    ------
    ArgumentError
        Outside of a job, or in one that has not asked for memory.
    """
    environ = os.environ if environ is None else environ
    per_cpu, per_node = (environ.get(f"SLURM_MEM_PER_{of}", "0") for of in ("CPU", "NODE"))
    if int(per_cpu):
        return int(per_cpu) * 2**20 * int(environ.get("SLURM_CPUS_PER_TASK", "1"))
    if int(per_node):
        # one entry per kind of node, such as 2(x3),1
        counts = re.findall(r"(\d+)(?:\(x\d+\))?", environ.get("SLURM_TASKS_PER_NODE", "1"))
        return int(per_node) * 2**20 // max(map(int, counts))
    raise ArgumentError(
        "the job has no memory of its own (neither SLURM_MEM_PER_CPU nor SLURM_MEM_PER_NODE is "
        "set), so that none can be given to the workers; submit it with --mem-per-cpu=4G or --mem="
    )


def worker_memory(environ: Mapping[str, str] | None = None) -> int:
    """Return the bytes that a Dask worker may take in a task of the job this runs in."""
    return int(task_memory(environ) * WORKER_SHARE)


def wait_for_workers(client: Any, count: int, *, timeout: float = 300) -> int:
    """Wait until `count` workers are there; after `timeout` seconds go on with those that are.

    A run itself waits for the first one only, but cuts its tiles for the workers that are there
    when it begins: only if all have come is there work for all.

    Returns
    -------
    int
        The workers that are there.

    Raises
    ------
    PertscaleError
        If there is none.
    """
    end = time.monotonic() + timeout
    while (found := len(client.nthreads())) < count and time.monotonic() < end:
        time.sleep(0.2)
    if found == 0:
        raise PertscaleError(
            f"none of {count} workers has come to the scheduler at {client.scheduler.address} "
            f"within {timeout:g} s; the job's log and --interface may say why"
        )
    if found < count:
        print(f"pertscale: going on with {found} of {count} workers", file=sys.stderr)
    return found


def scheduler_address(scheduler_file: str | os.PathLike[str], *, timeout: float = 300) -> str:
    """Return the address in a file of `distributed`'s scheduler, as soon as it is written whole.

    Raises
    ------
    PertscaleError
        If that takes more than `timeout` seconds.
    """
    end = time.monotonic() + timeout
    while True:
        try:
            return str(json.loads(Path(scheduler_file).read_text())["address"])
        except (FileNotFoundError, json.JSONDecodeError) as error:  # not yet, or in the middle
            if time.monotonic() > end:
                raise PertscaleError(
                    f"the scheduler has not written {scheduler_file} within {timeout:g} s; "
                    "the job's log may say why"
                ) from error
        time.sleep(0.1)


def _wait(scheduler_file: str, count: int) -> None:
    from distributed import Client

    with Client(scheduler_address(scheduler_file), set_as_default=False) as client:
        wait_for_workers(client, count)


def main(arguments: list[str]) -> None:
    """Do what a shell script asks for: ``worker-memory``, ``wait FILE N``."""
    match arguments:
        case ["worker-memory"]:
            print(worker_memory())
        case ["wait", scheduler_file, count]:
            _wait(scheduler_file, int(count))
        case _:
            raise ArgumentError(f"{arguments} is neither worker-memory nor wait FILE N")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except PertscaleError as error:
        sys.exit(f"pertscale: {error}")
