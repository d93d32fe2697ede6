"""What every part of the benchmark needs: folders, options, and measured calls of the scripts."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from machine import available_memory
from measure import Measurement, measure, thread_limits
from record import Record, Run
from shapes import SIZES, Shape

SCRIPTS = Path(__file__).resolve().parent / "peers"
#: Disk for the entries of ingest's first pass (2 bytes per non-zero) and the store, in h5ads.
INGEST_DISK = 0.4


@dataclass(frozen=True, kw_only=True)
class Session:
    """Options of a call, and the folder it works in."""

    work: Path
    results: Path
    repeats: int | None
    threads: int
    budget: float
    again: bool
    peers_python: str | None
    max_cells: int

    def record(self, topic: str) -> Record:
        """Open the results of a topic."""
        return Record(self.results, topic, peers=self.peers_python, again=self.again)

    def rounds(self, usual: int = 3) -> int:
        """How often a part is run: as often as was asked for, or as usual."""
        return self.repeats or usual

    # --- screens ----------------------------------------------------------------------

    def screen(self, shape: Shape) -> Path:
        """Return the simulated h5ad of this shape; make it if it is not there."""
        path = self.work / "screens" / f"{shape.name}.h5ad"
        if path.exists():
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        needed = shape.file_bytes() * (1 + INGEST_DISK)
        check_disk(path.parent, needed, f"{shape.name} ({shape}), with its ingest,")
        print(f"simulating {shape.name}: {shape}", flush=True)
        command = [sys.executable, "-m", "pertscale", "simulate", str(path), *shape.arguments()]
        self._checked(command, "simulate", threads=self.threads)
        return path

    def store(self, shape: Shape) -> Path:
        """Return the store of this shape; make it if it is not there."""
        path = self.work / "screens" / f"{shape.name}.zarr"
        if not path.exists():
            source = str(self.screen(shape))
            print(f"ingesting {shape.name}", flush=True)
            self.checked_script("run_pertscale", "ingest", source, str(path))
        return path

    def lines(self, shape: Shape) -> list[Path]:
        """Return a store of each context of this shape; make those that are not there."""
        folder = self.work / "screens" / f"{shape.name}-lines"
        stores = [folder / f"{name}.zarr" for name in shape.contexts]
        missing = [store for store in stores if not store.exists()]
        if missing:
            folder.mkdir(parents=True, exist_ok=True)
            self.checked_script("cut_lines", str(self.screen(shape)), str(folder))
            self.drop(shape)
        for store in missing:
            source = store.with_suffix(".h5ad")
            print(f"ingesting {store.stem}", flush=True)
            self.checked_script("run_pertscale", "ingest", str(source), str(store))
            source.unlink()
        return stores

    def drop(self, shape: Shape) -> None:
        """Delete the screen and the store of a shape."""
        (self.work / "screens" / f"{shape.name}.h5ad").unlink(missing_ok=True)
        shutil.rmtree(self.work / "screens" / f"{shape.name}.zarr", ignore_errors=True)

    # --- measured calls ---------------------------------------------------------------

    def script(
        self, name: str, *arguments: str, python: str = sys.executable, threads: int | None = None
    ) -> Measurement:
        """Run one of the scripts in ``peers/`` and measure it."""
        path = str(SCRIPTS / f"{name}.py")
        return self._measured([python, path, *arguments], name, threads or self.threads)

    def checked_script(
        self, name: str, *arguments: str, python: str = sys.executable
    ) -> Measurement:
        """Do as :meth:`script` does, and end the session where the script fails."""
        path = str(SCRIPTS / f"{name}.py")
        return self._checked([python, path, *arguments], name, threads=self.threads)

    def _measured(self, command: list[str], name: str, threads: int) -> Measurement:
        log = self.work / "logs" / f"{name}.log"
        return measure(command, log=log, env=thread_limits(threads))

    def _checked(self, command: list[str], name: str, *, threads: int) -> Measurement:
        done = self._measured(command, name, threads)
        if done.exit_code:
            raise SystemExit(f"{name} failed; see {self.work / 'logs' / name}.log")
        return done

    # --- pertscale --------------------------------------------------------------------

    def warm_up(self) -> None:
        """Compile pertscale's kernels, which are cached on disk, so that no measured run does."""
        source = self.screen(SIZES["toy"])
        store = self.scratch("warm-up.zarr")
        self.checked_script("run_pertscale", "ingest", str(source), str(store))
        self.checked_script("run_pertscale", "labels", str(store), str(self.scratch("labels")))

    def warm_up_benchmark(self) -> None:
        """Compile what the methods and scores of a whole benchmark need, as well."""
        out = self.scratch("warm-up")
        self.benchmark_of("whole", [self.store(SIZES["toy"])], out, "--seeds", "1")

    def ingest(self, shape: Shape, *, threads: int | None = None) -> Measurement:
        """Measure an ingest; the store takes the place of the one before."""
        store = self.work / "screens" / f"{shape.name}.zarr"
        return self._ours("ingest", str(self.screen(shape)), str(store), threads=threads)

    def labels(self, shape: Shape, *, threads: int | None = None, workers: int = 0) -> Measurement:
        """Measure a labels run; what it writes is deleted."""
        out = self.scratch("labels")
        done = self._ours(
            "labels", str(self.store(shape)), str(out), threads=threads, workers=workers
        )
        shutil.rmtree(out, ignore_errors=True)
        return done

    def benchmark(
        self, shape: Shape, *, threads: int | None = None, workers: int = 0
    ) -> Measurement:
        """Measure a whole benchmark, from the store to the report; what it writes is deleted."""
        out = self.scratch("benchmark")
        done = self.benchmark_of(
            "whole", [self.store(shape)], out, threads=threads, workers=workers
        )
        shutil.rmtree(out, ignore_errors=True)
        return done

    def benchmark_of(
        self,
        what: str,
        stores: Sequence[Path],
        out: Path,
        *more: str,
        threads: int | None = None,
        workers: int = 0,
    ) -> Measurement:
        """Measure a benchmark of several stores: its labels, or the whole."""
        arguments = [what, *map(str, stores), "--out", str(out), *more]
        return self._parallel("run_benchmark", arguments, threads, workers)

    def _ours(self, *arguments: str, threads: int | None, workers: int = 0) -> Measurement:
        return self._parallel("run_pertscale", arguments, threads, workers)

    def _parallel(
        self, name: str, arguments: Sequence[str], threads: int | None, workers: int
    ) -> Measurement:
        n = threads or self.threads
        more = ["--threads", str(n)]
        if workers:
            more += ["--workers", str(workers), "--scratch", str(self.scratch("cluster"))]
        return self.script(name, *arguments, *more, threads=n)

    def scratch(self, name: str) -> Path:
        """Return a path for something short-lived; what was there is deleted."""
        path = self.work / "scratch" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(path, ignore_errors=True)
        return path


def note(record: Record, key: Run, done: Measurement, *, shape: Shape) -> Run:
    """Write a measurement down and print a line."""
    values: Run = {**done.as_dict(), "shape": asdict(shape)}
    words = " ".join(str(value) for value in key.values())
    if done.exit_code:
        values["failed"] = f"exit code {done.exit_code}"
        print(f"  {words}: FAILED with {values['failed']}; see the log", flush=True)
    else:
        print(
            f"  {words}: {done.wall:.1f} s, {done.cpu:.1f} CPU s, {done.peak_bytes / 1e9:.2f} GB",
            flush=True,
        )
    return record.add(key, values)


def lacks_memory(needed: float) -> str:
    """Return why something that needs this many bytes can't run here; empty if it can."""
    there = available_memory()
    if needed <= there:
        return ""
    return f"needs about {needed / 1e9:.0f} GB, {there / 1e9:.0f} GB are available"


def check_disk(folder: Path, needed: float, what: str) -> None:
    """End the session where the disk has no room for something of this many bytes."""
    there = shutil.disk_usage(folder).free
    if needed > there:
        raise SystemExit(
            f"{what} needs about {needed / 1e9:.0f} GB of disk, {there / 1e9:.0f} GB are free; "
            "name a larger disk with --work, or take fewer --max-cells, --cells or --genes"
        )
