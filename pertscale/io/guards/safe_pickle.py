"""Read pickles of plain data and NumPy arrays without running anything that they ask for.

A pickle is a program: it names functions and calls them. This reader knows a short list of names,
which it replaces by functions of its own, and refuses every other. NumPy's own unpickling code is
not given raw state either: a forged ``dtype`` could make it follow pointers taken from the file.
How deep it nests and how many objects it wants to remember is checked before
(:mod:`pertscale.io.guards.pickle_shape`). A file may still be large in memory: a list of numbers
takes a few times its bytes.
"""

from __future__ import annotations

import math
import os
import pickle
import reprlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from pertscale.errors import CorruptFileError, InputError
from pertscale.io.guards.pickle_shape import check_shape
from pertscale.storage.locations import input_path

#: Kinds of dtypes whose bytes are plain values: numbers, text, byte strings.
_PLAIN_KINDS: Final = frozenset("biufcSU")


def load(path: str | os.PathLike[str]) -> Any:
    """Return the content of a pickle that holds plain data and NumPy arrays.

    Allowed are ``None``, booleans, numbers, text, bytes, lists, tuples, dicts, sets,
    ``OrderedDict``, and NumPy arrays and scalars of numbers or text, as NumPy 1 and 2 write them.
    Arrays come back as a subclass of ``numpy.ndarray``.

    Raises
    ------
    NotFoundError
        There is no such file.
    InputError
        The pickle names anything else, of which nothing has been called, or nests too deep.
    CorruptFileError
        The file is truncated or not a pickle.
    """
    path = input_path(path, "a pickle")
    try:
        check_shape(np.memmap(path, np.uint8, mode="r"))
        with path.open("rb") as file:
            return _PlainUnpickler(file).load()
    except (InputError, CorruptFileError) as error:
        raise type(error)(f"{error} ({path})") from error
    # what a damaged stream makes the unpickler raise
    except (
        pickle.UnpicklingError,
        EOFError,
        AttributeError,
        IndexError,
        KeyError,
        TypeError,
        ValueError,
        OverflowError,
        RecursionError,
        MemoryError,
    ) as error:
        raise CorruptFileError(f"not a complete pickle of plain data: {error} ({path})") from error


class _PlainUnpickler(pickle.Unpickler):
    """Unpickler that knows the names of :data:`_ALLOWED` only."""

    def find_class(self, module: str, name: str) -> Any:
        # a dotted name reaches into attributes; no allowed name has a dot
        if (module, name) not in _ALLOWED:
            raise InputError(
                f"the pickle asks for {module}.{name}, which is neither plain data nor a NumPy "
                f"array, so it was not loaded; write the vectors as .csv, .parquet or .npz with "
                f"the program that made the file"
            )
        return _ALLOWED[module, name]


class _Function:
    """A function that the pickle can call and, unlike a plain one, not set attributes on."""

    __slots__ = ("_call",)
    _call: Callable[..., Any]

    def __init__(self, call: Callable[..., Any]) -> None:
        object.__setattr__(self, "_call", call)

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)

    def __setattr__(self, name: str, value: Any) -> None:
        raise InputError("the pickle tries to change a function")

    def __setstate__(self, state: Any) -> None:
        raise InputError("the pickle tries to change a function")


class _Dtype:
    """Stands for a ``numpy.dtype`` while it is being unpickled."""

    __slots__ = ("dtype",)

    def __init__(self, code: Any, *_: Any) -> None:
        if not isinstance(code, str):
            raise InputError(
                f"the pickle has a dtype made from {reprlib.repr(code)}, not a code like 'f8'"
            )
        self.dtype = np.dtype(code)
        if self.dtype.kind not in _PLAIN_KINDS or self.dtype.fields or self.dtype.subdtype:
            raise InputError(
                f"the pickle has an array of dtype {code!r}; only numbers and text are read"
            )

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        # (version, byte order, subdtype, names, fields, item size, alignment, flags): the order
        # counts; the sizes repeat what the code said
        byteorder = state[1]
        if byteorder not in ("<", ">", "=", "|") or any(part is not None for part in state[2:5]):
            raise InputError("the pickle has a structured dtype; only numbers and text are read")
        self.dtype = self.dtype.newbyteorder(byteorder)


class _Array(np.ndarray[Any, Any]):
    """Array that checks what the pickle wants to fill it with."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        version, shape, dtype, fortran, data = state
        if not isinstance(dtype, _Dtype) or not isinstance(data, (bytes, str)):
            raise InputError("the pickle has an array of objects; only numbers and text are read")
        if isinstance(data, str):
            data = data.encode("latin1")
        _check_size(shape, dtype.dtype, len(data))
        checked: Any = (version, shape, dtype.dtype, bool(fortran), data)
        super().__setstate__(checked)


def _check_size(shape: Any, dtype: np.dtype[Any], n_bytes: int) -> None:
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
        raise InputError(f"the pickle has an array of shape {reprlib.repr(shape)}")
    n_values = math.prod(shape)
    if dtype.itemsize == 0 and n_values:  # any number of them takes no bytes
        raise InputError(f"the pickle has {n_values:,} values of dtype {dtype}, which has no size")
    if n_values * dtype.itemsize != n_bytes:
        raise InputError(
            f"the pickle has an array of shape {shape} and dtype {dtype} with {n_bytes} bytes"
        )


def _empty_array(*_: Any) -> _Array:
    return _Array((0,), dtype=np.int8)


def _scalar(dtype: Any, data: Any = b"") -> Any:
    if not isinstance(dtype, _Dtype) or not isinstance(data, (bytes, str)):
        raise InputError("the pickle has a NumPy scalar that is neither a number nor text")
    raw = data.encode("latin1") if isinstance(data, str) else data
    _check_size((), dtype.dtype, len(raw))
    return np.ndarray((), dtype=dtype.dtype, buffer=raw)[()]


def _array_from_buffer(data: Any, dtype: Any, shape: Any, order: Any, *_: Any) -> _Array:
    if not isinstance(dtype, _Dtype) or not isinstance(data, (bytes, bytearray)):
        raise InputError("the pickle has an array of objects; only numbers and text are read")
    shape = shape if isinstance(shape, tuple) else (shape,)
    _check_size(shape, dtype.dtype, len(data))
    if order not in ("C", "F"):
        raise InputError(f"the pickle has an array of memory order {reprlib.repr(order)}")
    values: np.ndarray[Any, Any] = np.ndarray(shape, dtype.dtype, buffer=data, order=order)
    return values.copy(order="K").view(_Array)


def _latin1_bytes(text: Any, encoding: Any = "latin1") -> bytes:
    # how protocols below 3 spell bytes; the real function looks codecs up by name
    if not isinstance(text, str) or encoding != "latin1":
        raise InputError(f"the pickle asks for the encoding {reprlib.repr(encoding)}")
    return text.encode("latin1")


def _empty_bytes(*args: Any) -> bytes:
    # how protocols below 3 spell b""; bytes(n) would reserve any amount of memory
    if args:
        raise InputError("the pickle calls bytes() with arguments")
    return b""


def _refused_call(*_: Any) -> Any:
    raise InputError("the pickle calls numpy.ndarray, which no array of numbers needs")


_BUILTINS: Final = {
    "set": _Function(set),
    "frozenset": _Function(frozenset),
    "complex": _Function(complex),
    "bytes": _Function(_empty_bytes),
}
_ALLOWED: Final[dict[tuple[str, str], _Function]] = {
    # Python 2 and 3, NumPy 1 and 2
    **{(m, name): f for m in ("builtins", "__builtin__") for name, f in _BUILTINS.items()},
    ("collections", "OrderedDict"): _Function(OrderedDict),
    ("_codecs", "encode"): _Function(_latin1_bytes),
    ("numpy", "ndarray"): _Function(_refused_call),
    ("numpy", "dtype"): _Function(_Dtype),
    **{
        (f"numpy.{core}.{module}", name): function
        for core in ("core", "_core")
        for module, name, function in (
            ("multiarray", "_reconstruct", _Function(_empty_array)),
            ("multiarray", "scalar", _Function(_scalar)),
            ("numeric", "_frombuffer", _Function(_array_from_buffer)),
        )
    },
}
