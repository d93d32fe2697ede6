"""What the C library keeps of memory that is freed (glibc); others give it back by themselves."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Final, cast

#: Number of the option in <malloc.h>, and the bytes from which on blocks are the system's.
_M_MMAP_THRESHOLD: Final = -3
_LARGE_BLOCK: Final = 2**23


def trim() -> None:
    """Give freed memory back to the system, where the C library keeps it for itself."""
    if _malloc_trim is not None:
        _malloc_trim(0)


@cache
def return_large_blocks() -> None:
    """Have arrays that are freed go back to the system at once, in this process from now on.

    By default blocks as large as the largest that was freed, up to 32 MB, stay in a pool of each
    thread: a third of a gigabyte, where tasks have arrays of many sizes.
    """
    if _mallopt is not None:
        _mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK)


def _of_glibc(name: str) -> Callable[..., int] | None:
    try:
        return cast(Callable[..., int], getattr(ctypes.CDLL("libc.so.6"), name))
    except (OSError, AttributeError):
        return None


_malloc_trim = _of_glibc("malloc_trim")
_mallopt = _of_glibc("mallopt")
