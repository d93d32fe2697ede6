"""Reading a memory budget such as ``'2GB'``."""

from __future__ import annotations

from dask.utils import parse_bytes

from pertscale.errors import ArgumentError


def memory_bytes(memory: str | int) -> int:
    """Return a budget in bytes.

    Raises
    ------
    ArgumentError
        For what is not a size above zero.
    """
    try:
        size = parse_bytes(memory)
    except ValueError:
        size = 0
    if size <= 0:
        raise ArgumentError(f"memory={memory!r} is not a size; write '2GB', '500MB' or a number")
    return int(size)
