"""Raw results: one JSON file per topic, added to run by run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from machine import commit, describe_machine, versions

Run = dict[str, Any]


class Record:
    """Runs of one topic in ``results/TOPIC.json``; what is there is not run again.

    A run is known by its `key`: a flat dict of what was run. Failed runs are written down, and
    tried again by the next call.
    """

    def __init__(self, folder: Path, topic: str, *, peers: str | None, again: bool) -> None:
        self.path = folder / f"{topic}.json"
        self.topic = topic
        self._content: dict[str, Any] = {
            "topic": topic,
            "machine": describe_machine(),
            "commit": commit(),
            "versions": versions(),
            "peer_versions": versions(peers) if peers else {},
            "runs": [],
        }
        if self.path.exists() and not again:
            self._continue(json.loads(self.path.read_text()))

    def _continue(self, earlier: dict[str, Any]) -> None:
        if earlier["machine"] != self._content["machine"]:
            raise SystemExit(
                f"{self.path.name} was measured on another machine ({earlier['machine']['cpu']}); "
                "pass --again to measure anew, or another folder with --results"
            )
        self._content["runs"] = earlier["runs"]
        for name in ("commit", "versions"):
            if earlier[name] != self._content[name]:
                print(f"note: {self.path.name} has runs of another {name}; --again repeats them")
        self._content["peer_versions"] = self._content["peer_versions"] or earlier["peer_versions"]

    def find(self, key: Run) -> Run | None:
        """Return the finished run with this key, if there is one."""
        for run in self._content["runs"]:
            if run["key"] == key and not run.get("failed"):
                return run
        return None

    def add(self, key: Run, values: Run) -> Run:
        """Write a run down at once; it takes the place of one with the same key."""
        run = {"key": key, "commit": self._content["commit"], **values}
        runs = [other for other in self._content["runs"] if other["key"] != key]
        self._content["runs"] = [*runs, run]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".partial")
        temporary.write_text(json.dumps(self._content, indent=1) + "\n")
        temporary.replace(self.path)
        return run
