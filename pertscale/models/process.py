"""One model on one task: a subprocess in its own session, and a record of how it ended."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from pertscale.arguments import checked
from pertscale.errors import PertscaleError
from pertscale.hashing import digest
from pertscale.io.guards.json_files import read_json_file
from pertscale.io.parquet import write_table
from pertscale.models import launch
from pertscale.models.check import (
    CONDITION,
    META_FILE,
    PREDICTIONS_FILE,
    check_predictions,
)
from pertscale.models.config import ModelSpec
from pertscale.models.task import REQUEST_FILE
from pertscale.storage.atomic import read_json, remove, write_json

LOG_FILE: Final = "model.log"
RUN_FILE: Final = "run.json"
#: Folder that the model writes to; correct files move up, and the folder is removed.
WORK_DIR: Final = "work"
#: Statuses with predictions; all others are run again by the next call.
DONE: Final = ("complete", "partial")
#: Seconds between asking a process to end and ending it.
GRACE_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.05
_THREAD_VARIABLES: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True, kw_only=True)
class ModelRun:
    """How a run ended.

    Attributes
    ----------
    model : str
    status : str
        ``'complete'``; ``'partial'``: some conditions or genes are missing; ``'wrong'``: the
        predictions can't be used; ``'failed'``: it ended with an error; ``'timeout'``;
        ``'killed'``: by a signal that was not ours.
    reason : str
        What is missing, wrong or failed; empty for ``'complete'``.
    seconds : float
        Wall time.
    peak_memory_bytes : int, optional
        Largest resident memory of a process of the model; of ``submit`` where there is one. None
        where it had to be killed.
    path : str, optional
        ``predictions.parquet``, where there is one.
    """

    model: str
    status: str
    reason: str
    seconds: float
    peak_memory_bytes: int | None
    path: str | None


@dataclass(frozen=True)
class _End:
    """How a process ended; `exit_code` is negative for a signal, None after the timeout."""

    exit_code: int | None
    seconds: float
    peak_memory_bytes: int | None


@checked
def run_model(
    spec: ModelSpec, task: str | os.PathLike[str], out: str | os.PathLike[str]
) -> ModelRun:
    """Run a model on a task and check what it predicts.

    It starts in a folder of its own below `out`, ``{out}`` of its command, with standard input
    empty; it inherits the environment, with the number of threads set to that of the task. When it
    ends, by itself or by the timeout or an interruption, so do all processes it has started.

    Parameters
    ----------
    spec : ModelSpec
    task : path
        Folder that :func:`write_task` wrote.
    out : path
        Folder for ``predictions.parquet``, ``meta.json``, ``model.log`` and ``run.json``; what an
        earlier run left there is removed. Where the predictions are wrong or the model failed,
        ``work/`` stays for a look.

    Returns
    -------
    ModelRun
    """
    task, out = Path(task).absolute(), Path(out).absolute()
    for name in (RUN_FILE, PREDICTIONS_FILE, META_FILE, LOG_FILE, WORK_DIR):
        remove(out / name)
    work = out / WORK_DIR
    work.mkdir(parents=True)
    end = _run(spec, task, work, out / LOG_FILE)
    status, reason = _failure(spec, end, out / LOG_FILE)
    if not status:
        status, reason = _take(task, work, out)
    path = str(out / PREDICTIONS_FILE) if status in DONE else None
    run = ModelRun(
        model=spec.name,
        status=status,
        reason=reason,
        seconds=end.seconds,
        peak_memory_bytes=end.peak_memory_bytes,
        path=path,
    )
    record = {**asdict(run), "exit_code": end.exit_code, "command": [*spec.submit, *spec.command]}
    del record["path"]  # the folder may be moved
    write_json(out / RUN_FILE, {**record, "key": run_key(spec, _request(task)["key"])})
    return run


def run_key(spec: ModelSpec, task_key: str) -> str:
    """Return a hash of what a run's predictions depend on."""
    return digest(task_key, spec.hash)


def finished_run(spec: ModelSpec, task_key: str, out: Path) -> ModelRun | None:
    """Return the earlier run in `out`, if it has predictions and belongs to the same inputs."""
    try:
        record = read_json(out / RUN_FILE)
    except (OSError, ValueError):
        return None
    path = out / PREDICTIONS_FILE
    if record["key"] != run_key(spec, task_key) or record["status"] not in DONE:
        return None
    names = ("model", "status", "reason", "seconds", "peak_memory_bytes")
    return ModelRun(**{n: record[n] for n in names}, path=str(path)) if path.exists() else None


def _request(task: Path) -> dict[str, Any]:
    return dict(read_json(task / REQUEST_FILE))


# --- the process ------------------------------------------------------------------------------


def _run(spec: ModelSpec, task: Path, work: Path, log: Path) -> _End:
    usage = work.parent / "usage.json"
    places = {"{task}": str(task), "{out}": str(work)}
    command = [*spec.submit, *(_filled(argument, places) for argument in spec.command)]
    threads = dict.fromkeys(_THREAD_VARIABLES, str(_request(task)["threads"]))
    started = time.perf_counter()
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", launch.__file__, str(usage), *command],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            cwd=work,
            env={**os.environ, **threads, **spec.environment},
            start_new_session=True,
        )
        try:
            in_time = _wait(process, spec.timeout)
        finally:  # also when interrupted, and for what the model has left running
            _end_group(process)
    seconds = time.perf_counter() - started
    used = read_json(usage) if usage.exists() else {}
    usage.unlink(missing_ok=True)
    code = used.get("exit_code", process.returncode) if in_time else None
    return _End(code, seconds, used.get("peak_memory_bytes"))


def _filled(argument: str, places: dict[str, str]) -> str:
    """Put the paths in, all at once: a path may hold the text of a placeholder."""
    pattern = "|".join(map(re.escape, places))
    return re.sub(pattern, lambda found: places[found[0]], argument)


def _wait(process: subprocess.Popen[bytes], timeout: float | None) -> bool:
    """Wait for the end; return whether it came before the timeout."""
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        return False
    return True


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Ask all processes of the group to end, and kill those that have not after a while."""
    _signal_group(process, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_SECONDS
    try:
        while _signal_group(process, 0) and time.monotonic() < deadline:
            process.poll()
            time.sleep(_POLL_SECONDS)
    finally:  # a second interruption does not wait
        _signal_group(process, signal.SIGKILL)
        process.wait()


def _signal_group(process: subprocess.Popen[bytes], number: int) -> bool:
    """Send a signal to the group, which has the process's number; return whether there is one."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
        return True
    return False


# --- what became of it --------------------------------------------------------------------------


def _failure(spec: ModelSpec, end: _End, log: Path) -> tuple[str, str]:
    """Return status and reason where the process did not end well; else two empty texts."""
    if end.exit_code == 0:
        return "", ""
    last = _last_lines(log)
    if end.exit_code is None:
        return "timeout", f"not finished after {spec.timeout:g} s; raise its timeout. {last}"
    if end.exit_code < 0:
        hint = "; perhaps memory ran out" if end.exit_code == -signal.SIGKILL else ""
        return "killed", f"killed by {_signal_name(-end.exit_code)}{hint}. {last}"
    return "failed", f"exit code {end.exit_code}. {last}"


def _signal_name(number: int) -> str:
    with suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"


def _last_lines(log: Path, *, n: int = 3) -> str:
    """Return the end of a log, of which no more than some kilobytes are read."""
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - 4096))
        text = stream.read().decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f"{log.name} ends: {' | '.join(lines[-n:])[-300:]}" if lines else f"{log.name} is empty"


def _take(task: Path, work: Path, out: Path) -> tuple[str, str]:
    """Check the predictions, and write those that can be used in the order of the request."""
    checked = check_predictions(task, work)
    if checked.predictions is None:
        return checked.status, checked.reason
    kept = checked.predictions.dropna(how="all").dropna(axis="columns", how="all")
    write_table(out / PREDICTIONS_FILE, kept.rename_axis(CONDITION).reset_index())
    if _is_json(work / META_FILE):
        (work / META_FILE).replace(out / META_FILE)
    remove(work)
    return checked.status, checked.reason


def _is_json(path: Path) -> bool:
    try:
        read_json_file(path, "what a model says of itself")
    except (OSError, PertscaleError):
        return False
    return True
