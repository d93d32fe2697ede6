"""The local folder for outputs on object storage that are being made, and for copies of inputs."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import dask

from pertscale.errors import StorageError

#: Dask setting, and environment variable, for where outputs are completed before they are put.
SCRATCH_SETTING = "pertscale.scratch"
SCRATCH_VARIABLE = "PERTSCALE_SCRATCH"


def scratch_root() -> Path:
    """Return the folder for outputs that are not finished; only this user can read it."""
    root = scratch_path()
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StorageError(
            f"can't make the scratch folder {root}: {error.strerror}; name another one that all "
            f"workers see, with {SCRATCH_VARIABLE} or the Dask setting {SCRATCH_SETTING}"
        ) from error
    if root.is_symlink() or root.stat().st_uid != os.getuid():
        raise StorageError(f"the scratch folder {root} belongs to somebody else; remove it")
    return root


def scratch_path() -> Path:
    """Return where the scratch folder of this user is, without making it."""
    named = dask.config.get(SCRATCH_SETTING, None) or os.environ.get(SCRATCH_VARIABLE)
    return Path(named or tempfile.gettempdir()).expanduser().absolute() / f"pertscale-{os.getuid()}"
