"""Check the types of the arguments of public functions before anything is done with them.

:func:`checked` reads the annotations of a function. A value of another type is refused at once, by
a message that says what to pass instead; otherwise a library would fail on it late, knowing neither
the argument's name nor what the user wants. Values are checked by the functions themselves.
"""

from __future__ import annotations

import importlib
import inspect
import os
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, wraps
from numbers import Integral, Real
from typing import Any, Final, Literal, TypeVar, Union, get_args, get_origin

import numpy as np

from pertscale.errors import ArgumentError

F = TypeVar("F", bound=Callable[..., Any])  # a class, too

#: Modules of the names that are imported for type checkers only.
_NAMES: Final = {
    "dd": "dask.dataframe",
    "xr": "xarray",
    "pd": "pandas",
    "anndata": "anndata",
    "BenchmarkResult": "pertscale.results.result:BenchmarkResult",
    "Screen": "pertscale.screen:Screen",
    "LabelTable": "pertscale.stats.labels:LabelTable",
}
#: How to make an object of a type, by the name of the type.
_WAYS: Final = {
    "LabelTable": "read one with pertscale.read_labels(path), or test a store with "
    "pertscale.stats.rank_sum(store)",
    "BenchmarkResult": "open one with pertscale.read_result(path)",
    "Screen": "open one with pertscale.open_screen(path)",
    "Split": "draw one with pertscale.splits.holdout(names), or read one with "
    "pertscale.Split.read(path)",
    "Embedding": "read one with pertscale.read_embedding(path)",
    "Curation": "make one with pertscale.stats.Curation()",
    "ModelSpec": "read them with pertscale.models.read_config(path)",
}
#: How an object that was passed for a path becomes a file.
AS_FILE: Final = {
    "AnnData": "write it with adata.write_h5ad('screen.h5ad') and pass that path",
    "DataFrame": "write it with frame.to_parquet('table.parquet') and pass that path",
    "Dataset": "write it with dataset.to_zarr('name.zarr') and pass that path",
    "bytes": "pass os.fsdecode(path)",
}
_WORDS: Final = {str: "text", int: "a whole number", float: "a number", bool: "True or False"}
_NUMBERS: Final = {int: (Integral, np.integer), float: (Real, np.number), bool: (bool, np.bool_)}
#: Entries of a sequence that are checked; a screen has too many names to check each.
_ENTRIES: Final = 1000


def checked(public: F) -> F:
    """Refuse arguments whose type is not the annotated one, before a function is called.

    Of a class this decorates the constructor and the public methods.

    Raises
    ------
    ArgumentError
        Raised by the decorated function. Missing and unknown arguments stay Python's ``TypeError``.
    """
    if not isinstance(public, type):
        return _checked_function(public)
    for name, member in list(vars(public).items()):
        if name.startswith("_") and name != "__init__":
            continue
        if isinstance(member, types.FunctionType):
            setattr(public, name, _checked_function(member))
        elif isinstance(member, classmethod | staticmethod):
            setattr(public, name, type(member)(_checked_function(member.__func__)))
    return public


def _checked_function(function: Any) -> Any:
    signature = inspect.signature(function)

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        hints = _hints(function)
        for name, value in signature.bind(*args, **kwargs).arguments.items():
            if name in hints and not _fits(value, hints[name]):
                raise ArgumentError(_refusal(function.__qualname__, name, value, hints[name]))
        return function(*args, **kwargs)

    call.is_checked = True  # type: ignore[attr-defined]
    return call


class _Names(dict[str, Any]):
    """Names of annotations that their module does not have at run time."""

    def __missing__(self, name: str) -> Any:
        where, _, attribute = _NAMES[name].partition(":")
        module = importlib.import_module(where)
        return getattr(module, attribute) if attribute else module


@cache
def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    names = _Names(inspect.unwrap(function).__globals__)
    return typing.get_type_hints(function, globalns=dict(names), localns=names)


# --- does it fit? ---------------------------------------------------------------------------------


def _fits(value: Any, hint: Any) -> bool:
    origin, inside = get_origin(hint), get_args(hint)
    if hint is Any or hint is inspect.Parameter.empty:
        return True
    if hint is None or hint is type(None):
        return value is None
    if value is None and type(None) in inside:
        return True
    if _is_array(hint):
        return hasattr(value, "__array__") or isinstance(value, list | tuple)
    if origin in (Union, types.UnionType):
        return any(_fits(value, one) for one in inside)
    if origin is Literal:
        return isinstance(value, tuple({type(one) for one in inside}))
    if hint in _NUMBERS:
        return isinstance(value, _NUMBERS[hint]) and (hint is bool or not _is_bool(value))
    if origin is tuple and inside[1:] != (Ellipsis,):
        return isinstance(value, tuple) and len(value) == len(inside)
    if origin is not None and isinstance(origin, type) and issubclass(origin, Iterable):
        return _holds(value, origin, inside)
    kind = origin or hint
    return isinstance(value, kind) if isinstance(kind, type) else True


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool | np.bool_)


def _is_array(hint: Any) -> bool:
    """Whether a type is an array's, or NumPy's ArrayLike, a union of types of its own."""
    alias = get_origin(hint) or hint
    if getattr(alias, "__module__", "").startswith("numpy") and hasattr(alias, "__value__"):
        return True  # NDArray and ArrayLike, which are type aliases from NumPy 2.5 on
    members = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else ()
    of_numpy = any(getattr(one, "__module__", "").startswith("numpy._typing") for one in members)
    return of_numpy or hint is np.ndarray or get_origin(hint) is np.ndarray


def _holds(value: Any, origin: type, inside: tuple[Any, ...]) -> bool:
    """Whether a container and its entries have the right types; a text is not a list."""
    if isinstance(value, str | bytes):
        return False
    if issubclass(origin, Mapping):
        return isinstance(value, Mapping)
    if isinstance(value, Mapping) or not isinstance(value, Iterable):
        return False
    if issubclass(origin, Sequence) and isinstance(value, Iterator):
        return False
    if isinstance(value, list | tuple) and inside:
        entries = value[:_ENTRIES]
        if isinstance(inside[0], type):  # of which one of each kind tells
            entries = list({type(entry): entry for entry in entries}.values())
        return all(_fits(entry, inside[0]) for entry in entries)
    return not hasattr(value, "columns") and not hasattr(value, "obs")  # tables are no lists


# --- what to say ----------------------------------------------------------------------------------


def _refusal(function: str, name: str, value: Any, hint: Any) -> str:
    way = _way(name, value, hint)
    return (
        f"{function}: {name} has to be {_words(hint)}, found {_shown(value)}"
        f"{'; ' if way else ''}{way}"
    )


def _words(hint: Any) -> str:
    """Name a type in plain words."""
    members = [hint] if _is_array(hint) else _alternatives(hint)
    if any(get_origin(one) is os.PathLike for one in members):
        members.remove(str)  # text is a path
    parts = list(dict.fromkeys(map(_part, members)))
    return f"{', '.join(parts[:-1])} or {parts[-1]}" if len(parts) > 1 else parts[0]


def _alternatives(hint: Any) -> list[Any]:
    """Return the members of a union, but None."""
    members = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return [one for one in members if one is not type(None)]


def _part(hint: Any) -> str:
    origin, inside = get_origin(hint), get_args(hint)
    if origin is Literal:
        return "one of " + ", ".join(map(repr, inside))
    if hint in _WORDS:
        return _WORDS[hint]
    if origin is os.PathLike:
        return "a path"
    if _is_array(hint):
        return "an array"
    if origin is tuple and inside[1:] != (Ellipsis,):
        return f"a tuple of {len(inside)}"
    if _is_mapping(hint):
        return "a dictionary"
    if isinstance(origin, type) and issubclass(origin, Iterable):
        return f"a list (each {_words(inside[0])})"
    return _with_article(getattr(hint, "__name__", str(hint)))


def _with_article(kind: str) -> str:
    return f"{'an' if kind[0] in 'AEIOUaeio' else 'a'} {kind}"


def _shown(value: Any) -> str:
    """Return a value as a message shows it: small ones themselves, others by their type."""
    if value is None or isinstance(value, bool | int | float | str):
        shown = repr(value)
        return shown if len(shown) <= 60 else f"{shown[:60]}…"
    if isinstance(value, list | tuple) and value:
        kinds = list(dict.fromkeys(type(one).__name__ for one in value[:_ENTRIES]))
        return f"a {type(value).__name__} of {' and '.join(kinds[:3])}"
    return _with_article(type(value).__name__)


def _way(name: str, value: Any, hint: Any) -> str:
    """Say what to do, where that is known."""
    members = _alternatives(hint)
    if isinstance(value, str) and any(_is_list_of_text(one) for one in members):
        return f"pass a list: {name}=[{value!r}]"
    if any(get_origin(one) is os.PathLike for one in members):
        found = AS_FILE.get(type(value).__name__)
        if found:
            return found
    if any(_is_mapping(one) for one in members):
        return f"pass a dictionary: {name}={{'NAME': …}}"
    ways = (_WAYS.get(getattr(one, "__name__", "")) for one in members)
    return next((way for way in ways if way), "")


def _is_mapping(hint: Any) -> bool:
    origin = get_origin(hint)
    return isinstance(origin, type) and issubclass(origin, Mapping)


def _is_list_of_text(hint: Any) -> bool:
    origin, inside = get_origin(hint), get_args(hint)
    is_list = isinstance(origin, type) and issubclass(origin, Iterable)
    return is_list and (str in inside or any(get_origin(one) is Literal for one in inside))
