"""Runs a command as a process of its own and measures it: wall, CPU, peak memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Measurement:
    """What a process took, from its start to its end.

    Attributes
    ----------
    wall, cpu : float
        Seconds; CPU is user + system of the process and of the children it waited for.
    peak_bytes : int
        Peak resident memory of the process (the largest of its children, if that is larger).
    exit_code : int
    said : dict
        The JSON object that the process printed as its last line.
    """

    wall: float
    cpu: float
    peak_bytes: int
    exit_code: int
    said: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def measure(command: Sequence[str], *, log: Path, env: Mapping[str, str]) -> Measurement:
    """Run `command`, its standard error going to `log`.

    The memory is what the kernel counts for the child (``wait4``). This process imports little, so
    that what a child inherits before ``exec`` stays below anything measured.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, env={**os.environ, **env}
        )
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    kilobytes = usage.ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    return Measurement(
        wall=round(wall, 4),
        cpu=round(usage.ru_utime + usage.ru_stime, 4),
        peak_bytes=int(kilobytes * 1024),
        exit_code=process.returncode,
        said=_last_json(output.decode(errors="replace")),
    )


def _last_json(output: str) -> dict[str, Any]:
    for line in reversed(output.splitlines()):
        if line.startswith("{"):
            return json.loads(line)
    return {}


def thread_limits(threads: int) -> dict[str, str]:
    """Return the environment in which numerical libraries use this many threads."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    return dict.fromkeys((*names, "POLARS_MAX_THREADS"), str(threads))
