"""run_benchmark: the stages in their order, each reused where nothing has changed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pertscale import embeddings
from pertscale.baselines import EXPRESSION_MODELS, METHODS
from pertscale.benchmark import expression
from pertscale.benchmark.log import Log
from pertscale.benchmark.outputs import manifest, write_tables
from pertscale.benchmark.plan import (
    SETTINGS,
    TASKS,
    WORK_DIR,
    Plan,
    Splitting,
    plan_context,
    vectors_of,
)
from pertscale.benchmark.result import BenchmarkResult
from pertscale.benchmark.units import LabelMatrix, Unit, compute_here, is_done, run_unit
from pertscale.conditions import targets
from pertscale.embeddings import Embedding
from pertscale.errors import ArgumentError, InputError, NotFoundError
from pertscale.io.atomic import read_json, write_json
from pertscale.io.ingestion import ingest
from pertscale.io.store import is_store
from pertscale.io.tables import declared_frame, write_table
from pertscale.progress import Progress, say
from pertscale.report import write_report
from pertscale.runner import ClientLike, use_client
from pertscale.schema import MANIFEST_FILE, PERTURBATION, TIMING_COLUMNS, TIMINGS_FILE
from pertscale.screen import Screen, open_screen
from pertscale.splits import Split
from pertscale.stats.interactions import complete_doubles, find_interactions
from pertscale.stats.pseudobulk import read_pseudobulk
from pertscale.stats.ranksum import rank_sum


def run_benchmark(
    store: str | os.PathLike[str] | Screen,
    *,
    out: str | os.PathLike[str] | None = None,
    embedding: str | os.PathLike[str] | Embedding | None = None,
    split: str | os.PathLike[str] | Split | None = None,
    tasks: Sequence[str] = TASKS,
    methods: Sequence[str] | None = None,
    settings: Sequence[str] = SETTINGS,
    test_fraction: float = 0.25,
    seed: int | Sequence[int] = 0,
    test: str = "mannwhitney",
    fdr: float = 0.01,
    fold_change: str = "geometric",
    min_cells: int = 2,
    memory: str | int = "2GB",
    client: ClientLike = None,
    quiet: bool = False,
) -> BenchmarkResult:
    """Label a screen, fit the simple baselines, score them, and report.

    Within each context perturbations are split into training and test; methods are fitted on the
    labels of the training perturbations and scored on those of the test perturbations, on all
    pairs (``full``), on all but the target genes, and on pairs curated as in PerturbQA. Models of
    expression predict the profiles of the held-out singles, and of held-out doubles where there are
    any; where both singles of a double are there, genetic interactions are called.

    Run again with the same arguments, nothing is computed again; with another option, only what
    depends on it; after an interruption, it goes on where it was.

    Parameters
    ----------
    store : path or Screen
        A screen store; or a file that :func:`pertscale.io.ingest` reads, which is then ingested
        into the output folder.
    out : path, optional
        Output folder; by default the store's name with the suffix ``.benchmark``.
    embedding : path or Embedding, optional
        Vectors of genes for the nearest-neighbour methods: any file that
        :func:`pertscale.read_embedding` reads. Without one, genes are embedded by their expression
        over the training perturbations (SPEC H4), split by split.
    split : path or Split, optional
        Who is held out, as a split file or :class:`pertscale.Split`; used in every context. By
        default a share of the perturbations is drawn.
    tasks : sequence of str
        Of ``'within'`` (classes), ``'single'``, ``'double'`` and ``'interactions'``; what the data
        do not allow is skipped, with the reason.
    methods : sequence of str, optional
        Names in :data:`pertscale.baselines.METHODS` and
        :data:`pertscale.baselines.EXPRESSION_MODELS`; all by default.
    settings : sequence of str
        Of ``'full'``, ``'full_without_target'`` and ``'curated'``.
    test_fraction : float
        Share of the perturbations held out (SPEC D1), where `split` is not given.
    seed : int or sequence of int
        Seeds of the splits, one split each, where `split` is not given.
    test, fdr, fold_change, min_cells
        Of :func:`pertscale.stats.rank_sum`.
    memory : str or int
        What the tasks of one process may hold together.
    client : Client, cluster, address or scheduler file, optional
        Where to run; by default Dask's current scheduler.
    quiet : bool
        Show no progress.

    Returns
    -------
    BenchmarkResult

    Raises
    ------
    ArgumentError
        For an unknown method or setting.
    InputError
        For a screen or an embedding that can't be used.
    """
    _check_names("methods", methods or (), [*METHODS, *EXPRESSION_MODELS])
    _check_names("settings", settings, SETTINGS)
    _check_names("tasks", tasks, TASKS)
    seeds = [seed] if isinstance(seed, int) else list(seed)
    source = store.path if isinstance(store, Screen) else os.fspath(store)
    folder = Path(out) if out is not None else Path(source).with_suffix(".benchmark")
    folder = folder.absolute()  # workers may have another working directory
    if not Path(source).exists():
        raise NotFoundError(f"there is no store or file {source}")
    given = _read_embedding(embedding)
    how = Splitting(_read_split(split), tuple(seeds), test_fraction)
    log = Log(quiet=quiet)
    with use_client(client) as resolved:
        folder.mkdir(parents=True, exist_ok=True)
        screen = _screen(store, folder, memory, resolved, log)
        with log.stage("labels") as stage:
            labels = rank_sum(
                screen,
                out=folder,
                test=test,
                fdr=fdr,
                fold_change=fold_change,
                min_cells=min_cells,
                memory=memory,
                client=resolved,
                quiet=quiet,
            )
            stage.reused = labels.key == log.before(folder)
        plan = Plan(
            folder, screen, labels, given,
            [m for m in METHODS if methods is None or m in methods],
            [m for m in EXPRESSION_MODELS if methods is None or m in methods],
            log,
        )  # fmt: skip
        for context in labels.contexts:
            plan_context(plan, context, tasks, settings, how)
        with compute_here(resolved):
            _run_units(plan, quiet)
            _run_expression(plan, tasks)
    write_tables(plan)
    options = {
        "store": Path(screen.path).name,
        "embedding": None if given is None else given.name,
        "tasks": list(tasks),
        "methods": [*plan.methods, *plan.models],
        "settings": list(settings),
        **how.as_dict(),
        **labels.options,
    }
    write_json(folder / MANIFEST_FILE, manifest(plan, options))
    return _report(folder, screen, log)


def _report(folder: Path, screen: Screen, log: Log) -> BenchmarkResult:
    """Write the report, and the times before and after it: it shows those of the other stages."""
    write_table(folder / TIMINGS_FILE, declared_frame(log.timings, TIMING_COLUMNS))
    with log.stage("report"):
        write_report(BenchmarkResult(folder), screen)
    write_table(folder / TIMINGS_FILE, declared_frame(log.timings, TIMING_COLUMNS))
    result = BenchmarkResult(folder)
    say(f"report: {result.report}", quiet=log.quiet)
    return result


def _check_names(what: str, names: Sequence[str], known: Any) -> None:
    import difflib

    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, list(known), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ArgumentError(f"{what} has {name!r}, known are {', '.join(known)}{hint}")


def _read_embedding(embedding: Any) -> Embedding | None:
    if embedding is None or isinstance(embedding, Embedding):
        return embedding
    return embeddings.read(embedding)


def _read_split(split: Any) -> Split | None:
    return split if split is None or isinstance(split, Split) else Split.read(split)


def _screen(store: Any, folder: Path, memory: str | int, client: Any, log: Log) -> Screen:
    """Open the store, or ingest what is not one into the output folder."""
    if isinstance(store, Screen) or is_store(store):
        return open_screen(store)
    inside = folder / "screen.zarr"
    marker = folder / WORK_DIR / "source.json"
    record = _state_of(Path(store))
    with log.stage("ingest") as stage:
        stage.reused = inside.exists() and marker.exists() and read_json(marker) == record
        if not stage.reused:
            say(f"{store} is not a screen store: ingesting it into {inside}", quiet=log.quiet)
            ingest(store, inside, memory=memory, overwrite=True, client=client, quiet=log.quiet)
            write_json(marker, record)
    return open_screen(inside)


def _state_of(source: Path) -> list[list[Any]]:
    """Name, size and time of a source's files: tells whether it has changed since it was read."""
    files = sorted(source.rglob("*")) if source.is_dir() else [source]
    stats = [(f.name, f.stat()) for f in files if f.is_file()]
    return [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]


def _run_units(plan: Plan, quiet: bool) -> None:
    with Progress("methods", total=len(plan.units), quiet=quiet) as progress:
        for unit in plan.units:
            matrix = plan.matrices[unit.context, unit.labels]
            with plan.log.stage("method", unit.title) as stage:
                stage.reused = is_done(plan.folder, unit, matrix)
                if not stage.reused:
                    _run_unit(plan, unit, matrix)
            progress.advance()
    plan.units = [unit for unit in plan.units if unit not in plan.failed]


def _run_unit(plan: Plan, unit: Unit, matrix: LabelMatrix) -> None:
    names = [*unit.split.train, *unit.split.test]
    vectors = np.empty((len(names), 0))
    if unit.embedding:
        vectors = vectors_of(plan, plan.vectors[unit.context, unit.split.name], names)
    try:
        run_unit(plan.folder, unit, matrix, vectors, plan.screen.targets)
    except (ArgumentError, InputError) as error:  # too few training perturbations for a method
        plan.log.skip(f"{unit.method} ({unit.labels}, {unit.split.name})", unit.context, str(error))
        plan.failed.append(unit)


def _run_expression(plan: Plan, tasks: Sequence[str]) -> None:
    """Fit and score the models of expression, then call interactions."""
    for unit in plan.expression:
        with plan.log.stage("expression", unit.title) as stage:
            stage.reused = expression.is_done(plan.folder, unit, plan.labels.key)
            if not stage.reused:
                profiles = read_pseudobulk(plan.folder, context=unit.context)["mean_log1p"]
                seconds = expression.run_unit(plan.folder, unit, profiles, plan.labels.key)
                for model, value in seconds.items():
                    plan.log.add("model", f"{unit.title} / {model}", value)
        record = expression.unit_record(plan.folder, unit)
        for model, reason in record["failed"].items():
            plan.log.skip(f"{model} ({unit.task}, {unit.split.name})", unit.context, reason)
    if "interactions" in tasks:
        for context in plan.labels.contexts:
            _call_interactions(plan, context)


def _call_interactions(plan: Plan, context: str) -> None:
    profiles = read_pseudobulk(plan.folder, context=context)["mean_log1p"]
    names = [str(n) for n in profiles[PERTURBATION].values]
    if not complete_doubles(names):
        n = sum(len(targets(name)) == 2 for name in names)
        reason = f"{n} double perturbations, none with both of its singles; A, B and A+B are needed"
        plan.log.skip("interactions", context, reason)
        return
    with plan.log.stage("interactions", context):
        try:
            plan.interactions[context] = find_interactions(profiles)
        except InputError as error:
            plan.log.skip("interactions", context, str(error))
