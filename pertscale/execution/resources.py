"""How much memory there is, and how many tasks run in parallel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pertscale.execution.clients import memory_limit, tasks_in_all, tasks_per_process
from pertscale.execution.memory import task_budget


@dataclass(frozen=True)
class Resources:
    """Memory and parallelism of the processes that will do the work.

    Attributes
    ----------
    memory : int
        What the tasks of one process may hold together, in bytes.
    n_parallel : int
        Tasks that run at once in a process.
    n_threads : int
        Tasks that run at once in all processes.
    may_grow : bool
        Whether more may come during the work, as workers of a cluster do.
    """

    memory: int
    n_parallel: int
    n_threads: int
    may_grow: bool = False

    @classmethod
    def available(cls, memory: str | int, client: Any, *, n_shares: int = 1) -> Resources:
        """Return the resources of a client's workers, or of this process and others like it."""
        return cls(
            task_budget(memory, worker_limit=memory_limit(client)),
            tasks_per_process(client),
            tasks_in_all(client) * n_shares,
            client is not None,
        )
