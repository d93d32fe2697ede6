"""pertscale: ingest a file, or label a store. Adjusts p-values, writes Parquet and pseudobulks."""

from __future__ import annotations

import argparse
import shutil
import time
from typing import Any

from cluster import add_parallel, local_cluster, worker_peaks
from stages import CONTROL, Stages, report, write_p_values


def main() -> None:
    """Run."""
    stages, arguments = Stages(), _parse()
    with stages("import"):
        import dask

        import pertscale
        from pertscale.stats import rank_sum

    def call(client: Any = None) -> Any:
        common = {"client": client, "quiet": True}
        if arguments.what == "ingest":
            scale = {"scale": arguments.scale} if arguments.scale else {}
            return pertscale.io.ingest(
                arguments.file, arguments.out, overwrite=True, **scale, **common
            )
        return rank_sum(arguments.file, out=arguments.out, test=arguments.test, **common)

    more: dict[str, Any] = {}
    if arguments.workers:
        with local_cluster(arguments, stages, "pertscale.stats.differential.tile_task") as client:
            with stages("first call"):  # of this cluster: workers load code and get memory
                call(client)
            shutil.rmtree(arguments.out)
            with stages("call"):
                call(client)
            more["worker_peak_bytes"] = worker_peaks(client)
    else:
        clock = _map_clock(stages)
        with dask.config.set(scheduler="threads", num_workers=arguments.threads), clock:
            with stages("call"):
                result = call()
            clock.finish()
        if arguments.p_values:
            _write(result, arguments.p_values)
    report(stages, more)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("ingest", "labels"))
    parser.add_argument("file", help="file to ingest, or store to label")
    parser.add_argument("out", help="store, or folder for the labels")
    add_parallel(parser)
    parser.add_argument("--scale", help="declare the scale of the file")
    parser.add_argument("--test", default="mannwhitney")
    parser.add_argument("--p-values", help="write the p-values to this npz")
    return parser.parse_args()


def _map_clock(stages: Stages) -> Any:
    """Make a Dask callback that times each of pertscale's maps, from first task to last."""
    from dask.callbacks import Callback

    class Clock(Callback):
        def __init__(self) -> None:
            super().__init__(pretask=self.before, posttask=self.after)
            self.first: dict[str, tuple[float, float]] = {}
            self.last: dict[str, tuple[float, float]] = {}

        def before(self, key: Any, *_: Any) -> None:
            now = time.perf_counter(), time.process_time()
            self.first.setdefault(self.label(key), now)

        def after(self, key: Any, *_: Any) -> None:
            self.last[self.label(key)] = time.perf_counter(), time.process_time()

        def label(self, key: Any) -> str:
            return (key[0] if isinstance(key, tuple) else str(key)).rsplit("-", 1)[0]

        def finish(self) -> None:
            for label, (wall, cpu) in self.first.items():
                stages.add(label, self.last[label][0] - wall, self.last[label][1] - cpu)

    return Clock()


def _write(labels: Any, path: str) -> None:
    table = labels.to_pandas(columns=["p_value"])
    wide = table.pivot(index="perturbation", columns="gene", values="p_value")
    names = sorted(set(wide.index) - {CONTROL, "control"})
    write_p_values(path, names, list(wide.columns), wide.loc[names].to_numpy())


if __name__ == "__main__":
    main()
