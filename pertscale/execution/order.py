"""In which order tasks are started that differ in length and in what they hold."""

from __future__ import annotations

import heapq
from collections.abc import Sequence


def start_order(
    costs: Sequence[float], sizes: Sequence[int], *, n_threads: int, budget: int
) -> list[int]:
    """Return the order in which to start tasks: the longest first, so that none is left at the end.

    A task that does not fit beside those that run then comes later: the thread that is free would
    wait for it, and takes a smaller one. What runs when is known on paper only, so tasks have to
    look for room nevertheless (:func:`pertscale.execution.gate.holding`).

    Parameters
    ----------
    costs : sequence of float
        How long each takes, in any unit.
    sizes : sequence of int
        Bytes that each holds.
    n_threads : int
        Tasks that run at once.
    budget : int
        Bytes that they may hold together; one alone may hold more.
    """
    waiting = sorted(range(len(costs)), key=lambda i: -costs[i])
    running: list[tuple[float, int]] = []  # when each ends, and what it holds
    now, held, order = 0.0, 0, []
    while waiting:
        fits = (at for at, i in enumerate(waiting) if not held or held + sizes[i] <= budget)
        at = next(fits, None) if len(running) < n_threads else None
        if at is None:
            now, freed = heapq.heappop(running)
            held -= freed
            continue
        chosen = waiting.pop(at)
        order.append(chosen)
        heapq.heappush(running, (now + costs[chosen], sizes[chosen]))
        held += sizes[chosen]
    return order
