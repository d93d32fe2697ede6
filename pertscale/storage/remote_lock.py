"""One run at a time for an output on object storage.

A run holds an object beside the output that says who it is, and puts it anew every few seconds. It
is made by a conditional request (``If-None-Match: *``), so that of two runs one gets it. A second
run finds it, looks whether the first one lives (:mod:`pertscale.storage.lock_owner`), and if not
takes it over by a request on the condition that it is still the object that was looked at
(``If-Match``).

Storages other than S3 have the first condition through fsspec, as far as they have it at all; the
second one is checked there just before.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pertscale.diagnostics.progress import say
from pertscale.errors import LockedError
from pertscale.storage.locations import Remote
from pertscale.storage.lock_owner import (
    describe_owner,
    heartbeat,
    held_message,
    is_alive,
    read_owner,
    this_process,
)
from pertscale.storage.object_storage import storage_errors

#: Seconds between two puts.
BEAT = 15.0
#: A lock of another machine that does not change for this long belongs to a dead run.
PATIENCE = 4 * BEAT


def lock_of(output: Remote) -> Remote:
    """Return the object that is the lock of an output."""
    return output.with_name(f".{output.name}.lock")


@contextmanager
def locked_remote(output: Remote, *, quiet: bool = False) -> Iterator[RemoteLock]:
    """Hold an output on object storage for the block.

    Raises
    ------
    LockedError
        If another run holds it; the message says which, since when, and what to do.
    StorageError
        If it can't be written.
    """
    lock = RemoteLock(output, this_process())
    lock.acquire(quiet=quiet)
    try:
        with heartbeat(lock.renew, BEAT):
            yield lock
    finally:
        lock.release()


class RemoteLock:
    """The lock object of one holder."""

    def __init__(self, output: Remote, owner: dict[str, Any]) -> None:
        self.output = output
        self.object = lock_of(output)
        self._owner = {**owner, "beat": 0}
        self._version = ""
        self._beats = threading.Lock()

    def acquire(self, *, quiet: bool) -> None:
        """Make the object, or take over that of a dead run; refuse if a living one holds it."""
        while True:
            try:
                self._put(mode="create")
                return
            except FileExistsError:
                version, owner = self._look()
            if not version:
                continue  # it ended meanwhile
            if owner["token"] == self._owner["token"]:  # it was put, and the answer was lost
                self._version = version
                return
            if is_alive(
                self.output,
                owner,
                lambda: self._look()[0],
                beat=BEAT,
                patience=PATIENCE,
                quiet=quiet,
            ):
                raise LockedError(held_message(self.output, owner))
            try:
                self._put(replacing=version)
            except FileExistsError:
                continue  # another process was quicker, or the holder is alive after all
            say(
                f"took over {self.output} from a run that died: {describe_owner(owner)}",
                quiet=quiet,
            )
            return

    def check(self) -> None:
        """Fail if the lock was taken over, because this process stood still for too long."""
        if self._look()[1].get("token") != self._owner["token"]:
            raise LockedError(
                f"{self.output} was taken over by another run, since this one had not renewed its "
                f"lock for {PATIENCE:.0f} s; nothing more is published, make the same call again "
                "when that has ended"
            )

    def release(self) -> None:
        """Delete the object, if it is still this process's."""
        with self._beats:
            if self._look()[1].get("token") != self._owner["token"]:
                return
            with storage_errors(str(self.object)):
                self.object.fs.rm_file(self.object.key)

    def renew(self) -> bool:
        """Put the object anew; return whether it is still this process's."""
        with self._beats:
            try:
                self._put(replacing=self._version)
                return True
            except FileExistsError:  # or the answer to the last put was lost
                self._version, owner = self._look()
                return owner.get("token") == self._owner["token"]

    def _put(self, *, mode: str = "overwrite", replacing: str = "") -> None:
        """Put the object on a condition; FileExistsError where that does not hold."""
        self._owner["beat"] += 1  # so that its ETag, a checksum, changes
        data = json.dumps(self._owner, sort_keys=True).encode()
        with_condition: dict[str, Any] = {"mode": mode}
        if replacing and _has_conditions(self.object):
            with_condition["IfMatch"] = replacing
        elif replacing and self._look()[0] != replacing:
            raise FileExistsError(str(self.object))
        with storage_errors(str(self.object)):
            answer = self.object.fs.pipe_file(self.object.key, data, **with_condition)
        self._version = _version(answer) or self._look()[0]

    def _look(self) -> tuple[str, dict[str, Any]]:
        """Return the object's version and content; empty where there is none."""
        try:
            with storage_errors(str(self.object)):
                version = _version(self.object.fs.info(self.object.key))
            return version, read_owner(self.object.read_bytes())
        except FileNotFoundError:
            return "", {}


def _has_conditions(output: Remote) -> bool:
    return output.protocol in ("s3", "s3a")


def _version(answer: Any) -> str:
    """Return what tells versions of an object apart, from what the storage says of it."""
    found = answer if isinstance(answer, dict) else {}
    return str(found.get("ETag") or found.get("etag") or found.get("created") or "")
