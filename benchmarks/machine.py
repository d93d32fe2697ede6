"""What results are worth nothing without: the machine and the versions. No names of hosts."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

#: Distributions whose versions are recorded, where they are installed.
PACKAGES = (
    "pertscale",
    "illico",
    "pdex",
    "scanpy",
    "crispyx",
    "anndata",
    "dask",
    "distributed",
    "h5py",
    "numba",
    "numpy",
    "pandas",
    "pyarrow",
    "scipy",
    "zarr",
)
_ASK = """
import importlib.metadata as m, json, sys
found = {}
for name in sys.argv[1:]:
    try: found[name] = m.version(name)
    except m.PackageNotFoundError: pass
print(json.dumps({"python": sys.version.split()[0], **found}))
"""


def describe_machine() -> dict[str, Any]:
    """Return CPU, cores that may be used, memory and system."""
    affinity = getattr(os, "sched_getaffinity", None)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": _cpu_model(),
        "cores": len(affinity(0)) if affinity else os.cpu_count(),
        "memory_gb": round(memory / 1e9, 1),
        "system": _system(),
    }


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return f"{platform.system()} {platform.mac_ver()[0]}".strip()


def versions(python: str = sys.executable) -> dict[str, str]:
    """Return the versions of Python and of the packages of an interpreter's environment."""
    done = subprocess.run([python, "-c", _ASK, *PACKAGES], capture_output=True, check=True)
    return json.loads(done.stdout)


def commit() -> str:
    """Return the short hash of the checkout; '+' where files differ from it."""
    here = Path(__file__).parent
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--exclude=*", "--dirty=+"],
            cwd=here,
            capture_output=True,
            check=True,
            text=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return found.stdout.strip()


def available_memory() -> int:
    """Return bytes that can be had without swapping."""
    info = Path("/proc/meminfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("MemAvailable"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
