"""Processes of tests, forked from one that has imported the package: a new one takes seconds."""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Mapping
from multiprocessing import forkserver
from pathlib import Path
from subprocess import CompletedProcess

_FORK = multiprocessing.get_context("forkserver")
_IMPORTED = [
    "anndata",
    "distributed.nanny",
    "distributed.worker",
    "pertscale.benchmark.run",
    "pertscale.cli",
    "pertscale.io.ingestion.run",
    "pertscale.stats.differential.rank_sum",
    __name__,
]
#: Settings of Dask by which its workers are such processes, too.
DASK = {
    "distributed.worker.multiprocessing-method": "forkserver",
    "multiprocessing.context": "forkserver",
}


def prepare() -> None:
    """Start the process that others are forked from."""
    _FORK.set_forkserver_preload(_IMPORTED)
    forkserver.ensure_running()


class Script:
    """A process that runs Python code as ``python -c`` does; what it writes goes to files.

    Parameters
    ----------
    code : str
    *arguments : object
        Of the command line.
    cwd : Path, optional
    env : mapping, optional
        What is added to the environment.
    """

    def __init__(
        self,
        code: str,
        *arguments: object,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._typed = [str(argument) for argument in arguments]
        self._said = [Path(self._folder.name) / name for name in ("stdout", "stderr")]
        where = Path.cwd() if cwd is None else cwd
        self.process = _FORK.Process(
            target=_run, args=(code, self._typed, where, {**os.environ, **(env or {})}, self._said)
        )
        self.process.start()

    def wait(self, timeout: float = 120) -> CompletedProcess[str]:
        """Wait for its end; kill it after the timeout."""
        self.process.join(timeout)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
        said = [file.read_text() if file.exists() else "" for file in self._said]
        assert self.process.exitcode is not None
        self._folder.cleanup()
        return CompletedProcess(self._typed, self.process.exitcode, *said)


def run_script(
    code: str, *arguments: object, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> CompletedProcess[str]:
    """Run Python code in a process of its own, as ``subprocess.run([python, "-c", …])`` does."""
    return Script(code, *arguments, cwd=cwd, env=env).wait()


def _run(
    code: str, arguments: list[str], cwd: Path, environment: dict[str, str], said: list[Path]
) -> None:
    for number, file in zip((1, 2), said, strict=True):
        os.dup2(os.open(file, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["-c", *arguments]
    exec(compile(code, "<script>", "exec"), {"__name__": "__main__"})
