"""Who holds a lock: what identifies a process across machines, and whether it lives."""

from __future__ import annotations

import os
import socket
import time
import uuid
from pathlib import Path
from typing import Any

import psutil


def me() -> dict[str, Any]:
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


def holder(owner: dict[str, Any]) -> str:
    """Describe the process that holds a lock."""
    job = f", SLURM job {owner['job']}" if owner.get("job") else ""
    return f"process {owner['pid']} on {owner['host']}{job}, since {owner['since']}"


def held(output: object, owner: dict[str, Any]) -> str:
    """Say who holds an output, and what to do."""
    return (
        f"another run works in {output}: {holder(owner)}; wait until it ends, or write to another "
        "place (out=, --out)"
    )


def lives(owner: dict[str, Any]) -> bool | None:
    """Whether the process that holds a lock lives; None where it is on another machine."""
    if owner["machine"] != _machine():
        return None
    return bool(_born(owner["pid"])) and _born(owner["pid"]) == owner["born"]


def completed(owner: Any, *, token: str) -> dict[str, Any]:
    """Return what a lock says, whatever was found in it: what it does not say is unknown."""
    unknown = {"token": token, "host": "unknown", "machine": "", "pid": 0, "born": "", "since": "?"}
    return {**unknown, **(owner if isinstance(owner, dict) else {})}


def _machine() -> str:
    """Tell machines, and boots of one, and containers on it, apart."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    if not boot.exists():
        return f"{socket.gethostname()}-{uuid.getnode()}"
    return f"{boot.read_text().strip()}-{os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115


def _born(pid: int) -> str:
    """When a process began, since the start of its machine; empty if it is not there."""
    if not Path("/proc/self/stat").exists():  # not Linux
        return f"{psutil.Process(pid).create_time():.2f}" if psutil.pid_exists(pid) else ""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    state, *fields = text[text.rindex(")") + 2 :].split()
    return "" if state == "Z" else fields[18]
