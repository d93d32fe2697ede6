"""How time and memory grow: with cells, perturbations, genes, density, threads and workers."""

from __future__ import annotations

import shutil

from record import Record
from session import Session, note
from shapes import GENOME_WIDE, Shape, parallel_shape, sweeps

THREADS = (1, 2)
WORKERS = (1, 2)


def scale(session: Session) -> None:
    """Run all sweeps; the screen of a point is deleted when the point is done."""
    record = session.record("scaling")
    for what, shapes in sweeps(session.max_cells).items():
        for shape in shapes:
            _point(session, record, {"sweep": what, "shape": shape.name}, shape)
    shape = parallel_shape(session.max_cells)
    if not _parallel_done(session, record, shape):
        _parallel(session, record, shape)
        _share_of_dask(session, record, shape)
        session.drop(shape)


def genome_wide(session: Session, shape: Shape) -> None:
    """Ingest once and label a screen of the genome-wide shape; it is kept."""
    record = session.record(GENOME_WIDE.name)
    print(f"genome-wide: {shape}", flush=True)
    key = {"what": "ingest", "round": 0, "shape": shape.name}
    if not record.find(key):
        note(record, key, session.ingest(shape), shape=shape)
    for turn in range(session.rounds()):
        key = {"what": "labels", "round": turn, "shape": shape.name}
        if not record.find(key):
            note(record, key, session.labels(shape), shape=shape)


def _point(session: Session, record: Record, key: dict[str, str], shape: Shape) -> None:
    keys = [
        {**key, "what": what, "round": turn}
        for turn in range(session.rounds())
        for what in ("ingest", "labels")
    ]
    missing = [k for k in keys if not record.find(k)]
    for k in missing:
        call = session.ingest if k["what"] == "ingest" else session.labels
        note(record, k, call(shape), shape=shape)
    if missing:
        session.drop(shape)


def _parallel_keys(session: Session) -> list[dict[str, object]]:
    keys: list[dict[str, object]] = []
    for turn in range(session.rounds()):
        keys += [{"sweep": "threads", "value": n, "round": turn} for n in THREADS]
        keys += [{"sweep": "workers", "value": n, "round": turn} for n in WORKERS]
        keys += [{"sweep": "dask", "value": how, "round": turn} for how in ("dask", "pool")]
    return keys


def _parallel_done(session: Session, record: Record, shape: Shape) -> bool:
    return all(record.find({**key, "shape": shape.name}) for key in _parallel_keys(session))


def _parallel(session: Session, record: Record, shape: Shape) -> None:
    """Threads of one process, and processes of a LocalCluster with one thread each."""
    for key in _parallel_keys(session):
        full = {**key, "shape": shape.name}
        if key["sweep"] == "dask" or record.find(full):
            continue
        n = int(str(key["value"]))
        if key["sweep"] == "threads":
            done = session.labels(shape, threads=n)
        else:
            done = session.labels(shape, threads=1, workers=n)
        note(record, full, done, shape=shape)


def _share_of_dask(session: Session, record: Record, shape: Shape) -> None:
    """Run the same tiles through pertscale's map and through a bare pool of threads, in turns."""
    for key in _parallel_keys(session):
        full = {**key, "shape": shape.name}
        if key["sweep"] != "dask" or record.find(full):
            continue
        out = session.scratch("tiles")
        done = session.script(
            "run_map",
            str(key["value"]),
            str(session.store(shape)),
            str(out),
            "--threads",
            str(session.threads),
        )
        shutil.rmtree(out, ignore_errors=True)
        note(record, full, done, shape=shape)
