"""What a script runs, and what it asks SLURM for; both checked before anything is written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pertscale.errors import ArgumentError
from pertscale.execution.memory import memory_bytes

#: Allowed unquoted in an #SBATCH line: names of jobs, partitions, accounts, interfaces.
_WORD = re.compile(r"[A-Za-z0-9_.,:@+/-]+")
#: Minutes, minutes:seconds, hours:minutes:seconds, days-hours and so on, as in `man sbatch`.
_TIME = re.compile(r"\d+(:\d+){0,2}|\d+-\d+(:\d+){0,2}")
#: Python, numba and Dask alone take a third of this.
_LEAST_MEMORY = "1GB"


@dataclass(frozen=True)
class Call:
    """The benchmark that a script runs.

    Parameters
    ----------
    store, out : str
        Screen store and output folder, on a file system that all nodes share.
    run_arguments : sequence of str
        Further arguments of ``pertscale run``.
    labels_arguments : sequence of str
        Those of them that ``pertscale labels`` takes as well.
    keywords : mapping
        The same as `run_arguments`, for :func:`pertscale.run_benchmark`.
    """

    store: str
    out: str
    run_arguments: tuple[str, ...] = ()
    labels_arguments: tuple[str, ...] = ()
    keywords: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for text in (self.store, self.out, *self.run_arguments, *self.labels_arguments):
            one_line("an argument", text)


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a script asks SLURM for.

    Parameters
    ----------
    workers : int
        Worker processes, or jobs of an array.
    cpus : int
        Threads of each.
    memory : str or int
        Memory of each.
    time : str, optional
        Time limit as SLURM writes it; without one, the partition's.
    partition, account : str, optional
        Where it runs, and who pays.
    name : str
        Name of the job and of its log.
    interface : str, optional
        Network interface that scheduler and workers talk over, such as ``'ib0'``.
    resubmit : int
        How often the job queues itself again when its time is over.
    """

    workers: int = 4
    cpus: int = 1
    memory: str | int = "4GB"
    time: str | None = None
    partition: str | None = None
    account: str | None = None
    name: str = "pertscale"
    interface: str | None = None
    resubmit: int = 0

    def __post_init__(self) -> None:
        for what in ("name", "partition", "account", "interface"):
            value = getattr(self, what)
            if value is not None and not _WORD.fullmatch(value):
                raise ArgumentError(
                    f"{what}={value!r} can't stand in a job script; letters, digits and "
                    "_ . , : @ + / - can"
                )
        if self.time is not None and not _TIME.fullmatch(self.time):
            raise ArgumentError(
                f"time={self.time!r} is not a time limit of SLURM; write minutes, "
                "'hours:minutes:seconds' or 'days-hours:minutes:seconds', such as '04:00:00'"
            )
        for what, least in (("workers", 1), ("cpus", 1), ("resubmit", 0)):
            if getattr(self, what) < least:
                raise ArgumentError(f"{what}={getattr(self, what)} has to be {least} or more")
        if memory_bytes(self.memory) < memory_bytes(_LEAST_MEMORY):
            raise ArgumentError(
                f"memory={self.memory!r} is too little for a worker, which is a Python process "
                f"with numba and Dask; give it {_LEAST_MEMORY} or more"
            )

    @property
    def mebibytes_per_cpu(self) -> int:
        """Memory as SLURM counts it."""
        return -(-memory_bytes(self.memory) // (2**20 * self.cpus))


def one_line(what: str, text: str) -> str:
    """Return a text that a line of a script can hold; refuse another."""
    if any(c in text for c in "\n\r\0"):
        raise ArgumentError(f"{what} has a line break or a null in it: {text!r}; rename it")
    return text
