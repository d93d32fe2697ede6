"""What a unit is made of can be sent to a worker, without what it has read of files."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import fields
from typing import Any, Generic, TypeVar, overload

T = TypeVar("T")

_creating = threading.Lock()


class once(Generic[T]):
    """A property that is made when it is first asked for, by one thread while others wait.

    `functools.cached_property` makes it several times, or (before Python 3.12) lets threads that
    ask other objects wait, too.
    """

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make = make
        self.__doc__ = make.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, of: None, owner: type) -> once[T]: ...
    @overload
    def __get__(self, of: object, owner: type) -> T: ...
    def __get__(self, of: Any, owner: type) -> Any:
        if of is None:
            return self
        kept = of.__dict__
        if self._name not in kept:
            with _creating:
                lock = kept.setdefault(f"_lock_of_{self._name}", threading.Lock())
            with lock:
                if self._name not in kept:
                    kept[self._name] = self._make(of)
        return kept[self._name]


class Portable:
    """A dataclass that is pickled without what it has made of its fields."""

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields."""
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
