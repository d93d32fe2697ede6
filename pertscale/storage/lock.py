"""One run at a time in an output folder.

A run keeps a file in the folder that identifies it, and touches it every few seconds. A second run
finds the file, and checks whether the first one is alive (:mod:`pertscale.storage.lock_owner`): a
run that died silently is noticed, and the clocks of machines need not agree.
"""

from __future__ import annotations

import os
import stat
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pertscale.diagnostics.progress import say
from pertscale.errors import LockedError, StorageError
from pertscale.storage.atomic import link, remove, write_json_once
from pertscale.storage.disk_errors import disk_errors
from pertscale.storage.lock_owner import (
    describe_owner,
    heartbeat,
    held_message,
    is_alive,
    read_owner,
    this_process,
)

#: Seconds between two touches.
BEAT = 5.0
#: A lock of another machine that is not touched for this long belongs to a dead run.
PATIENCE = 4 * BEAT
_NAME = ".lock"
#: Bytes; more than a lock ever has.
_MOST_BYTES = 10_000

#: Locks of this process by file, with the thread that holds them.
_mine: dict[Path, tuple[int, Lock]] = {}


@contextmanager
def locked(folder: Path, *, share: str = "", quiet: bool = False) -> Iterator[Lock]:
    """Lock an output folder for the block; a thread that holds it already goes on.

    Parameters
    ----------
    folder : Path
        Made if it is not there.
    share : str
        Name of a share of the work. Other shares may run at the same time, but no run that locks
        the folder as a whole.
    quiet : bool
        Do not print that the lock of a dead run is removed, or that another machine's is watched.

    Raises
    ------
    LockedError
        If another run holds it; the message says which, since when, and what to do.
    StorageError
        If the folder can't be written, or its disk is full before the block ends.
    """
    file = folder.absolute() / (f"{_NAME}-{share}" if share else _NAME)
    thread, held_lock = _mine.get(file, (0, None))
    if held_lock is not None and thread == threading.get_ident():
        yield held_lock
        return
    lock = Lock(file, this_process())
    try:
        lock.acquire(share=bool(share), quiet=quiet)
        _mine[file] = threading.get_ident(), lock
        with heartbeat(lock.touch, BEAT), disk_errors(lock.file.parent, marker=lock.file):
            yield lock
    finally:
        if _mine.get(file, (0, None))[1] is lock:
            del _mine[file]
        lock.release()


class Lock:
    """The lock file of one holder."""

    def __init__(self, file: Path, owner: dict[str, Any]) -> None:
        self.file = file
        self._owner = owner
        self._made = self._held = False

    def acquire(self, *, share: bool, quiet: bool) -> None:
        """Make the file; refuse if a living run holds the folder."""
        folder = self.file.parent
        self._made = not folder.exists()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            while not write_json_once(self.file, self._owner):
                self._clear(self.file, quiet)
            self._held = True
            others = [folder / _NAME] if share else sorted(folder.glob(f"{_NAME}-*"))
            for other in others:
                if other.suffix != ".tmp":
                    self._clear(other, quiet)
        except StorageError:
            raise
        except OSError as error:
            raise StorageError(
                f"can't write to {folder}: {error.strerror}; write to another place (out=, --out)"
            ) from error

    def check(self) -> None:
        """Fail if the lock was taken over, because this process stood still for too long."""
        found = _read(self.file)
        if not found and not self.file.parent.exists():
            raise StorageError(f"{self.file.parent} was removed while a run worked in it")
        if found.get("token") != self._owner["token"]:
            raise LockedError(
                f"{self.file.parent} was taken over by another run, since this one had not touched "
                f"{self.file.name} for {PATIENCE:.0f} s; make the same call again when that has "
                "ended"
            )

    def release(self) -> None:
        """Remove the file, if it is still this process's."""
        if self._held and _read(self.file).get("token") == self._owner["token"]:
            self.file.unlink(missing_ok=True)
            if self._made and not any(self.file.parent.iterdir()):
                self.file.parent.rmdir()  # nothing was written

    def touch(self) -> bool:
        """Show that this process lives; return whether the file is still its own."""
        found = _read(self.file)
        if found and found["token"] != self._owner["token"]:
            return False  # it was taken over; `check` says so
        os.utime(self.file)
        return True

    def _clear(self, file: Path, quiet: bool) -> None:
        """Remove the lock of a dead run; refuse if the run lives."""
        owner = _read(file)
        if not owner:
            return  # it ended meanwhile
        folder = file.parent
        if is_alive(
            folder, owner, lambda: _touched(file), beat=BEAT, patience=PATIENCE, quiet=quiet
        ):
            raise LockedError(held_message(folder, _read(file) or owner))
        # renamed first: of two processes that find it dead, one gets it
        aside = file.with_name(f"{file.name}.{uuid.uuid4().hex}.tmp")
        try:
            file.rename(aside)
        except FileNotFoundError:
            return
        if _read(aside).get("token") == owner["token"]:
            say(f"removed the lock of a run that died: {describe_owner(owner)}", quiet=quiet)
        else:
            link(aside, file)  # another process was quicker: give it back, unless a third one came
        remove(aside)


def _touched(file: Path) -> tuple[Any, ...]:
    """Return who touched a file last, and when; empty where it does not exist.

    It is opened, since network file systems cache the rest.
    """
    try:
        with file.open("rb") as opened:
            return opened.read(), os.fstat(opened.fileno()).st_mtime_ns
    except FileNotFoundError:
        return ()


def _read(file: Path) -> dict[str, Any]:
    """Return who holds a lock; nothing where there is none."""
    try:
        if not stat.S_ISREG(file.lstat().st_mode):
            raise StorageError(f"{file} is not a file, as locks are; remove it")
        with file.open("rb") as opened:
            return read_owner(opened.read(_MOST_BYTES))
    except FileNotFoundError:
        return {}
