"""The whole benchmark of a screen: from the store to the report, by stage and method."""

from __future__ import annotations

from session import Session, note
from shapes import Shape


def measure_whole(session: Session, shape: Shape) -> None:
    """Run all rounds of one size; the screen is kept."""
    record = session.record("benchmark")
    print(f"the whole benchmark: {shape.name}, {shape}", flush=True)
    for turn in range(session.rounds(3)):
        key = {"size": shape.name, "round": turn}
        if not record.find(key):
            note(record, key, session.benchmark(shape), shape=shape)
