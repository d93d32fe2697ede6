"""One BLAS thread per matrix product, where Dask uses all cores already."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from threadpoolctl import ThreadpoolController

_lock = threading.Lock()
_inside = 0
_limited: list[tuple[Callable[[int], Any], int]] = []


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let BLAS use one thread; for work that several threads of this process do at once.

    BLAS threads that wait for each other, on cores that Dask's threads use as well, slow small
    products down thirtyfold. The limit is the process's: the first to enter sets it, the last to
    leave lifts it.
    """
    global _inside
    with _lock:
        _inside += 1
        if _inside == 1:
            _limited[:] = [(_setter(pool), pool.num_threads) for pool in _pools()]
            for limit, _ in _limited:
                limit(1)
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                for limit, before in _limited:
                    limit(before)


def _pools() -> list[Any]:
    pools = ThreadpoolController().lib_controllers
    return [pool for pool in pools if pool.user_api == "blas" and pool.num_threads]


def _setter(pool: Any) -> Callable[[int], Any]:
    """Return what sets the threads of a library.

    The setter of newer threadpoolctl ignores all threads but the first one that ever used it, so
    that they do not undo each other's limits; here a count of the threads inside prevents that.
    """
    return getattr(pool, "_real_set_num_threads", pool.set_num_threads)
