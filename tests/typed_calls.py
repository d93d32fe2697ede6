"""Calls with typos that type checkers have to catch: mypy, which CI runs, fails where one is not.

Nothing here is run. An error that is expected is ignored by its code, and an ignore that is not
needed is itself an error (``warn_unused_ignores``).
"""

from __future__ import annotations

import pertscale as ps


def typos() -> None:
    """Each of these lines has one."""
    ps.nothing  # type: ignore[attr-defined]  # noqa: B018
    ps.stats.rank_sums("k.zarr")  # type: ignore[attr-defined]
    ps.stats.rank_sum("k.zarr", test="wilcoxn")  # type: ignore[arg-type]
    ps.run_benchmark("k.zarr", tasks=["withing"])  # type: ignore[list-item]
    ps.run_benchmark("k.zarr", seeds=1)  # type: ignore[call-arg]
    ps.io.ingest("k.h5ad", "k.zarr", scale="counst")  # type: ignore[arg-type]
    ps.read_predictions("p.csv", codes="upfirst")  # type: ignore[arg-type]


def right() -> None:
    """And these have none."""
    ps.io.ingest("k.h5ad", "k.zarr", scale="counts")
    ps.run_benchmark("k.zarr", tasks=["within", "single"], fold_change="arithmetic", seed=[0, 1])
    ps.read_predictions("p.csv", codes="up_first", scale="lfc")
