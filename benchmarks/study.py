"""A study of four lines: all tasks, five splits, four stores that share their perturbations."""

from __future__ import annotations

import shutil

from record import Record
from session import Session, check_disk, note
from shapes import Shape

SEEDS = 5
#: Bytes of the predictions of all units, of each pair of a held-out perturbation and a gene.
_KEPT = 2.5
_HELD_OUT = 0.25


def measure_study(session: Session, shape: Shape) -> None:
    """Label the lines, then run all that comes after; the stores are kept, the output is not."""
    record = session.record("study")
    print(f"study: {len(shape.contexts)} lines of {shape}", flush=True)
    for turn in range(session.rounds(1)):
        _run(session, record, shape, turn)


def _run(session: Session, record: Record, shape: Shape, turn: int) -> None:
    keys = {
        what: {"what": what, "round": turn, "shape": shape.name} for what in ("labels", "whole")
    }
    if record.find(keys["whole"]):
        return
    stores = session.lines(shape)
    out = session.scratch("study")
    check_disk(out.parent, output_bytes(shape), f"the output of {shape}")
    for what, key in keys.items():
        more = ("--seeds", str(SEEDS)) if what == "whole" else ()
        note(record, key, session.benchmark_of(what, stores, out, *more), shape=shape)
    shutil.rmtree(out, ignore_errors=True)


def output_bytes(shape: Shape) -> float:
    """Estimated size of what is predicted.

    Each line is predicted from itself, from every other one, and from all others together, by some
    30 methods on full and curated labels.
    """
    n = len(shape.contexts)
    units = 30 * SEEDS * n * (n + 1)
    return _KEPT * units * _HELD_OUT * shape.perturbations * shape.genes
