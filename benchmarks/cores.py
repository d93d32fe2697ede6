"""One to all cores of a machine, as threads of a process and as workers of a cluster."""

from __future__ import annotations

from collections.abc import Iterator

from machine import describe_machine
from session import Session, note
from shapes import Shape


def measure_cores(session: Session, shape: Shape) -> None:
    """Run the whole benchmark, labels among it, in all arrangements; the screen is deleted then."""
    record = session.record("cores")
    print(f"cores: {shape}", flush=True)
    keys = [
        {"workers": workers, "threads": threads, "round": turn, "shape": shape.name}
        for turn in range(session.rounds(1))
        for workers, threads in arrangements(describe_machine()["cores"])
    ]
    missing = [key for key in keys if not record.find(key)]
    for key in missing:
        done = session.benchmark(shape, threads=int(key["threads"]), workers=int(key["workers"]))
        note(record, key, done, shape=shape)
    if missing:
        session.drop(shape)


def arrangements(cores: int) -> Iterator[tuple[int, int]]:
    """Workers and threads of each: threads of one process (no workers), then workers.

    First workers with a thread each, 1, 2, 4, ... of them, then all cores as workers with 2, 4, ...
    threads.
    """
    steps = [*(2**i for i in range(cores.bit_length()) if 2**i < cores), cores]
    yield from ((0, n) for n in steps)
    yield from ((n, 1) for n in steps)
    yield from ((cores // n, n) for n in steps[1:] if cores % n == 0)
