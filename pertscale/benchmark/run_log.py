"""The log of a run: what took how long, what was skipped, and all events as they happened.

``log.jsonl`` in the output folder has a line of JSON for each event, appended at once, so that it
tells how far a run came that died. All have ``time``, ``run`` (one per call) and ``event``.
"""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pertscale.diagnostics.events import (
    Event,
    RunEnded,
    RunFailed,
    RunStarted,
    Skipped,
    StageDone,
    TaskDone,
    emit,
    recording,
)
from pertscale.diagnostics.progress import say
from pertscale.execution.runner import peak_bytes
from pertscale.schema import LOG_FILE

#: Reasons why something was skipped that are printed while a run goes on.
MOST_SAID = 5


@dataclass
class Stage:
    """Whether a stage reused an earlier run's result; set while it runs."""

    reused: bool = False


@dataclass
class RunLog:
    """Timings and what was skipped, in the order in which it happened."""

    quiet: bool
    timings: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[dict[str, Any]] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str, unit: str = "") -> Iterator[Stage]:
        """Time what is done inside the block, and the tasks of its maps."""
        started = time.perf_counter()
        stage = Stage()
        with recording(self._note):
            yield stage
        seconds = time.perf_counter() - started
        self.add(name, unit, seconds, reused=stage.reused)

    def add(self, name: str, unit: str, seconds: float, *, reused: bool = False) -> None:
        """Add a time that was measured elsewhere."""
        row = {
            "level": "stage",
            "stage": name,
            "unit": unit,
            "seconds": seconds,
            "reused": reused,
            "bytes_read": None,
            "peak_bytes": float(peak_bytes()),
            "worker": "",
            "n_tries": 1,
        }
        self.timings.append(row)
        emit(StageDone(stage=name, unit=unit, seconds=seconds, reused=reused))

    def skip(self, what: str, context: str, reason: str) -> None:
        """Add something that did not run; tell the user, but for one reason only once."""
        known = {row["reason"] for row in self.skipped}
        self.skipped.append({"what": what, "context": context, "reason": reason})
        emit(Skipped(what=what, context=context, reason=reason))
        if reason not in known and len(known) < MOST_SAID:
            where = f" ({context})" if context else ""
            say(f"skipped {what}{where}: {reason}", quiet=self.quiet)

    def say_skipped(self) -> None:
        """Print how many steps were skipped, where not every reason was printed."""
        reasons = {row["reason"] for row in self.skipped}
        if len(self.skipped) > len(reasons) or len(reasons) > MOST_SAID:
            say(
                f"skipped {len(self.skipped):,} steps for {len(reasons):,} "
                f"reason{'s'[: len(reasons) != 1]}; the report lists them",
                quiet=self.quiet,
            )

    def _note(self, event: Event) -> None:
        if isinstance(event, TaskDone) and event.error is None:
            row = {name: value for name, value in vars(event).items() if name != "error"}
            self.timings.append({"level": "task", "reused": False, **row})


@contextmanager
def log_file(folder: Path, *, version: str, stores: list[str]) -> Iterator[None]:
    """Append what happens inside the block to the folder's log, from its start to its end.

    The start says which `version` of the package works on which `stores`.
    """
    run = uuid.uuid4().hex[:8]
    descriptor = os.open(folder / LOG_FILE, os.O_APPEND | os.O_CREAT | os.O_RDWR, 0o666)

    def write(event: Event) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        content = {"time": now, "run": run, "event": event.kind, **vars(event)}
        line = json.dumps(content, default=str)
        with suppress(OSError):  # a full disk is reported by the code that needs it
            os.write(descriptor, (line + "\n").encode())  # one call: lines do not mix

    try:
        _end_line(descriptor)
        with recording(write):
            host, pid = socket.gethostname(), os.getpid()
            emit(RunStarted(host=host, pid=pid, version=version, stores=stores))
            try:
                yield
            except BaseException as error:
                emit(RunFailed(error=type(error).__name__, message=str(error)))
                raise
            emit(RunEnded())
    finally:
        os.close(descriptor)


def _end_line(descriptor: int) -> None:
    """End the line that a run which was killed has left unfinished."""
    size = os.fstat(descriptor).st_size
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        os.write(descriptor, b"\n")
