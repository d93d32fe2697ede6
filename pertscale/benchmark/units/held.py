"""Arrays of files that several units use, held in a process as long as there is room for them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

T = TypeVar("T")

#: Bytes that are held together; what was not used for longest goes first.
MOST_BYTES = 2**28


class HeldArrays:
    """What was read, by what it is of; read once by one thread while others wait."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._found: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._reading = threading.Lock()

    def get(self, key: Hashable, n_bytes: int, read: Callable[[], T]) -> T:
        """Return what is held under a key; read it, and let others go for it, where nothing is."""
        with self._reading:
            if key not in self._found:
                self._make_room(n_bytes)
                self._found[key] = read(), n_bytes
            self._found.move_to_end(key)
            found: T = self._found[key][0]
            return found

    def _make_room(self, n_bytes: int) -> None:
        """Let go of the oldest; one array alone may be larger than all may be together."""
        while self._found and self._n_bytes + n_bytes > self._most_bytes:
            self._found.popitem(last=False)

    def clear(self) -> None:
        """Let go of all."""
        with self._reading:
            self._found.clear()

    @property
    def _n_bytes(self) -> int:
        return sum(n_bytes for _, n_bytes in self._found.values())


#: Of this process.
held_arrays = HeldArrays()
