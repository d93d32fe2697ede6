"""Time small pieces of real work: the first call, which compiles and imports, does not count."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

#: CPU seconds after which a call is not repeated.
_ENOUGH = 0.1


@dataclass
class Stopwatch:
    """Sums the CPU seconds and the wall seconds of what it timed.

    Rates are CPU seconds, which hardly depend on what else the machine does; the ratio of wall to
    CPU seconds says how busy it is.

    Attributes
    ----------
    cpu, wall : float
        Seconds of all timed calls.
    """

    cpu: float = field(default=0.0)
    wall: float = field(default=0.0)

    def time(self, call: Callable[[], Any], *, repeat: int = 1, warm: bool = True) -> float:
        """Return the CPU seconds of a call, the least of `repeat`; by default after a first one.

        A call that takes long is not repeated.
        """
        if warm:
            call()
        found = []
        for _ in range(repeat):
            wall, cpu = time.perf_counter(), time.process_time()
            call()
            spent = time.process_time() - cpu
            self.wall += time.perf_counter() - wall
            self.cpu += spent
            found.append(spent)
            if sum(found) > _ENOUGH:
                break
        return min(found)

    @property
    def slowdown(self) -> float:
        """Wall seconds per CPU second of one thread, at least 1."""
        return max(1.0, self.wall / self.cpu) if self.cpu > 0 else 1.0
