"""Sizes and checksums of the files of finished folders, to notice what was lost or changed.

A record is a JSON file that says that something is complete, with the files that belong to it and,
under :data:`SUM`, a hash of itself. Records of earlier versions have neither; they are taken as
they are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from pertscale.errors import CorruptFileError, InputError, NotFoundError
from pertscale.hashing import digest
from pertscale.io.guards.json_files import read_json_file
from pertscale.storage.atomic import write_json
from pertscale.storage.files import files_of
from pertscale.storage.locations import Location, LocationLike, Remote

T = TypeVar("T")

#: Name of a file below its folder → its bytes, and their SHA-256.
Sums = dict[str, list[Any]]
#: Keys of a record: the files that belong to it, and the hash of the rest.
FILES, SUM = "files", "sum"
#: Files that are hashed in parallel; hashing releases the GIL.
_THREADS = 4


def sum_of(file: Path) -> list[Any]:
    """Return the size of a file and its SHA-256."""
    with file.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
        return [opened.tell(), found]


def sums_of(folder: Path, names: Iterable[str]) -> Sums:
    """Return the sums of some files below a folder, in the order of their names."""
    listed = sorted(names)
    return dict(zip(listed, _each(lambda name: sum_of(folder / name), listed), strict=True))


def all_sums(folder: Path) -> Sums:
    """Return the sums of all files below a folder."""
    return sums_of(folder, [file.relative_to(folder).as_posix() for file in files_of(folder)])


def faults(
    folder: Location, sums: Mapping[str, Sequence[Any]], *, content: Callable[[str], bool] | bool
) -> list[str]:
    """Return what is wrong with files that a record lists; nothing where all are as they were.

    Parameters
    ----------
    folder
        The files are below it.
    sums
        As the record has them.
    content
        Whether files are read and hashed, or which by their names; the others have to have their
        size. On object storage only sizes are looked at.
    """
    if isinstance(folder, Remote):
        there = {name: int(info["size"]) for name, info in folder.objects().items()}
        listed = [_size_fault(name, there.get(name), size) for name, (size, _) in sums.items()]
    else:
        listed = _each(partial(_fault, folder, content), list(sums.items()))
    return [fault for fault in listed if fault]


def _each(do: Callable[[Any], T], values: Sequence[Any]) -> list[T]:
    """Call a function with all values, several at the same time."""
    if len(values) <= _THREADS:
        return list(map(do, values))
    with ThreadPoolExecutor(_THREADS) as threads:
        return list(threads.map(do, values))


def _fault(
    folder: Path, content: Callable[[str], bool] | bool, expected: tuple[str, Sequence[Any]]
) -> str:
    name, (size, checksum) = expected
    file = folder / name
    found = file.stat().st_size if file.is_file() else None
    fault = _size_fault(name, found, size)
    wanted = content(name) if callable(content) else content
    if not fault and wanted and sum_of(file) != [size, checksum]:
        return f"{name} has other content than was written"
    return fault


def _size_fault(name: str, found: int | None, size: int) -> str:
    if found is None:
        return f"{name} is missing"
    return "" if found == size else f"{name} has {found:,} bytes, {size:,} were written"


def check_files(
    folder: Location,
    sums: Mapping[str, Sequence[Any]],
    *,
    remedy: str,
    content: Callable[[str], bool] | bool = False,
) -> None:
    """Refuse a folder in which something was lost or changed; see :func:`faults`.

    Raises
    ------
    CorruptFileError
    """
    if found := faults(folder, sums, content=content):
        raise CorruptFileError(f"{damage_message(folder, found)}: {remedy}")


def is_intact(
    read: Callable[[], Mapping[str, Any]],
    keys: Mapping[str, str],
    listed: Callable[[Mapping[str, Any]], Iterable[tuple[Location, Sums]]],
    *,
    remedy: str,
    again: str,
    content: bool,
    tell: Callable[[str], object],
) -> bool:
    """Whether a record is of some keys, and the folders that it lists hold what was written.

    Parameters
    ----------
    read
        Reads the record; see :func:`read_record`.
    keys
        What it has to say under these names.
    listed
        Folders and the sums of their files, from the record.
    remedy
        What errors of `read` end with; it is left out, since the caller does it.
    again
        What is said of damage: ``"it is made anew"``.
    content
        As for :func:`faults`.
    tell
        Gets what is said of damage.
    """
    try:
        record = read()
        if any(record.get(name) != key for name, key in keys.items()):
            return False
        for folder, sums in listed(record):
            check_files(folder, sums, remedy=remedy, content=content)
    except NotFoundError:
        return False
    except CorruptFileError as error:
        tell(f"{str(error).removesuffix(f': {remedy}')}; {again}")
        return False
    return True


def damage_message(folder: Location, found: Sequence[str]) -> str:
    """Return in words what is wrong with a folder."""
    more = f" and {len(found) - 1} more files are not whole" if len(found) > 1 else ""
    return f"{folder} is damaged: {found[0]}{more}"


def write_record(path: Path, content: Mapping[str, Any]) -> None:
    """Write a record atomically; equal content gives equal bytes."""
    as_read = json.loads(json.dumps(content))
    write_json(path, {**as_read, SUM: digest(as_read)})


def read_record(
    path: LocationLike, what: str, *, remedy: str, keys: Iterable[str] = ()
) -> dict[str, Any]:
    """Return what a record says, without its hash.

    Parameters
    ----------
    path
        The file.
    what
        What it should be, for messages: ``"the manifest of a benchmark"``.
    remedy
        What helps where it is damaged.
    keys
        What it has to say.

    Raises
    ------
    NotFoundError
        There is no such file.
    CorruptFileError
        It is not JSON, or not what was written.
    """
    try:
        content = read_json_file(path, what)
    except (CorruptFileError, InputError) as error:
        raise CorruptFileError(f"{error}: {remedy}") from error
    except NotFoundError as error:
        raise NotFoundError(f"{error}: {remedy}") from error
    whole = isinstance(content, dict) and set(keys) <= set(content)
    if whole and (SUM in content or FILES in content):
        whole = content.pop(SUM, None) == digest(content)
    if not whole:
        raise CorruptFileError(f"{path} is not what was written as {what}: {remedy}")
    return dict(content)
