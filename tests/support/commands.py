"""Commands as a shell types them, without the seconds that a new Python takes to import."""

from __future__ import annotations

from contextlib import chdir
from pathlib import Path
from subprocess import CompletedProcess

from click.testing import CliRunner

from pertscale.cli import main


def run_command(*arguments: object, cwd: Path) -> CompletedProcess[str]:
    """Run a command in this process; return what ``subprocess.run`` would.

    `tests/test_cli.py` runs each command once as ``python -m pertscale``.
    """
    typed = [str(argument) for argument in arguments]
    with chdir(cwd):
        done = CliRunner().invoke(main, typed)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return CompletedProcess(typed, done.exit_code, done.stdout, done.stderr)
