"""Numbers in files of vectors: arrays, or lists of plain numbers."""

from __future__ import annotations

import reprlib
import sys
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from pertscale.errors import CorruptFileError, InputError
from pertscale.io.guards.limits import check_dense

_SCALARS: Final = (bool, int, float, np.integer, np.floating, np.bool_, type(None))


def as_numbers_array(values: Any, what: str, path: object, dtype: Any) -> np.ndarray[Any, Any]:
    """Return values as an array of floats in native byte order, C contiguous.

    Parameters
    ----------
    values
        An array, or a list of numbers; None is missing. Lists in lists are not read: a few bytes
        of a pickle can make them refer to each other without end.
    what
        The values' name, for messages.
    path
        For messages.
    dtype
        Of the result.

    Raises
    ------
    InputError
        It is neither, or has text, complex numbers or objects.
    """
    if isinstance(values, list | tuple):
        strange = [kind for kind in set(map(type, values)) if not issubclass(kind, _SCALARS)]
        if strange:
            raise InputError(
                f"{what} is not made of numbers, found a {strange[0].__name__} in the list ({path})"
            )
        try:
            return np.array(values, dtype, order="C")
        except (OverflowError, ValueError, TypeError) as error:
            raise InputError(f"{what} is not a list of numbers: {error} ({path})") from error
    array = (
        np.asarray(values) if isinstance(values, np.ndarray | np.generic | float | int) else None
    )
    if array is None or array.dtype.kind not in "biuf":
        kind = type(values).__name__ if array is None else array.dtype
        raise InputError(f"{what} is not made of numbers, found {kind} ({path})")
    return np.ascontiguousarray(np.asarray(array, dtype).view(np.ndarray))


def check_characters(texts: np.ndarray[Any, Any], what: str, path: object) -> None:
    """Raise where an array of texts holds numbers that no character has.

    NumPy makes strings of them, as of any bytes, on which Python fails later.
    """
    if texts.dtype.kind != "U" or not texts.size or not texts.dtype.itemsize:
        return
    codes = np.ascontiguousarray(texts, texts.dtype.newbyteorder("=")).view(np.uint32)
    if codes.max() > sys.maxunicode:
        raise CorruptFileError(
            f"{what} holds bytes that are no characters; the file is damaged, or says another byte "
            f"order than it has: copy or write it again ({path})"
        )


def stacked_rows(
    content: Mapping[Any, Any],
    path: object,
    dtype: Any,
    *,
    length: int | None = None,
    each: str = "",
) -> np.ndarray[Any, Any]:
    """Return the vectors of a dictionary as rows of one array.

    Parameters
    ----------
    content
        Name → vector, at least one.
    path
        For messages.
    dtype
        Of the result.
    length
        Numbers of every vector; by default those of the first one.
    each
        What there is a number for, for messages.

    Raises
    ------
    InputError
        A vector is none, or has another length; or all together do not fit into memory.
    """
    made = None
    for i, (name, value) in enumerate(content.items()):
        row = as_numbers_array(value, shown(name), path, dtype)
        if row.size == max(row.shape, default=0) or (row.ndim == 0 and length is not None):
            row = row.ravel()  # a single row, or a single number where one is expected
        if made is None and row.ndim == 1:
            length = len(row) if length is None else length
            check_dense((len(content), length), dtype, f"{path}, a row for each name")
            made = np.empty((len(content), length), dtype)
        if made is None or row.shape != made.shape[1:]:
            needed = "a list of numbers" if length is None else f"{length:,} numbers"
            raise InputError(
                f"{shown(name)} has shape {row.shape}, expected {needed}{each} ({path})"
            )
        made[i] = row
    assert made is not None
    return made


def shown(name: object) -> str:
    """Return a key for a message, cut where it is long or nested."""
    return reprlib.repr(name)
