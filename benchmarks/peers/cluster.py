"""A cluster on this machine, and the memory that its processes have taken."""

from __future__ import annotations

import argparse
import importlib
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from stages import Stages

#: A cluster on one machine, as the README has it: otherwise Dask's own processes wake up hundreds
#: of times a second, on the cores that the workers compute on.
RARE_POLLING = {
    "distributed.worker.profile.enabled": False,
    "distributed.worker.memory.monitor-interval": "1s",
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "10s",
}
#: ru_maxrss is in kilobytes, on macOS in bytes.
_UNIT = 1 if sys.platform == "darwin" else 1024


@contextmanager
def local_cluster(arguments: argparse.Namespace, stages: Stages, module: str) -> Iterator[Any]:
    """Start the workers that were asked for; they have loaded `module`, as in a cluster in use."""
    with stages("cluster"):
        import dask
        from distributed import Client, LocalCluster

        dask.config.set(RARE_POLLING)
        cluster = LocalCluster(
            n_workers=arguments.workers,
            threads_per_worker=arguments.threads,
            dashboard_address=None,
            local_directory=arguments.scratch,
        )
        client = Client(cluster)
        client.run(importlib.import_module, module)
    with cluster, client:
        yield client


def add_parallel(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say what works."""
    parser.add_argument("--threads", type=int, default=2, help="of this process, or each worker")
    parser.add_argument("--workers", type=int, default=0, help="processes of a LocalCluster")
    parser.add_argument("--scratch", help="folder for the cluster's own files")


def peak_bytes() -> int:
    """Peak resident memory of the process that calls it."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT


def worker_peaks(client: Any) -> list[int]:
    """Peak resident memory of each worker, in rising order."""
    return sorted(client.run(peak_bytes).values())
