"""One place where what a full or read-only disk says becomes an error of ours."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pertscale.errors import PertscaleError, StorageError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM}
#: What no other file could be written to, either.
NO_STORAGE = _FULL | _FORBIDDEN


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Turn what a disk without room says into a StorageError; so for what may not be written.

    A file elsewhere that may not be read is none of it.
    """
    try:
        yield
    except PertscaleError:
        raise
    except OSError as error:
        mine = Path(str(error.filename)).is_relative_to(folder)
        if error.errno in _FULL or (error.errno in _FORBIDDEN and mine):
            raise StorageError(
                f"{folder} can't be written to ({error.strerror}: {error.filename or error}); make "
                "room, or write to another place; the same call goes on with what is missing"
            ) from error
        raise
