"""How kernels are compiled: without the GIL, and cached on disk where a folder can be written."""

from __future__ import annotations

import fcntl
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache, wraps
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core.compiler_lock import global_compiler_lock

F = TypeVar("F", bound=Callable[..., Any])


def jit(function: F) -> F:
    """Compile on first call; other processes wait for that, and load the machine code from disk."""
    try:
        compiled = numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # numba found no folder that it may write its cache to
        return cast(F, numba.njit(nogil=True)(function))
    files = getattr(getattr(compiled, "_cache", None), "_cache_file", None)
    if files is not None:  # else compiling is switched off
        _compile_once(compiled, Path(f"{files._index_path}.lock"))
        _keep_files_apart(files)
        files._source_stamp = files._source_stamp, _stamps(Path(function.__code__.co_filename))
    return cast(F, compiled)


def _compile_once(compiled: Any, lock: Path) -> None:
    """Let one process look into the cache, compile and save, while others wait to do so.

    Workers start together: without a lock each of them would compile all kernels.
    """
    compile_ = compiled.compile

    @wraps(compile_)
    def alone(signature: Any) -> Any:
        # in this order: a thread that waits for the file would keep the others from compiling
        with global_compiler_lock, _locked(lock):
            return compile_(signature)

    compiled.compile = alone


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a file's lock against other processes, where its file system has locks."""
    with ExitStack() as stack:
        with suppress(OSError):
            file = stack.enter_context(path.open("ab"))
            fcntl.lockf(file, fcntl.LOCK_EX)
        yield


def _keep_files_apart(files: Any) -> None:
    """Give each file of machine code a name of its own, where there are no locks.

    Numba numbers the files of a function from 1: of two processes that compile it for different
    types at the same time one overwrites the other's file, and a third runs code of wrong types.
    Files of a source that has changed since are not overwritten then; nobody reads them.
    """
    numbered = files._data_name

    def named(number: int) -> str:
        return f"{numbered(number).removesuffix('.nbc')}.{uuid.uuid4().hex[:12]}.nbc"

    files._data_name = named


@cache
def _stamps(source: Path) -> tuple[tuple[str, int, int], ...]:
    """Return names, times and sizes of the modules beside a kernel's, itself among them.

    Numba looks at the kernel's own module: code of another one that is compiled into it would stay
    what it was when that one changes.
    """
    found = ((path.name, path.stat()) for path in sorted(source.parent.glob("*.py")))
    return tuple((name, stat.st_mtime_ns, stat.st_size) for name, stat in found)


def inline(function: F) -> F:
    """Compile into the caller: for the inner loops."""
    return cast(F, numba.njit(nogil=True, inline="always")(function))
