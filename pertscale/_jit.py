"""How kernels are compiled: without the GIL, and cached on disk where a folder can be written."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])


def jit(function: F) -> F:
    """Compile on first call; a second process loads the machine code from disk."""
    try:
        compiled = numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # numba found no folder that it may write its cache to
        return cast(F, numba.njit(nogil=True)(function))
    _keep_files_apart(compiled)
    return cast(F, compiled)


def _keep_files_apart(compiled: Any) -> None:
    """Give each file of machine code a name of its own.

    Numba numbers the files of a function from 1: of two processes that compile it for different
    types at the same time one overwrites the other's file, and a third runs code of wrong types.
    Files of a source that has changed since are not overwritten then; nobody reads them.
    """
    files = getattr(getattr(compiled, "_cache", None), "_cache_file", None)
    numbered = getattr(files, "_data_name", None)
    if files is None or numbered is None:  # compiling is switched off
        return

    def named(number: int) -> str:
        return f"{numbered(number).removesuffix('.nbc')}.{uuid.uuid4().hex[:12]}.nbc"

    files._data_name = named


def inline(function: F) -> F:
    """Compile into the caller: for the inner loops."""
    return cast(F, numba.njit(nogil=True, inline="always")(function))
