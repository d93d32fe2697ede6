"""How kernels are compiled: without the GIL, and cached on disk where a folder can be written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])


def jit(function: F) -> F:
    """Compile on first call; a second process loads the machine code from disk."""
    try:
        return cast(F, numba.njit(nogil=True, cache=True)(function))
    except RuntimeError:  # numba found no folder that it may write its cache to
        return cast(F, numba.njit(nogil=True)(function))


def inline(function: F) -> F:
    """Compile into the caller: for the inner loops."""
    return cast(F, numba.njit(nogil=True, inline="always")(function))
