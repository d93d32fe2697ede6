"""pertscale against the peers: whole processes in pairs, A B A B."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from record import Record, Run
from session import Session, check_disk, lacks_memory, note
from shapes import Shape


@dataclass(frozen=True)
class Peer:
    """A tool that is measured.

    Attributes
    ----------
    script : str
        Its script in ``peers/``.
    memory : float
        Peak memory, in sizes of the h5ad of counts, above `base`: whether it is worth trying.
    from_csc : bool
        Reads the log-normalised CSC h5ad that is prepared by ``prepare_csc.py``.
    base : float
        Bytes that it takes for any screen.
    in_part : bool
        Runs on as many perturbations as fit into the budget.
    """

    script: str
    memory: float
    base: float = 0.5e9
    from_csc: bool = False
    in_part: bool = False


PEERS = {
    "illico": Peer("run_illico", 1.4),
    "illico-backed": Peer("run_illico_backed", 0.3, from_csc=True),
    "crispyx": Peer("run_crispyx", 0.1, base=5e9, from_csc=True),
    "pdex": Peer("run_pdex", 1.4, in_part=True),
    "scanpy": Peer("run_scanpy", 2.0, in_part=True),
}
PREPARATION = "prepare-csc"


def compare(session: Session, shape: Shape, names: list[str]) -> None:
    """Run all rounds of one size; one round holds a pair (pertscale, peer) for every peer."""
    print(f"pertscale against {', '.join(names) or 'no peer'}: {shape.name}, {shape}", flush=True)
    record = session.record(f"peers-{shape.name}")
    session.screen(shape)
    for turn in range(session.rounds()):
        key = {"tool": "pertscale", "what": "ingest", "round": turn}
        if not record.find(key):
            note(record, key, session.ingest(shape), shape=shape)
        for name in names or [""]:
            _pair(session, shape, record, name, turn)


def _pair(session: Session, shape: Shape, record: Record, name: str, turn: int) -> None:
    ours: Run = {"tool": "pertscale", "what": "labels", "round": turn, "with": name}
    theirs: Run = {"tool": name, "what": "test", "round": turn}
    if record.find(ours) and (not name or record.find(theirs)):
        return
    reason = _too_large(session, shape, PEERS[name]) if name else ""
    if reason:
        print(f"  {name}: not run, {reason}", flush=True)
        record.add(theirs, {"skipped": reason, "shape": asdict(shape)})
        return
    if name and PEERS[name].from_csc and not _prepare(session, shape, record):
        return
    note(record, ours, session.labels(shape), shape=shape)
    if name:
        _run_peer(session, shape, record, name, theirs)


def _too_large(session: Session, shape: Shape, peer: Peer) -> str:
    return lacks_memory(peer.base + peer.memory * session.screen(shape).stat().st_size)


def _run_peer(session: Session, shape: Shape, record: Record, name: str, key: Run) -> None:
    peer = PEERS[name]
    source = _csc(session, shape) if peer.from_csc else session.screen(shape)
    scratch = session.scratch(name)
    arguments = [str(source), "--threads", str(session.threads), "--scratch", str(scratch)]
    if peer.in_part:
        arguments += ["--budget", str(session.budget)]
    assert session.peers_python is not None
    done = session.script(peer.script, *arguments, python=session.peers_python)
    note(record, key, done, shape=shape)
    shutil.rmtree(scratch, ignore_errors=True)


def _csc(session: Session, shape: Shape) -> Path:
    return session.work / "screens" / f"{shape.name}-csc" / "csc.h5ad"


def _prepare(session: Session, shape: Shape, record: Record) -> bool:
    """Make the log-normalised CSC file, once per size; measured, since a user has to make it."""
    key = {"tool": PREPARATION, "what": "prepare", "round": 0}
    path = _csc(session, shape)
    if path.exists() and record.find(key):
        return True
    assert session.peers_python is not None
    check_disk(session.work, 2 * session.screen(shape).stat().st_size, f"the CSC file of {shape}")
    done = session.script(
        "prepare_csc",
        str(session.screen(shape)),
        "--scratch",
        str(path.parent),
        python=session.peers_python,
    )
    note(record, key, done, shape=shape)
    return path.exists()
