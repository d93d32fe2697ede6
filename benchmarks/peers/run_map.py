"""Dask's share: the tiles of a rank-sum run through pertscale's map, or through a bare pool.

The tiles are those that ``rank_sum`` hands to its map, caught on the way.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from stages import Stages, report


class _Caught(Exception):
    """Ends ``rank_sum`` where its map would begin."""


def catch_tiles(store: str, out: str) -> tuple[Callable[[Any], Any], Sequence[Any]]:
    """Return the function and the descriptors of the first map of ``rank_sum``."""
    from pertscale.stats import rank_sum
    from pertscale.stats.differential import rank_sum as module

    caught: list[Any] = []

    def stand_in(function: Any, descriptors: Any, **_: Any) -> None:
        caught.extend((function, descriptors))
        raise _Caught

    original, module.run = module.run, stand_in
    try:
        with suppress(_Caught):
            rank_sum(store, out=out, quiet=True)
    finally:
        module.run = original
    return caught[0], caught[1]


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("how", choices=("dask", "pool"))
    parser.add_argument("store")
    parser.add_argument("out", help="folder for the tiles' statistics")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    import dask

    from pertscale.execution.runner import run

    stages = Stages()
    with dask.config.set(scheduler="threads", num_workers=arguments.threads):
        function, tiles = catch_tiles(arguments.store, arguments.out)
        with stages("map"):
            if arguments.how == "dask":
                run(function, tiles, label="tiles", quiet=True)
            else:
                with ThreadPoolExecutor(arguments.threads) as pool:
                    list(pool.map(function, tiles))
    report(stages, {"tiles": len(tiles)})


if __name__ == "__main__":
    main()
