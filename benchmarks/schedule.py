"""What a run would take on more workers, on paper: its tasks put on them, longest first."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

WORKERS = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class OnPaper:
    """A run on so many workers.

    Attributes
    ----------
    workers : int
    seconds : float
        What runs alone, and the tasks on all workers.
    speed_up, efficiency : float
        Over one worker, and that per worker.
    """

    workers: int
    seconds: float
    speed_up: float
    efficiency: float


def makespan(seconds: Sequence[float], workers: int) -> float:
    """Seconds until independent tasks are done: each, longest first, goes to who is free first."""
    free = [0.0] * workers
    for one in sorted(seconds, reverse=True):
        heapq.heapreplace(free, free[0] + one)
    return max(free)


def on_paper(
    phases: Sequence[Sequence[float]], serial: float, workers: Sequence[int] = WORKERS
) -> list[OnPaper]:
    """Return what a run would take: `serial` seconds alone, and phases of tasks of these seconds.

    A phase begins when the one before is done. No worker waits for data, memory or another, so that
    this is a limit and not a forecast.
    """
    alone = serial + sum(map(sum, phases))
    found = []
    for n in workers:
        taken = serial + sum(makespan(seconds, n) for seconds in phases)
        found.append(OnPaper(n, taken, alone / taken, alone / taken / n))
    return found


def largest_share(seconds: Sequence[float]) -> float:
    """Share of the longest task in all of them."""
    return max(seconds) / sum(seconds)
