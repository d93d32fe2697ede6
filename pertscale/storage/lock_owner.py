"""Who holds a lock: what identifies a process across machines, and whether it is alive.

On its own machine the process can be looked up. Another machine can only watch whether the lock is
still renewed, which its holder does every few seconds; clocks are not compared.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from pertscale.diagnostics.progress import say
from pertscale.errors import StorageError


def this_process() -> dict[str, Any]:
    """Return what identifies this process: on which machine it is, and since when."""
    return {
        "token": uuid.uuid4().hex,
        "host": socket.gethostname(),
        "machine": _machine(),
        "pid": os.getpid(),
        "born": _born(os.getpid()),
        "job": os.environ.get("SLURM_JOB_ID", ""),
        "since": time.strftime("%Y-%m-%d %H:%M:%S %z"),
    }


def describe_owner(owner: dict[str, Any]) -> str:
    """Describe the process that holds a lock."""
    job = f", SLURM job {owner['job']}" if owner.get("job") else ""
    return f"process {owner['pid']} on {owner['host']}{job}, since {owner['since']}"


def held_message(output: object, owner: dict[str, Any]) -> str:
    """Say who holds an output, and what to do."""
    return (
        f"another run works in {output}: {describe_owner(owner)}; wait until it ends, or write to "
        "another place (out=, --out)"
    )


def read_owner(content: bytes) -> dict[str, Any]:
    """Return the owner that a lock names; what it does not say is unknown."""
    text = content.decode(errors="replace")
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        said = {}
    owner = {
        "token": text,
        "host": "unknown",
        "machine": "",
        "pid": 0,
        "born": "",
        "job": "",
        "since": "?",
    }
    for name, value in said.items() if isinstance(said, dict) else ():
        if isinstance(value, type(owner.get(name))):
            owner[name] = value
    return owner


@contextmanager
def heartbeat(renew: Callable[[], bool], every: float) -> Iterator[None]:
    """Call `renew` every few seconds during the block, as long as it returns True."""
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(every):
            try:
                if not renew():
                    return
            except (OSError, StorageError):
                continue  # a server that is away for a moment; the lock's `check` notices a loss

    thread = threading.Thread(target=beat, name="pertscale-lock", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def is_alive(
    output: object,
    owner: dict[str, Any],
    state: Callable[[], object],
    *,
    beat: float,
    patience: float,
    quiet: bool,
) -> bool:
    """Whether the process that holds a lock is alive.

    Parameters
    ----------
    output
        What is held, for messages.
    owner : dict
        What the lock says.
    state : callable
        Returns what changes when the lock is renewed; empty where the lock is gone.
    beat, patience : float
        Seconds between two renewals; without one for this long the process is dead.
    quiet : bool
        Do not say that the lock is watched.
    """
    known = _lives_here(owner)
    if known is not None:
        return known
    say(
        f"{output} is held by {describe_owner(owner)}; watching up to {patience:.0f} s whether "
        "that run lives",
        quiet=quiet,
    )
    first = state()
    end = time.monotonic() + patience
    while first and time.monotonic() < end:
        time.sleep(beat / 5)
        now = state()
        if now != first:
            return bool(now)
    return False


def _lives_here(owner: dict[str, Any]) -> bool | None:
    """Whether a process is alive; None where this machine can't tell."""
    if owner["machine"] != _machine():
        return None
    born = _born(owner["pid"])
    if not born and _is_hidden(owner["pid"]):
        return None
    return bool(born) and born == owner["born"]


def _is_hidden(pid: int) -> bool:
    """Whether there is a process that this user may not see (``hidepid``, on login nodes)."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return False  # one's own, which is visible: it has ended meanwhile


def _machine() -> str:
    """Return what tells machines apart, boots of one machine, and containers on it."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    if not boot.exists():
        return f"{socket.gethostname()}-{uuid.getnode()}"
    return f"{boot.read_text().strip()}-{os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115


def _born(pid: int) -> str:
    """Return when a process began, since the boot of its machine; empty if there is none."""
    if not Path("/proc/self/stat").exists():  # not Linux
        return f"{psutil.Process(pid).create_time():.2f}" if psutil.pid_exists(pid) else ""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    state, *fields = text[text.rindex(")") + 2 :].split()
    return "" if state == "Z" else fields[18]
