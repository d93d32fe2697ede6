"""plan_benchmark: what a run would read, hold, write and take, before it runs."""

from __future__ import annotations

import html
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numcodecs import blosc

from pertscale.arguments import checked
from pertscale.baselines import EXPRESSION_MODELS, METHODS
from pertscale.baselines.thresholds import Rule
from pertscale.benchmark.forecast.timing import UnitRates, probe_units
from pertscale.benchmark.forecast.units import ExpectedUnit, expected_units
from pertscale.benchmark.inputs import ingested, locate_stores
from pertscale.benchmark.options import BenchmarkOptions, read_options
from pertscale.benchmark.outputs import LAYOUT
from pertscale.benchmark.units.class_unit import HELD_PER_PAIR
from pertscale.benchmark.units.label_matrix import BAND_BYTES, STRIP_PAIRS
from pertscale.benchmark.vectors import TRAINING_DIM
from pertscale.diagnostics.progress import duration, say
from pertscale.diagnostics.stopwatch import Stopwatch
from pertscale.display import n_bytes
from pertscale.embeddings.embedding import Embedding
from pertscale.errors import StorageError
from pertscale.evaluation.expression import N_GENES
from pertscale.evaluation.resampling.draws import Cluster
from pertscale.evaluation.retrieval import N_THREADS
from pertscale.evaluation.shared_control import Controls
from pertscale.evaluation.target_genes import Targets
from pertscale.execution.clients import ClientLike, memory_limit, use_client
from pertscale.execution.memory import AUTO, PROCESS_BYTES, machine_limit
from pertscale.execution.resources import Resources
from pertscale.execution.runner import run
from pertscale.io.ingestion import forecast as ingest_forecast
from pertscale.io.ingestion.forecast import IngestForecast
from pertscale.io.store.layout import CHUNK_GENES, is_store
from pertscale.schema import (
    COUNTS,
    GENE,
    LOG1P_1E4,
    MATRIX,
    REPLICATES,
    REPORT_FILE,
    SETTINGS,
    TASKS,
    Setting,
    Task,
)
from pertscale.screen import Screen, open_screen
from pertscale.splits import Split
from pertscale.stats.differential.forecast import LabelForecast, forecast_rank_sum
from pertscale.stats.differential.options import FoldChange, RankSumOptions, Test
from pertscale.stats.differential.rank_sum import RankSumRun, prepare_run
from pertscale.stats.differential.table_parts import PART_PAIRS
from pertscale.stats.differential.tile_plan import gene_densities
from pertscale.stats.differential.timing import LabelRates, ProbeCells, probe_labels, rates_of
from pertscale.storage.files import size_of
from pertscale.storage.locations import Remote, locate
from pertscale.storage.publish import working_folder

#: Bytes of a scored pair of profiles while a method is scored: six copies of it, and masks.
_SCORED_BYTES = 52
#: Bytes of a neighbour of a test perturbation: its row, and its distance.
_NEIGHBOR_BYTES = 12
#: Bytes of a predicted pair on disk, class and three scores or expression, as measured.
_PREDICTION_BYTES = 3
#: Share of the work on units that threads do at the same time, as measured.
_PARALLEL_UNITS = 0.9
#: CPU seconds of a unit's folder, which the probe does not write.
_UNIT_SECONDS = 0.05
#: CPU seconds to curate a pair and to put it into the label matrices.
_MATRIX_SECONDS = 1e-6
#: CPU seconds of tables, figures and the page, and of each score beside it.
_REPORT_SECONDS, _REPORT_UNIT_SECONDS = 3.0, 0.02
#: CPU seconds of an ingest beside its entries.
_INGEST_SECONDS = 1.0
#: Cost of ingesting an entry beside reading it, relative to the cost of testing a value.
_INGEST_COST = 2.0
#: On an undisturbed machine the estimate of time is right within this factor.
UNCERTAINTY = 2
_COLUMNS = [
    "stage",
    "n_tasks",
    "n_done",
    "bytes_read",
    "bytes_on_disk",
    "bytes_written",
    "peak_bytes",
    "seconds",
]


@dataclass(frozen=True, repr=False, kw_only=True)
class BenchmarkPlan:
    """What :func:`plan_benchmark` found. Everything counts what is still to be done.

    Attributes
    ----------
    out : Path
        Output folder of the run.
    screens : DataFrame
        One row per screen: ``screen``, ``cells``, ``genes``, ``perturbations``, ``contexts``.
    stages : DataFrame
        One row per stage (ingest, labels, methods, expression, report): ``n_tasks`` that are left
        and ``n_done``; ``bytes_read`` (of files, of the decoded matrix, of labels or profiles);
        ``bytes_on_disk``, the compressed bytes behind them where that is cheap to know, else
        missing; ``bytes_written``; ``peak_bytes`` of the process that needs most; ``seconds``.
    n_workers, n_threads : int
        Processes, and threads of all of them together.
    memory_limit : int
        Of a worker, or of this process, in bytes.
    memory_budget : int
        What the tasks of one process may hold together, in bytes.
    n_tiles, n_tiles_done : int
        Tiles of all screens.
    tile_bytes : int
        What the largest tile holds in memory.
    scratch_bytes, output_bytes, free_bytes : int
        Disk at `out`: what is there only for a while, what stays, and what is free.
    skipped : DataFrame
        What will not run (``what``, ``context``, ``reason``), as far as names tell.
    slowdown : float
        How many times longer than its CPU time the probe took: above 1, the machine is busy.
    probe_seconds : float
    """

    out: Path
    screens: pd.DataFrame
    stages: pd.DataFrame
    n_workers: int
    n_threads: int
    memory_limit: int
    memory_budget: int
    n_tiles: int
    n_tiles_done: int
    tile_bytes: int
    scratch_bytes: int
    output_bytes: int
    free_bytes: int
    skipped: pd.DataFrame
    slowdown: float
    probe_seconds: float

    @property
    def n_cells(self) -> int:
        """Cells of all screens."""
        return int(self.screens["cells"].sum())

    @property
    def n_genes(self) -> int:
        """Genes of the screen that has most."""
        return int(self.screens["genes"].max())

    @property
    def n_perturbations(self) -> int:
        """Perturbations of all contexts of all screens."""
        return int(self.screens["perturbations"].sum())

    @property
    def contexts(self) -> tuple[str, ...]:
        """Contexts of all screens."""
        return tuple(c for mine in self.screens["contexts"] for c in mine.split(", "))

    @property
    def n_tasks(self) -> int:
        """Tasks that are left, of all stages."""
        return int(self.stages["n_tasks"].sum())

    @property
    def bytes_read(self) -> int:
        """Bytes that all stages read."""
        return int(self.stages["bytes_read"].sum())

    @property
    def disk_bytes(self) -> int:
        """Free disk that the run needs at `out`."""
        return self.scratch_bytes + self.output_bytes

    @property
    def peak_bytes(self) -> int:
        """Memory of the process that needs most."""
        return int(self.stages["peak_bytes"].max())

    @property
    def seconds(self) -> float:
        """Estimated wall seconds."""
        return float(self.stages["seconds"].sum())

    def __repr__(self) -> str:
        return "\n".join([self._head(), *self._lines(), "", self._shown().to_string(index=False)])

    def _repr_html_(self) -> str:
        lines = "<br>".join(map(html.escape, self._lines()))
        table = self._shown().to_html(index=False, escape=True)
        return f"<div><b>{html.escape(self._head())}</b><br>{lines}{table}</div>"

    def _head(self) -> str:
        if not self.n_tasks:
            return f"<BenchmarkPlan {self.out}: all is done, nothing is left>"
        return f"<BenchmarkPlan {self.out}: about {duration(self.seconds)}>"

    def _lines(self) -> list[str]:
        lines = [
            f"{one.screen}: {one.cells:,} cells x {one.genes:,} genes, {one.perturbations:,} "
            f"perturbations in {one.contexts}"
            for one in self.screens.itertuples()
        ]
        on = "this process" if self.n_workers == 0 else f"{self.n_workers} workers"
        lines += [
            f"on {on} with {self.n_threads} threads; limit {n_bytes(self.memory_limit)}, "
            f"of which tasks hold {n_bytes(self.memory_budget)} at most",
            f"tiles: {self.n_tiles - self.n_tiles_done} of {self.n_tiles} left, "
            f"{n_bytes(self.tile_bytes)} each at most",
            f"disk: {n_bytes(self.output_bytes)} stay, {n_bytes(self.scratch_bytes)} for "
            f"a while; {n_bytes(self.free_bytes)} are free",
        ]
        if self.n_tasks:
            lines.append(
                f"time: about {duration(self.seconds)}, within a factor of {UNCERTAINTY} either "
                "way; waiting in queues, and predictions and models of your own, are not counted"
            )
        if self.slowdown > 1.5:
            lines.append(
                f"the machine is busy: the probe took {self.slowdown:.1f} times its CPU time, and "
                "the estimate takes that to stay so; undisturbed it would be about "
                f"{duration(self.seconds / self.slowdown)}"
            )
        return lines

    def _shown(self) -> pd.DataFrame:
        shown = self.stages.copy()
        for name in ("bytes_read", "bytes_on_disk", "bytes_written", "peak_bytes"):
            shown[name] = [n_bytes(n) if n == n else "" for n in self.stages[name]]
        shown["seconds"] = [f"{s:.0f}" if s >= 10 else f"{s:.1f}" for s in shown["seconds"]]
        return shown.rename(
            columns={
                "n_tasks": "left",
                "n_done": "done",
                "bytes_read": "read",
                "bytes_on_disk": "on disk",
                "bytes_written": "write",
                "peak_bytes": "memory",
            }
        )


@checked
def plan_benchmark(
    store: str | os.PathLike[str] | Screen | Sequence[str | os.PathLike[str] | Screen],
    *,
    out: str | os.PathLike[str] | None = None,
    embedding: str | os.PathLike[str] | Embedding | None = None,
    split: str | os.PathLike[str] | Split | None = None,
    tasks: Sequence[Task] = TASKS,
    methods: Sequence[str] | None = None,
    settings: Sequence[Setting] = SETTINGS,
    test_fraction: float = 0.25,
    seed: int | Sequence[int] | None = None,
    gene_disjoint: bool = False,
    threshold: Rule = "match_rate",
    exclude_test_perturbations: bool = True,
    aliases: Any = None,
    targets: Targets = "exclude",
    controls: Controls = "split",
    intervals: bool = True,
    cluster: Cluster = "targets",
    reference: str | None = None,
    replicates: int = REPLICATES,
    min_knockdown: float | None = None,
    test: Test = "mannwhitney",
    fdr: float = 0.01,
    fold_change: FoldChange = "geometric",
    min_cells: int = 2,
    memory: str | int = AUTO,
    client: ClientLike = None,
    quiet: bool = False,
) -> BenchmarkPlan:
    """Forecast what :func:`pertscale.run_benchmark` would do with these arguments; write nothing.

    Names and groups of the screens are read, a few chunks of each column of the matrix, and a small
    tile that is tested to see how fast that goes: on one of the client's workers where there is
    one. Methods are timed on drawn labels. This takes some seconds for a screen of any size.

    Parameters
    ----------
    store, out, embedding, split, tasks, methods, settings, test_fraction, seed, gene_disjoint
        As of :func:`pertscale.run_benchmark`.
    threshold, exclude_test_perturbations, aliases, targets, controls
        As of :func:`pertscale.run_benchmark`.
    intervals, cluster, reference, replicates, min_knockdown
        As of :func:`pertscale.run_benchmark`.
    test, fdr, fold_change, min_cells
        As of :func:`pertscale.stats.rank_sum`.
    memory, client
        As of :func:`pertscale.run_benchmark`.
    quiet : bool
        Print nothing meanwhile.

    Returns
    -------
    BenchmarkPlan

    Raises
    ------
    MemoryBudgetError
        If a process can't hold the smallest tile; the message names a setting that would do.
    StorageError
        If the disk can't hold the output.
    ArgumentError, InputError
        As of :func:`pertscale.run_benchmark`.

    Examples
    --------
    >>> methods = ["majority_vote", "knn_10"]
    >>> plan = ps.plan_benchmark("k562.zarr", tasks=["within"], methods=methods, quiet=True)
    >>> plan.stages["stage"].to_list()
    ['labels', 'methods', 'expression', 'report']
    """
    started = time.perf_counter()
    asked = read_options(
        {},
        (),
        embedding=embedding,
        split=split,
        tasks=tasks,
        methods=methods,
        settings=settings,
        test_fraction=test_fraction,
        seed=seed,
        gene_disjoint=gene_disjoint,
        threshold=threshold,
        exclude_test_perturbations=exclude_test_perturbations,
        aliases=aliases,
        targets=targets,
        controls=controls,
        intervals=intervals,
        cluster=cluster,
        reference=reference,
        replicates=replicates,
        min_knockdown=min_knockdown,
    )
    options = RankSumOptions(test=test, fdr=fdr, fold_change=fold_change, min_cells=min_cells)
    output, stores = locate_stores(store, out)
    folder = working_folder(output, LAYOUT)
    with use_client(client, quiet=quiet) as resolved:
        resources = Resources.available(memory, resolved)
        todo = [
            _Todo.of(s.store, folder / s.folder, options, replicates, resources) for s in stores
        ]
        classes, profiles, skipped = expected_units([one.job for one in todo], folder, asked)
        units = _Units(classes, profiles, any(one.left for one in todo), folder)
        free = shutil.disk_usage(_existing(folder)).free
        _check_disk(todo, units, folder, free)
        say("timing a small part of the work", quiet=quiet)
        label_rates = [one.rates(partial(_call, resolved)) for one in todo]
        unit_rates = units.rates(partial(_call, resolved), asked)
        outlooks = [one.look(resources, r) for one, r in zip(todo, label_rates, strict=True)]
        slow = [r.slowdown for r in (*label_rates, unit_rates) if r is not None]
        slowdown = max(slow, default=1.0)
        limit = memory_limit(resolved) or machine_limit()
        n_workers = 0 if resolved is None else len(resolved.nthreads())
        stages = _stages(todo, outlooks, label_rates, units, unit_rates, resources, slowdown)
    n_tiles = sum(len(one.plan.tiles) for one in outlooks)
    return BenchmarkPlan(
        out=folder,
        screens=pd.DataFrame([one.row() for one in todo]),
        stages=stages,
        n_workers=n_workers,
        n_threads=resources.n_threads,
        memory_limit=limit,
        memory_budget=resources.memory,
        n_tiles=n_tiles,
        n_tiles_done=n_tiles - sum(len(one.tiles) for one in outlooks),
        tile_bytes=max(one.plan.tile_bytes for one in outlooks),
        scratch_bytes=sum(one.scratch_bytes for one in todo),
        output_bytes=sum(one.bytes_written for one in todo) + units.bytes_written,
        free_bytes=free,
        skipped=pd.DataFrame(skipped, columns=["what", "context", "reason"]),
        slowdown=slowdown,
        probe_seconds=time.perf_counter() - started,
    )


# --- screens --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Todo:
    """What is to be done of one screen: its ingest, if it is not a store yet, and its labels."""

    name: str
    job: RankSumRun
    ingest: IngestForecast | None
    densities: tuple[float, ...]
    labels: LabelForecast

    @classmethod
    def of(
        cls,
        store: Any,
        folder: Path,
        options: RankSumOptions,
        replicates: int,
        resources: Resources,
    ) -> _Todo:
        found, screen = None, store
        where = locate(store.path if isinstance(store, Screen) else store)
        name = where.name
        if not isinstance(store, Screen) and not isinstance(where, Remote) and not is_store(store):
            inside, _, _, done = ingested(store, folder)
            if not done:
                found = ingest_forecast.forecast_ingest(
                    store, inside, memory=resources.memory, parallel=resources.n_parallel
                )
            screen = inside if found is None else _screen_to_be(inside, found)
        job = prepare_run(open_screen(screen), folder, options, replicates=replicates)
        if found is not None:
            densities = [found.density] * -(-job.screen.n_genes // CHUNK_GENES)
        else:
            densities = gene_densities(job.screen)
        return cls(
            name, job, found, tuple(densities), forecast_rank_sum(job, resources, densities, None)
        )

    @property
    def left(self) -> bool:
        return not self.labels.finished

    @property
    def scratch_bytes(self) -> int:
        return max(
            self.labels.scratch_bytes, 0 if self.ingest is None else self.ingest.scratch_bytes
        )

    @property
    def bytes_written(self) -> int:
        return self.labels.bytes_written + (0 if self.ingest is None else self.ingest.bytes_written)

    def rates(self, call: Callable[..., Any]) -> LabelRates | None:
        """Time a tile, unless there is nothing to do."""
        if not self.left:
            return None
        if self.ingest is not None:
            return _rates_of_source(self.ingest, self.job)
        middle = int(np.argsort(self.densities)[len(self.densities) // 2])
        rates: LabelRates = call(
            probe_labels, self.job.screen.path, middle, self.job.options.kernel
        )
        return rates

    def look(self, resources: Resources, rates: LabelRates | None) -> LabelForecast:
        return forecast_rank_sum(self.job, resources, self.densities, rates)

    def row(self) -> dict[str, Any]:
        screen = self.job.screen
        n = int((~screen.groups["is_control"]).sum())
        return {
            "screen": self.name,
            "cells": screen.n_cells,
            "genes": screen.n_genes,
            "perturbations": n,
            "contexts": ", ".join(screen.contexts),
        }


@dataclass(frozen=True, eq=False, repr=False)
class _ScreenToBe(Screen):
    """A screen that is not ingested yet: names and groups."""

    table: pd.DataFrame

    @property
    def var(self) -> pd.DataFrame:
        return self.table


def _screen_to_be(store: Path, found: IngestForecast) -> Screen:
    """Return the screen that an ingest will make, without its matrix."""
    info = {
        "dtype": found.dtype.name,
        "scale": COUNTS if found.is_counts else LOG1P_1E4,
        "fingerprint": "",
        "schema_version": 0,
    }
    var = found.plan.var
    genes = pd.Index(var.index.astype(str), name=GENE)
    return _ScreenToBe(str(store), genes, found.plan.groups.reset_index(drop=True), info, var)


def _rates_of_source(found: IngestForecast, job: RankSumRun) -> LabelRates:
    """Time the test of cells of the source, as if the first tenth were controls."""
    values = ingest_forecast.dense_cells(found.sample, 64).astype(found.dtype)
    n = values.shape[1]
    repeat = -(-4096 // n)
    # totals of copies of a cell differ, so that the copies do not tie
    totals = np.random.default_rng(0).uniform(5e3, 2e4, n * repeat)
    values = np.tile(values, (1, repeat))
    group = max(2, int(job.screen.group_sizes.median()))
    n_control = max(2, values.shape[1] // 10)
    bounds = np.append(np.arange(n_control, values.shape[1] - 1, group), values.shape[1])
    watch = Stopwatch()
    packed = blosc.compress(values, b"lz4", 5, blosc.BITSHUFFLE)
    per_byte = watch.time(partial(blosc.decompress, packed), repeat=2) / values.nbytes
    cells = ProbeCells(values, totals, bounds.astype(np.int64), found.is_counts)
    return rates_of(cells, job.screen.n_genes, job.options.kernel, per_byte, watch)


def _call(client: Any, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function on one of the client's workers, or here."""
    if client is None:
        return function(*arguments)
    probe = _Probe(partial(function, *arguments))
    return run(_Probe.time, [probe], label="probe", client=client, quiet=True)[0]


@dataclass(frozen=True)
class _Probe:
    """A small part of the work, to be timed where the work will be done."""

    call: Callable[[], Any]

    def time(self) -> Any:
        """Run the probe."""
        return self.call()

    def describe(self) -> str:
        """Name the probe in messages."""
        return "a small part of the work, which is timed"


# --- units ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Units:
    """The units of classes and of expression, and the report."""

    classes: list[ExpectedUnit]
    expression: list[ExpectedUnit]
    labels_left: bool
    folder: Path

    @property
    def report_left(self) -> bool:
        missing = not (self.folder / REPORT_FILE).exists()
        return missing or self.labels_left or any(not u.done for u in self._all)

    @property
    def _all(self) -> list[ExpectedUnit]:
        return [*self.classes, *self.expression]

    @property
    def bytes_written(self) -> int:
        return _written(self.classes) + _written(self.expression)

    def rates(self, call: Callable[..., Any], asked: BenchmarkOptions) -> UnitRates | None:
        """Time the methods, unless there is nothing to do."""
        left = [unit for unit in self._all if not unit.done]
        if not left:
            return None
        names = {u.method for u in left if u.method} & {*asked.methods, *asked.models}
        if any(not u.method for u in left):
            names |= set(asked.models)
        dim = TRAINING_DIM if asked.embedding is None else asked.embedding.dim
        rates: UnitRates = call(probe_units, tuple(sorted(names)), dim)
        return rates


def _written(units: Sequence[ExpectedUnit]) -> int:
    left = [unit for unit in units if not unit.done]
    return sum(
        u.n_test * u.n_genes * _PREDICTION_BYTES * (1 if u.method else len(EXPRESSION_MODELS))
        for u in left
    )


# --- stages ---------------------------------------------------------------------------------------


def _stages(
    todo: Sequence[_Todo],
    outlooks: Sequence[LabelForecast],
    label_rates: Sequence[LabelRates | None],
    units: _Units,
    unit_rates: UnitRates | None,
    resources: Resources,
    slowdown: float,
) -> pd.DataFrame:
    """Assemble the table of stages."""
    rows = []
    ingests = [
        (one.ingest, rates)
        for one, rates in zip(todo, label_rates, strict=True)
        if one.ingest is not None and rates is not None
    ]
    threads = resources.n_threads
    if ingests:
        rows.append(_ingest_row(ingests, resources, slowdown))
    rows.append(_label_row(todo, outlooks, resources, slowdown))
    n_pairs = sum(one.n_pairs for one in outlooks)
    together = 1 + _PARALLEL_UNITS * (threads - 1)
    for stage, mine in (("methods", units.classes), ("expression", units.expression)):
        seconds = sum(_seconds(u, unit_rates) for u in mine if not u.done) / together
        if stage == "methods" and seconds:
            seconds += n_pairs * _MATRIX_SECONDS
        rows.append(_unit_row(stage, mine, seconds * slowdown, resources))
    n_left = int(units.report_left)
    n_units = len(units.classes) + len(units.expression)
    report = n_left * (_REPORT_SECONDS + _REPORT_UNIT_SECONDS * n_units) * slowdown
    rows.append(("report", n_left, 1 - n_left, 0, np.nan, 0, n_left * PROCESS_BYTES, report))
    return pd.DataFrame(rows, columns=_COLUMNS)


def _ingest_row(
    ingests: Sequence[tuple[IngestForecast, LabelRates]], resources: Resources, slowdown: float
) -> tuple[Any, ...]:
    seconds = sum(
        _INGEST_SECONDS + one.read_seconds + one.n_entries * rates.per_value * _INGEST_COST
        for one, rates in ingests
    )
    bytes_read = sum(one.bytes_read for one, _ in ingests)
    return (
        "ingest",
        sum(len(one.tasks.to_sort) + len(one.tasks.to_write) for one, _ in ingests),
        0,
        bytes_read,
        bytes_read,
        sum(one.bytes_written for one, _ in ingests),
        PROCESS_BYTES + resources.memory,
        seconds * slowdown / resources.n_threads,
    )


def _label_row(
    todo: Sequence[_Todo], outlooks: Sequence[LabelForecast], resources: Resources, slowdown: float
) -> tuple[Any, ...]:
    on_disk = 0.0
    for one, outlook in zip(todo, outlooks, strict=True):
        itemsize = np.dtype(one.job.screen.info["dtype"]).itemsize
        whole = one.job.screen.n_cells * one.job.screen.n_genes * itemsize
        size = (
            one.ingest.bytes_written if one.ingest else size_of(Path(one.job.screen.path) / MATRIX)
        )
        on_disk += size * min(1.0, outlook.bytes_read / max(1, whole))
    n_left = sum(len(one.tiles) + one.n_parts for one in outlooks)
    peak = PROCESS_BYTES + max(one.peak_bytes for one in outlooks) if n_left else 0
    seconds = sum(one.seconds for one in outlooks)
    n_done = sum(
        len(o.plan.tiles) - len(o.tiles) + (o.finished * -(-o.n_pairs // PART_PAIRS))
        for o in outlooks
    )
    return (
        "labels",
        n_left,
        n_done,
        sum(one.bytes_read for one in outlooks),
        on_disk,
        sum(one.bytes_written for one in outlooks),
        peak,
        seconds * slowdown / resources.n_threads,
    )


def _unit_row(
    stage: str, units: Sequence[ExpectedUnit], seconds: float, resources: Resources
) -> tuple[Any, ...]:
    left = [unit for unit in units if not unit.done]
    label_bytes = sum(u.n_perturbations * u.n_genes for u in left)
    largest = sorted((_unit_bytes(u) for u in left), reverse=True)[: resources.n_parallel]
    peak = PROCESS_BYTES + min(sum(largest), max(largest[0], resources.memory)) if left else 0
    read = label_bytes if stage == "methods" else 8 * label_bytes
    return stage, len(left), len(units) - len(left), read, np.nan, _written(left), peak, seconds


def _unit_bytes(unit: ExpectedUnit) -> int:
    """Memory of a unit, about."""
    pairs = unit.n_perturbations * unit.n_genes
    test = unit.n_test * unit.n_genes
    if not unit.method:  # profiles in float64, predictions of all models
        scored = unit.n_test * min(unit.n_genes, N_GENES)
        return 8 * pairs + 8 * len(EXPRESSION_MODELS) * test + _SCORED_BYTES * scored
    method = METHODS.get(unit.method)
    neighbors = 0
    if method is not None and method.needs_gaps:  # all training perturbations, in their order
        neighbors = _NEIGHBOR_BYTES * unit.n_test * (unit.n_perturbations - unit.n_test)
    return min(pairs, BAND_BYTES) + pairs + HELD_PER_PAIR * min(test, STRIP_PAIRS) + neighbors


def _seconds(unit: ExpectedUnit, rates: UnitRates | None) -> float:
    """Seconds of a unit; of a method that is not among the probed ones those of the median.

    CPU seconds, but where it runs in threads.
    """
    if rates is None:
        return 0.0
    if not unit.method:
        rate = rates.expression
        known = [] if rate is None else [rate]
    elif unit.method in rates.methods:
        known = [rates.methods[unit.method]]
    else:
        known = list(rates.methods.values())
    found = [rate.seconds(unit.n_perturbations, unit.n_genes) for rate in known]
    comparing = unit.n_compared * rates.per_compared / N_THREADS
    return _UNIT_SECONDS + comparing + (float(np.median(found)) if found else 0.0)


# --- disk -----------------------------------------------------------------------------------------


def _existing(folder: Path) -> Path:
    """Return the nearest folder that is there."""
    return next(place for place in (folder, *folder.parents) if place.exists())


def _check_disk(todo: Sequence[_Todo], units: _Units, folder: Path, free: int) -> None:
    scratch = sum(one.scratch_bytes for one in todo)
    stays = sum(one.bytes_written for one in todo) + units.bytes_written
    if scratch + stays <= free:
        return
    raise StorageError(
        f"{folder} has {n_bytes(free)} free, but the run needs about "
        f"{n_bytes(scratch + stays)} there: {n_bytes(stays)} of results and "
        f"{n_bytes(scratch)} of scratch; make room, or pass out= (--out) on a disk with "
        f"{n_bytes(scratch + stays)} free"
    )
