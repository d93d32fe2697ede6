"""HDF5 files from outside are opened first in a process that can be ended.

On damage HDF5 can loop for ever, or crash. `hdf5_probe.py` is the program that takes the risk. One
such process serves this one and all that are forked from it; it is started for the first file.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from pertscale.errors import CorruptFileError, StorageError
from pertscale.io.guards.damage import file_errors

_PROBE = Path(__file__).with_name("hdf5_probe.py")
#: Time on the processor that one step of the probe may take; real ones take less than one.
PROBE_SECONDS: Final = 5
_CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL)
_AGAIN = "copy, download or write the file again"


def look_first(path: str | os.PathLike[str]) -> None:
    """Let another process walk through a file first: HDF5 may not return from a damaged one.

    Raises
    ------
    CorruptFileError
        HDF5 loops or crashes.
    StorageError
        No other process can be started, or it was ended from outside.
    """
    with file_errors(str(path)):
        state = Path(path).stat()
    _look_first(
        str(path), str(Path(path).absolute()), state.st_ino, state.st_size, state.st_mtime_ns
    )


@lru_cache(maxsize=4096)
def _look_first(path: str, full: str, *state: int) -> None:
    try:
        told = _ask(full)
    except OSError as error:
        told = {"error": error.strerror}
    if "error" in told:
        raise StorageError(
            f"{path}: no process can be started to look at it first ({told['error']}); allow "
            "this user more processes or memory (ulimit -u, ulimit -v)"
        )
    ended = -told["ended"]
    if ended == signal.SIGXCPU:
        raise CorruptFileError(f"{path} can't be read: HDF5 loops for ever on it; {_AGAIN}")
    if ended in _CRASHES:
        name = signal.Signals(ended).name
        raise CorruptFileError(f"{path} can't be read: HDF5 crashes on it ({name}); {_AGAIN}")
    if ended:
        reason = f"signal {ended}" if ended > 0 else told["reason"]
        raise StorageError(
            f"{path}: the process that looks at it first ended early ({reason}); try again"
        )


@dataclass(frozen=True)
class _Server:
    """The running program; `requests` takes connections, `owner` started it."""

    process: subprocess.Popen[bytes]
    requests: socket.socket
    owner: int

    def end(self) -> None:
        """End it, unless it belongs to the process that this one was forked from."""
        self.requests.close()
        if self.owner == os.getpid():
            self.process.terminate()
            self.process.wait()


_lock = threading.Lock()
_server: _Server | None = None


def _ask(path: str) -> dict[str, Any]:
    """Return how the process that looked at a file ended, or why there was none.

    The server may have been ended since it was last asked: the second time it is a new one.
    """
    told = None
    for _ in range(2):
        server = _running()
        told = _ask_server(server, path)
        if told is not None:
            return told
        _forget(server)
    return {"error": "it ended at once"}


def _ask_server(server: _Server, path: str) -> dict[str, Any] | None:
    """Return the answer of a server; None where it is gone."""
    mine, other = socket.socketpair()
    with mine, mine.makefile("rb") as answer:
        try:
            with other:
                socket.send_fds(server.requests, [b"?"], [other.fileno()])
            mine.sendall(json.dumps({"path": path, "seconds": PROBE_SECONDS}).encode() + b"\n")
            reason = "no message"
            for line in answer:
                if line.startswith(b"{"):
                    return {"reason": reason, **json.loads(line)}
                reason = line.decode(errors="replace").strip() or reason
        except (BrokenPipeError, ConnectionResetError):
            return None
    return None


def _running() -> _Server:
    global _server
    with _lock:
        if _server is None:
            _server = _start()
        return _server


def _forget(server: _Server) -> None:
    global _server
    with _lock:
        if _server is server:
            _server = None
    server.end()


def _start() -> _Server:
    mine, other = socket.socketpair()
    command = [sys.executable, "-P", str(_PROBE), str(other.fileno())]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # it computes nothing, and forks
    with other:
        process = subprocess.Popen(
            command,
            env=environment,
            pass_fds=[other.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    return _Server(process, mine, os.getpid())


@atexit.register
def _end() -> None:
    if _server is not None:
        _server.end()
