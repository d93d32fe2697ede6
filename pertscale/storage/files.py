"""Files of a path, which may be a folder: how large they are, and whether they have changed."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def files_of(path: Path) -> list[Path]:
    """Return a file itself, or all files below a folder, sorted; none where nothing is."""
    if not path.is_dir():
        return [path] if path.is_file() else []
    found = (Path(folder) / name for folder, _, names in os.walk(path) for name in names)
    return sorted(file for file in found if file.is_file())


def size_of(path: Path) -> int:
    """Return the bytes of a path's files."""
    return sum(file.stat().st_size for file in files_of(path))


def states(paths: Iterable[Path]) -> list[list[Any]]:
    """Return name, size and time of all files of some paths: tells whether they have changed."""
    stats = [(file, file.stat()) for path in paths for file in files_of(path)]
    return [[file.name, stat.st_size, stat.st_mtime_ns] for file, stat in stats]
