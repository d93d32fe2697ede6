"""Runs a command and notes what it took; a small program of its own, started by process.py.

The kernel counts the memory of the parent at the fork into the peak of its child: measured from
the process of pertscale, every model would seem to need at least as much as pertscale. From here
it is this interpreter's 10 MB.

Usage: python launch.py USAGE_FILE COMMAND...
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

_POLL_SECONDS = 0.05


def main(usage: str, command: list[str]) -> int:
    """Run the command; write its exit code and peak memory; return 127 if it can't be started."""
    # the signal to the group reaches the command as well; this process stays to note the usage
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    try:
        process = subprocess.Popen(command)
    except OSError as error:
        print(f"can't start {command[0]!r}: {error.strerror}", file=sys.stderr)
        return 127
    parent = os.getppid()
    ended, status, used = os.wait4(process.pid, os.WNOHANG)
    while not ended:
        time.sleep(_POLL_SECONDS)
        if os.getppid() != parent:  # nobody is left who ends the group, or wants its result
            os.killpg(0, signal.SIGKILL)
        ended, status, used = os.wait4(process.pid, os.WNOHANG)
    process.returncode = code = os.waitstatus_to_exitcode(status)
    unit = 1 if sys.platform == "darwin" else 1024
    # renamed, so that a reader finds all of it
    Path(f"{usage}.tmp").write_text(
        json.dumps({"exit_code": code, "peak_memory_bytes": used.ru_maxrss * unit})
    )
    Path(f"{usage}.tmp").replace(usage)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
