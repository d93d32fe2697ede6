"""Events of a run, sent to whoever records them.

Code that does work calls :func:`emit`; a run that keeps a log sets a sink for its duration. Without
one nothing happens. The sink belongs to the current context (thread), not to the process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

Sink = Callable[[str, dict[str, Any]], None]

_sinks: ContextVar[tuple[Sink, ...]] = ContextVar("pertscale_sinks", default=())


def emit(kind: str, **fields: Any) -> None:
    """Send an event to all sinks; fields are plain values."""
    for sink in _sinks.get():
        sink(kind, fields)


@contextmanager
def recording(sink: Sink) -> Iterator[None]:
    """Send what happens inside the block to `sink` too."""
    token = _sinks.set((*_sinks.get(), sink))
    try:
        yield
    finally:
        _sinks.reset(token)
