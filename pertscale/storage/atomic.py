"""The commit protocol: what is there under its final name is complete.

Everything is written under a name that starts with a dot, in the folder where it will stay, and
renamed when it is finished and on the disk, so that a machine that goes down leaves no name without
its content. A process that dies leaves dot files, which nobody reads and the next run removes or
replaces.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pertscale.storage.files import files_of
from pertscale.storage.locations import LocationLike, Remote, locate

#: Errors of `link` on file systems without hard links.
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS}
#: Errors of `fsync` where it has nothing to do.
_NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS}
#: Names of files and folders before they are complete, and while they are removed.
_LEFTOVER = re.compile(r"\.(.+)\.[0-9a-f]{12}\.(?:tmp|old)", re.DOTALL)
#: Files that are synced to the disk in parallel: most of that time is waiting.
_SYNCS = 16
#: Seconds to wait for tasks that still write into a folder that is removed.
_PAUSES = (0.1, 1.0)


@contextmanager
def atomic_path(
    path: str | os.PathLike[str], *, unless: Callable[[], bool] | None = None
) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` if the block succeeds.

    Works for a file and for a folder that the block creates. A folder of the final name is replaced
    as a whole; for a moment nothing has its name. `unless` is asked at the end: whether somebody
    else has made the same meanwhile, which is left as it is then.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.parent / f".{final.name}.{uuid.uuid4().hex[:12]}.tmp"
    try:
        yield temporary
        if unless is None or not unless():
            replace(temporary, final)
    finally:
        remove(temporary)


def replace(source: Path, final: Path) -> None:
    """Rename `source` to `final`, replacing what was there, once it is on the disk.

    A folder can't be renamed over another one that is not empty: the old one is first renamed
    aside, so that there is never a mixture of the two under the final name.
    """
    put_on_disk(source)
    if source.is_dir() and final.exists():
        aside = final.parent / f".{final.name}.{uuid.uuid4().hex[:12]}.old"
        final.replace(aside)
        source.replace(final)
        remove(aside)
    else:
        source.replace(final)


def put_on_disk(path: Path) -> None:
    """Sync a file, or all files of a folder, to the disk: from then on they survive a power cut.

    Network file systems report here, at the latest, that they are full.
    """
    files = files_of(path)
    if len(files) == 1:
        _sync(files[0])
    elif files:
        with ThreadPoolExecutor(_SYNCS) as pool:
            list(pool.map(_sync, files))


def _sync(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Delete a file or a folder; do nothing where there is none."""
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    for pause in (*_PAUSES, None):
        try:
            shutil.rmtree(path)
            return
        except FileNotFoundError:  # somebody else removes it, or a part of it
            if not path.exists():
                return
        except OSError as error:  # a task that was not waited for has written into it meanwhile
            if error.errno != errno.ENOTEMPTY or pause is None:
                raise
        time.sleep(pause or 0)


def remove_leftovers(folder: Path, final_name: str) -> None:
    """Delete the temporary files that dead processes left for `final_name` in `folder`."""
    for leftover in list(folder.glob(".*")):
        found = _LEFTOVER.fullmatch(leftover.name)
        if found and found[1] == final_name:
            remove(leftover)


def remove_leftovers_below(folder: Path) -> None:
    """Delete the temporary files that dead processes left anywhere below a folder."""
    for leftover in list(folder.rglob(".*")):
        if _LEFTOVER.fullmatch(leftover.name):
            remove(leftover)


def write_bytes(path: LocationLike, data: bytes) -> None:
    """Write a file atomically; on object storage that is one request."""
    if isinstance(path, Remote):
        path.write_bytes(data)
        return
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write JSON atomically, with sorted keys, so that equal content gives equal bytes."""
    write_bytes(path, _json(content))


def write_json_once(path: Path, content: Any) -> bool:
    """Write JSON atomically unless the file exists; return whether it was written.

    Of several processes that try at once, one succeeds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex[:12]}.tmp"
    try:
        temporary.write_bytes(_json(content))
        return link(temporary, path)
    finally:
        remove(temporary)


def link(source: Path, final: Path) -> bool:
    """Give a file a second name unless that is taken; return whether it was free."""
    try:
        os.link(source, final)
    except FileExistsError:
        return source.stat().st_nlink > 1  # NFS asks twice, and may find its own link
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        try:  # a file system without links: there may be a moment when the file is incomplete
            with final.open("xb") as file:
                file.write(source.read_bytes())
        except FileExistsError:
            return False
    return True


def _json(content: Any) -> bytes:
    text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)
    return (text + "\n").encode()


def read_json(path: LocationLike) -> Any:
    """Read a JSON file."""
    return json.loads(locate(path).read_text(encoding="utf-8"))
