"""Runs ``kernel.py`` for each shape in the environment of the peers."""

from __future__ import annotations

from pathlib import Path
from statistics import median

from measure import measure, thread_limits
from session import Session, lacks_memory

SCRIPT = Path(__file__).resolve().parent / "kernel.py"
#: Bytes that a shape needs, and the shapes in their order.
SHAPES = {"M": 1.0e9, "L": 1.5e9, "K": 1.5e9, "genome-wide": 3e9}


def compare_kernels(session: Session) -> None:
    """Run every shape that has no result yet."""
    record = session.record("kernel")
    assert session.peers_python is not None
    cache = {"NUMBA_CACHE_DIR": str(session.work / "kernel-cache")}  # not that of the measured runs
    for name, needed in SHAPES.items():
        key = {"shape": name}
        reason = lacks_memory(needed)
        if record.find(key):
            continue
        if reason:
            print(f"  kernel {name}: not run, {reason}", flush=True)
            continue
        done = measure(
            [session.peers_python, str(SCRIPT), name],
            log=session.work / "logs" / f"kernel-{name}.log",
            env={**thread_limits(1), **cache},
        )
        if done.exit_code:
            record.add(key, {"failed": f"exit code {done.exit_code}"})
            print(f"  kernel {name}: FAILED; see the log", flush=True)
            continue
        record.add(key, done.said)
        ours, theirs = (median(done.said["cpu"][tool]) for tool in ("pertscale", "illico"))
        each = ours / done.said["n_nonzero"] * 1e9
        print(f"  kernel {name}: {each:.1f} ns per non-zero, illico {theirs / ours:.1f} x")
