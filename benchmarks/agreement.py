"""p-values of the peers against pertscale's, on values that are equal to the last bit."""

from __future__ import annotations

import sys
from pathlib import Path

from record import Record
from session import Session
from shapes import AGREEMENT

#: Script, input, and the variant of pertscale's test that follows the same convention.
CASES = {
    "scipy": ("run_scipy", "log.h5ad", "mannwhitney"),
    "illico": ("run_illico", "log.h5ad", "mannwhitney"),
    "pdex": ("run_pdex", "log.h5ad", "mannwhitney"),
    "scanpy": ("run_scanpy", "log.h5ad", "scanpy_tie"),
    "crispyx": ("run_crispyx", "log-csc.h5ad", "scanpy_tie"),
}


def agree(session: Session) -> None:
    """Compare each tool's p-values; also pertscale's own from counts and from logarithms."""
    record = session.record("agreement")
    names = [*(CASES if session.peers_python else ("scipy",)), "pertscale from counts"]
    missing = [name for name in names if not record.find({"tool": name})]
    if not missing:
        return
    print(f"agreement: {AGREEMENT}", flush=True)
    folder = session.scratch("agreement")
    folder.mkdir()
    source = session.screen(AGREEMENT)
    session.checked_script("normalise_file", str(source), str(folder))
    store = folder / "log.zarr"
    session.checked_script(
        "run_pertscale", "ingest", str(folder / "log.h5ad"), str(store), "--scale", "log1p_1e4"
    )
    for test in ("mannwhitney", "scanpy_tie"):
        _ours(session, store, folder, test, folder / f"{test}.npz")
    for name in missing:
        _case(session, record, folder, name)


def _ours(session: Session, store: Path, folder: Path, test: str, target: Path) -> None:
    session.checked_script(
        "run_pertscale",
        "labels",
        str(store),
        str(folder / f"{target.stem}.labels"),
        "--test",
        test,
        "--p-values",
        str(target),
    )


def _case(session: Session, record: Record, folder: Path, name: str) -> None:
    theirs = folder / f"{name}.npz"
    if name == "pertscale from counts":
        test = "mannwhitney"
        _ours(session, session.store(AGREEMENT), folder, test, theirs)
    else:
        script, source, test = CASES[name]
        python = sys.executable if name == "scipy" else session.peers_python
        assert python is not None
        session.checked_script(
            script,
            str(folder / source),
            "--scale",
            "log1p",
            "--p-values",
            str(theirs),
            "--scratch",
            str(folder / "own"),
            python=python,
        )
    done = session.checked_script("compare_p_values", str(folder / f"{test}.npz"), str(theirs))
    record.add({"tool": name}, {"test": test, **done.said})
    print(f"  {name}: largest relative difference of p {done.said['max_relative']:.2g}", flush=True)
