"""The public names of a package: loaded when they are first used, and the only ones shown."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def lazy_names(
    package: str, modules: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` for a package (PEP 562).

    Assign them where type checkers do not look (``if not TYPE_CHECKING``): for these a module with
    ``__getattr__`` has any name.

    Parameters
    ----------
    package : str
        Its ``__name__``.
    modules : mapping
        Public name -> module that defines it, ``module:name`` where it has another name there; for
        a submodule that module itself.
    """

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        where, _, attribute = modules[name].partition(":")
        module = importlib.import_module(where)
        value = module if where == f"{package}.{name}" else getattr(module, attribute or name)
        setattr(sys.modules[package], name, value)
        return value

    return get, lambda: sorted(modules)


def public_dir(names: Sequence[str]) -> Callable[[], list[str]]:
    """Return ``__dir__`` for a module that imports eagerly: its public names, no imported ones."""
    return lambda: sorted(names)
