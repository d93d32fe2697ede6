"""The virtual environment of the peers."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
REQUIREMENTS = HERE / "peers.txt"


def peer_python(work: Path) -> str:
    """Return the interpreter with the peers installed; make its environment on the first call.

    pertscale is installed there too, from this checkout, so that kernels can be compared in one
    process. A change of ``peers.txt`` makes the environment anew.
    """
    folder = work / "peers-environment"
    python = folder / "bin" / "python"
    marker, wanted = folder / "made-from", hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    if marker.exists() and marker.read_text() == wanted:
        return str(python)
    print(f"installing the peers ({REQUIREMENTS.name}), about a minute", flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "-r", REQUIREMENTS, "-e", HERE.parent],
        check=True,
        env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
    )
    marker.write_text(wanted)
    return str(python)
