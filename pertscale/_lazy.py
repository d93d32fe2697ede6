"""Names of a package that are imported when they are first used, so that importing it is quick."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(
    package: str, modules: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` for a package (PEP 562).

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

    return get, lambda: sorted({*vars(sys.modules[package]), *modules})
