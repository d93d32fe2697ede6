"""What a reader of the fuzz is, and how what it reads is compared with what is right."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


class _Any:
    """In the right result: whatever is read here, nobody can judge it."""

    def __repr__(self) -> str:
        return "ANY"


ANY = _Any()


@dataclass(frozen=True)
class Reader:
    """One way into pertscale.

    Attributes
    ----------
    name
    write
        Writes the files to be changed into an empty folder.
    read
        Reads them with pertscale.
    oracle
        Reads them with the formats' own libraries, in the same form; an AssertionError says that
        they can't be what they were written as, any other error that this can't be told. None where
        every change is to be noticed, as of what pertscale wrote itself.
    """

    name: str
    write: Callable[[Path], object]
    read: Callable[[Path], Any]
    oracle: Callable[[Path], Any] | None


def as_plain(value: Any) -> Any:
    """Return arrays and tuples as lists, numbers with the digits that float32 has."""
    if isinstance(value, dict):
        return {str(as_plain(k)): as_plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [as_plain(v) for v in value]
    if isinstance(value, bool | np.bool_ | int | np.integer | float | np.floating):
        return float(f"{float(value):.6g}") if np.isfinite(value) else str(float(value))
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value if value is None or value is ANY else str(value)


def name_of(value: Any) -> str:
    """Return a name that a file holds as text, bytes, or a number."""
    if not isinstance(value, bytes):
        return str(value)
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise AssertionError("bytes that are no text") from error


def agrees(value: Any, right: Any) -> bool:
    """Whether a plain value is the right one, as far as that can be judged."""
    if right is ANY:
        return True
    if isinstance(value, dict) and isinstance(right, dict):
        return value.keys() == right.keys() and all(agrees(value[k], right[k]) for k in value)
    if isinstance(value, list) and isinstance(right, list):
        return len(value) == len(right) and all(map(agrees, value, right))
    if isinstance(value, float) and isinstance(right, float):
        return abs(value - right) <= max(2e-5 * max(abs(value), abs(right)), 1e-30)
    return value == right


_HARMLESS = ("_reconstruct", "ndarray", "dtype", "scalar", "_frombuffer", "encode")


class _OnlyArrays(pickle.Unpickler):
    """Loads arrays of NumPy, as changed bytes may name anything."""

    def find_class(self, module: str, name: str) -> Any:
        if (module == "_codecs" or module.startswith("numpy")) and name in _HARMLESS:
            return super().find_class(module, name)
        raise LookupError(f"{module}.{name}")


def unpickled(path: Path) -> dict[Any, Any]:
    found = _OnlyArrays(io.BytesIO(path.read_bytes())).load()
    assert isinstance(found, dict), "no dictionary"
    return found
