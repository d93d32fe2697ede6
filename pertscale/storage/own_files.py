"""Which files of an output folder are ours, by their names: nothing else is replaced or deleted.

A user keeps notes beside tables, and copies of splits beside splits. Each kind of folder that we
write has a pattern of the files that we write there; what does not fit belongs to the user. Hidden
files are ignored: file systems and file browsers leave them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from pertscale.errors import ExistsError
from pertscale.storage.atomic import remove

_ZARR_FILE = r"(?:zarr\.json|c(?:/\d+)*)(?:\.[0-9a-f]+\.partial)?"


def zarr_pattern(arrays: Iterable[str]) -> str:
    """Return the pattern of the files of a Zarr group with these arrays."""
    return rf"(?:(?:{'|'.join(map(re.escape, arrays))})/)?{_ZARR_FILE}"


def zarr_tree_pattern(folders: Iterable[str]) -> str:
    """Return the pattern of the files of a Zarr group with arrays and groups below some folders."""
    return rf"(?:zarr\.json|(?:{'|'.join(map(re.escape, folders))})/(?:[^/]+/)*{_ZARR_FILE})"


def foreign_files(folder: Path, pattern: str) -> list[str]:
    """Return the names, below a folder, of files and links that a pattern does not match."""
    known = re.compile(pattern)
    found = []
    for where, folders, names in os.walk(folder):
        here = Path(where)
        folders[:] = [name for name in folders if not name.startswith(".")]
        links = [name for name in folders if (here / name).is_symlink()]
        for name in (*names, *links):
            below = (here / name).relative_to(folder).as_posix()
            if not name.startswith(".") and (name in links or not known.fullmatch(below)):
                found.append(below)
    return sorted(found)


def check_replaceable(folder: Path, pattern: str, what: str) -> None:
    """Refuse to replace a folder that holds files which a pattern does not match.

    Parameters
    ----------
    folder
        It need not be there.
    pattern
        Of the names of files below it.
    what
        What it is to become, for the message: ``"a label table"``.

    Raises
    ------
    ExistsError
    """
    if not folder.is_dir():
        if folder.exists() or folder.is_symlink():
            raise ExistsError(
                f"{folder} is to become the folder of {what}, but is a file; move it away, or "
                "write to another place (out=, --out)"
            )
        return
    if foreign := foreign_files(folder, pattern):
        more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        raise ExistsError(
            f"{folder} holds {foreign[0]!r}{more}, which is not part of {what} and would be "
            "deleted; move it away, or write to another place (out=, --out)"
        )


def remove_ours(folder: Path, pattern: str) -> None:
    """Delete the files of a folder that match a pattern, and the folder if nothing is left."""
    if not foreign_files(folder, pattern):
        remove(folder)
        return
    known = re.compile(pattern)
    for where, _, names in os.walk(folder, topdown=False):
        here = Path(where)
        for name in names:
            if known.fullmatch((here / name).relative_to(folder).as_posix()):
                remove(here / name)
        if not any(here.iterdir()):
            here.rmdir()
