"""What the C library (glibc) and Arrow keep of memory that is freed."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache
from typing import Final, cast

import dask.system

#: Number of the option in <malloc.h>, and the bytes from which on blocks are the system's.
_M_MMAP_THRESHOLD: Final = -3
_LARGE_BLOCK: Final = 2**23
#: Number of the option of how many pools there are at most, and the least that this is set to.
_M_ARENA_MAX: Final = -8
_FEWEST_POOLS: Final = 2


def trim() -> None:
    """Give freed memory back to the system, where the C library or Arrow keeps it for itself."""
    if _malloc_trim is not None:
        _malloc_trim(0)
    if (arrow := sys.modules.get("pyarrow")) is not None:
        arrow.default_memory_pool().release_unused()


@cache
def keep_little() -> None:
    """Have what is freed go back to the system, or to all threads, in this process from now on.

    By default each thread has a pool of its own, in which blocks stay that are as large as the
    largest that was freed, up to 32 MB: two thirds of a gigabyte, where a dozen threads of tasks,
    codecs and BLAS have arrays of many sizes. Now there are as many pools as cores.
    """
    if _mallopt is not None:
        _mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK)
        _mallopt(_M_ARENA_MAX, max(_FEWEST_POOLS, dask.system.CPU_COUNT))


def _of_glibc(name: str) -> Callable[..., int] | None:
    try:
        return cast(Callable[..., int], getattr(ctypes.CDLL("libc.so.6"), name))
    except (OSError, AttributeError):
        return None


_malloc_trim = _of_glibc("malloc_trim")
_mallopt = _of_glibc("mallopt")
