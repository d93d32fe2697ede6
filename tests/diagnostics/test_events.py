"""Events are types; a log has a line of JSON for each, in the order of its fields."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from pertscale.benchmark.run_log import RunLog, log_file
from pertscale.diagnostics.events import (
    ClusterSeen,
    Event,
    KnockdownChecked,
    Skipped,
    SplitNamesUnknown,
    SplitsDrawn,
    StageDone,
    TaskDone,
    emit,
    recording,
)

TASK = TaskDone(
    stage="rank-sum",
    unit="c0-p0-3-g0-30",
    seconds=0.25,
    worker="host:1",
    peak_bytes=2,
    bytes_read=None,
    n_tries=1,
    error=None,
)
FAILED = TaskDone(**{**vars(TASK), "bytes_read": 7, "n_tries": 3, "error": "no"})
HAPPENED = (
    ClusterSeen(scheduler="tcp://a:1", n_workers=2),
    TASK,
    FAILED,
    StageDone(stage="labels", unit="", seconds=1.5, reused=False),
    SplitsDrawn(context="K562", of="doubles", n=9, n_held_out=3, n_splits=2, reason="few"),
    SplitNamesUnknown(split="given", n=4, not_in_screen=["Ä"]),
    KnockdownChecked(
        context="K562", min_knockdown=0.3, n=9, n_left_out=2, n_not_measured=1, n_activated=0
    ),
    Skipped(what="mean", context="", reason="why"),
)
#: What follows ``{"time": …, "run": …, `` in each line.
LINES = (
    f'"event": "start", "host": {json.dumps(socket.gethostname())}, "pid": {os.getpid()}, '
    '"version": "1.0", "stores": ["a", "b"]}',
    '"event": "cluster", "scheduler": "tcp://a:1", "n_workers": 2}',
    '"event": "task", "stage": "rank-sum", "unit": "c0-p0-3-g0-30", "seconds": 0.25, '
    '"worker": "host:1", "peak_bytes": 2, "bytes_read": null, "n_tries": 1, "error": null}',
    '"event": "task", "stage": "rank-sum", "unit": "c0-p0-3-g0-30", "seconds": 0.25, '
    '"worker": "host:1", "peak_bytes": 2, "bytes_read": 7, "n_tries": 3, "error": "no"}',
    '"event": "stage", "stage": "labels", "unit": "", "seconds": 1.5, "reused": false}',
    '"event": "splits", "context": "K562", "of": "doubles", "n": 9, "n_held_out": 3, '
    '"n_splits": 2, "reason": "few"}',
    '"event": "split_names", "split": "given", "n": 4, "not_in_screen": ["\\u00c4"]}',
    '"event": "knockdown", "context": "K562", "min_knockdown": 0.3, "n": 9, "n_left_out": 2, '
    '"n_not_measured": 1, "n_activated": 0}',
    '"event": "skipped", "what": "mean", "context": "", "reason": "why"}',
)


def lines(folder: Path) -> list[str]:
    """The log, without what differs between runs."""
    text = (folder / "log.jsonl").read_text()
    return [line[line.index('"event"') :] for line in text.splitlines()]


def test_a_log_has_a_line_for_each_event(tmp_path: Path) -> None:
    with log_file(tmp_path, version="1.0", stores=["a", "b"]):
        for event in HAPPENED:
            emit(event)
    assert lines(tmp_path) == [*LINES, '"event": "end"}']
    first = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[0])
    assert list(first)[:3] == ["time", "run", "event"]
    with pytest.raises(OSError, match="gone"), log_file(tmp_path, version="1.0", stores=["a", "b"]):
        raise OSError("gone")
    last = '"event": "failed", "error": "OSError", "message": "gone"}'
    assert lines(tmp_path)[-2:] == [LINES[0], last]


def test_the_timings_have_the_tasks_that_ended_well() -> None:
    log = RunLog(quiet=True)
    with log.stage("labels"):
        for event in HAPPENED:
            emit(event)
    task, stage = log.timings
    assert task.pop("level") == "task"
    assert task.pop("reused") is False
    assert task == {name: value for name, value in vars(TASK).items() if name != "error"}
    assert (stage["level"], stage["stage"]) == ("stage", "labels")


def test_nobody_has_to_listen() -> None:
    told: list[Event] = []
    with recording(told.append):
        emit(TASK)
    emit(FAILED)
    assert told == [TASK]
