"""Large arrays that tasks reuse.

The first touch of fresh memory costs more than most of the work that is done on it, so a thread
that works through tiles takes its arrays from here and gives them back.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from pertscale.execution.allocator import trim


class Buffers:
    """Named stretches of memory that only grow; not for two threads at once."""

    def __init__(self) -> None:
        self._bytes: dict[str, np.ndarray] = {}

    def take(self, name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """Return a C-contiguous array with unspecified content; it replaces the last `name`."""
        dtype = np.dtype(dtype)
        size = math.prod(shape) * dtype.itemsize
        held = self._bytes.get(name)
        if held is None or held.nbytes < size:
            self._bytes.pop(name, None)  # before the larger one is allocated
            held = self._bytes[name] = np.empty(size, np.uint8)
        return held[:size].view(dtype).reshape(shape)

    @property
    def n_bytes(self) -> int:
        """Bytes that are held."""
        return sum(held.nbytes for held in self._bytes.values())


class BufferPool:
    """Buffers for as many threads as work at the same time."""

    def __init__(self) -> None:
        self._idle: list[Buffers] = []
        self._lock = threading.Lock()

    @contextmanager
    def borrow(self) -> Iterator[Buffers]:
        """Yield buffers that no other thread has; their memory is kept for the next one."""
        with self._lock:
            buffers = self._idle.pop() if self._idle else Buffers()
        try:
            yield buffers
        finally:
            with self._lock:
                self._idle.append(buffers)

    @property
    def n_bytes(self) -> int:
        """Bytes of all buffers that are not in use."""
        with self._lock:
            return sum(buffers.n_bytes for buffers in self._idle)

    def clear(self) -> None:
        """Free the memory of all buffers that are not in use."""
        with self._lock:
            self._idle.clear()
        trim()
