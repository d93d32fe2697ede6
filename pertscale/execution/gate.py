"""What the tasks of one process hold together: those that would not fit wait for others to end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_changed = threading.Condition()
_held = 0


@contextmanager
def holding(n_bytes: int, *, budget: int) -> Iterator[None]:
    """Wait until so much fits into the budget beside what others hold; alone, anything does."""
    global _held
    with _changed:
        _changed.wait_for(lambda: not _held or _held + n_bytes <= budget)
        _held += n_bytes
    try:
        yield
    finally:
        with _changed:
            _held -= n_bytes
            _changed.notify_all()
