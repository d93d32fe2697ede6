"""The record of a run: what took how long, and what was skipped."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pertscale.io.atomic import read_json
from pertscale.progress import say
from pertscale.schema import MANIFEST_FILE


@dataclass
class Stage:
    """Whether a stage took an earlier run's result; set while it runs."""

    reused: bool = False


@dataclass
class Log:
    """Timings and what was skipped, in the order in which it happened."""

    quiet: bool
    timings: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[dict[str, Any]] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str, unit: str = "") -> Iterator[Stage]:
        """Time what is done inside the block."""
        started = time.perf_counter()
        stage = Stage()
        yield stage
        seconds = time.perf_counter() - started
        self.add(name, unit, seconds, reused=stage.reused)

    def add(self, name: str, unit: str, seconds: float, *, reused: bool = False) -> None:
        """Add a time that was taken elsewhere."""
        self.timings.append({"stage": name, "unit": unit, "seconds": seconds, "reused": reused})

    def skip(self, what: str, context: str, reason: str) -> None:
        """Add something that did not run, and tell the user."""
        self.skipped.append({"what": what, "context": context, "reason": reason})
        say(f"skipped {what} ({context}): {reason}", quiet=self.quiet)

    @staticmethod
    def before(folder: Path) -> str | None:
        """Key of the labels that the last finished run used."""
        manifest = folder / MANIFEST_FILE
        return read_json(manifest)["labels_key"] if manifest.exists() else None
