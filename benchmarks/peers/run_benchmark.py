"""pertscale: the whole benchmark of stores, from labels to report; or their labels alone.

Where ``labels`` was run into the same folder before, ``whole`` begins with finished labels.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from cluster import add_parallel, local_cluster, worker_peaks
from stages import Stages, report
from unit_clock import UNIT_STAGES, UnitClock, rows


def main() -> None:
    """Run."""
    stages, arguments = Stages(), _parse()
    with stages("import"):
        import dask

        from pertscale import run_benchmark

    clock, more = UnitClock(), {}
    client = None
    with ExitStack() as stack:
        if arguments.workers:
            module = "pertscale.benchmark.units.running"
            client = stack.enter_context(local_cluster(arguments, stages, module))
        else:
            workers = dask.config.set(scheduler="threads", num_workers=arguments.threads)
            stack.enter_context(workers)
            stack.enter_context(clock())
        with stages("call"):
            if arguments.what == "labels":
                _label(arguments.stores, arguments.out, client)
            else:
                seed = list(range(arguments.seeds)) if arguments.seeds else None
                result = run_benchmark(
                    arguments.stores, out=arguments.out, seed=seed, client=client, quiet=True
                )
        if arguments.workers:
            more["worker_peak_bytes"] = worker_peaks(client)
    if arguments.what == "whole":
        more |= _account(result.timings, clock)
    report(stages, more)


def _label(stores: list[str], out: str, client: Any) -> None:
    """Label each store in the folder where the benchmark of all of them looks for its labels."""
    from pertscale.benchmark.inputs import locate_stores
    from pertscale.schema import REPLICATES
    from pertscale.stats import rank_sum

    for one in locate_stores(stores, out)[1]:
        rank_sum(
            one.store,
            out=Path(out) / one.folder,
            replicates=REPLICATES,
            client=client,
            quiet=True,
        )


def _account(timings: Any, clock: UnitClock) -> dict[str, Any]:
    """Return what the benchmark says of its own stages and units.

    ``busy`` are the seconds in which at least one unit ran, or vectors that units use were made,
    where these were threads of this process; ``unit_seconds``, ``vector_seconds`` and
    ``report_seconds`` are what each took.
    """
    labels = timings[timings["stage"] == "labels"]
    units = timings[timings["stage"].isin(UNIT_STAGES)]
    return {
        "rows": rows(timings, clock),
        "labels_reused": bool(labels["reused"].all()),
        "unit_seconds": [round(seconds, 4) for seconds in units["seconds"]],
        "vector_seconds": [round(one.ended - one.began, 4) for one in clock.vectors],
        "report_seconds": list(timings.loc[timings["stage"] == "report", "seconds"].round(4)),
        "busy": round(clock.busy(), 4) if clock.units else None,
    }


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("labels", "whole"))
    parser.add_argument("stores", nargs="+", help="stores, which are run together")
    parser.add_argument("--out", required=True, help="output folder")
    parser.add_argument("--seeds", type=int, default=0, help="splits [default: as run_benchmark]")
    add_parallel(parser)
    return parser.parse_args()


if __name__ == "__main__":
    main()
