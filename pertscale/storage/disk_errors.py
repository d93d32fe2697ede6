"""Where an error of a full or read-only disk is translated to a StorageError."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pertscale.errors import PertscaleError, StorageError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM}
#: Errors after which no other file can be written, either.
NO_STORAGE = _FULL | _FORBIDDEN


def reason(error: OSError) -> str:
    """Return the message of the system, and the file it is about where that is known."""
    said = str(error.strerror)
    if error.errno == errno.EFBIG:
        said += ", above the limit on the size of files (ulimit -f)"
    return f"{said}: {error.filename}" if error.filename else said


@contextmanager
def disk_errors(folder: Path, *, marker: Path) -> Iterator[None]:
    """Turn errors of a full or read-only disk into a StorageError.

    A file elsewhere that may not be read is not such an error. If `marker`, which exists during the
    block, is gone, somebody has removed the folder.
    """
    try:
        yield
    except PertscaleError:
        raise
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not marker.exists():
            raise StorageError(
                f"{folder} was removed while a run worked in it ({error}); make the same call again"
            ) from error
        mine = Path(str(error.filename)).is_relative_to(folder)
        if error.errno in _FULL or (error.errno in _FORBIDDEN and mine):
            raise StorageError(
                f"{folder} can't be written to ({reason(error)}); make room, or write to another "
                "place; the same call goes on with what is missing"
            ) from error
        raise
