"""run_benchmark: the stages in their order, each reused where nothing has changed."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pertscale import embeddings
from pertscale.baselines import EXPRESSION_MODELS, METHODS
from pertscale.benchmark import expression
from pertscale.benchmark.expression import DOUBLE, SINGLE, ExpressionUnit
from pertscale.benchmark.result import BenchmarkResult
from pertscale.benchmark.units import (
    TASK,
    LabelMatrix,
    Unit,
    compute_here,
    is_done,
    label_matrix,
    read_scores,
    run_unit,
    slug,
)
from pertscale.conditions import target_group, targets
from pertscale.embeddings import Embedding
from pertscale.errors import ArgumentError, InputError, NotFoundError
from pertscale.io.atomic import read_json, remove, write_json
from pertscale.io.ingestion import ingest
from pertscale.io.store import is_store
from pertscale.io.tables import declared_frame, write_table
from pertscale.progress import Progress, say
from pertscale.report import write_report
from pertscale.runner import ClientLike, use_client
from pertscale.schema import (
    CONTROL,
    DROP_COLUMNS,
    DROPS_FILE,
    INTERACTION_COLUMNS,
    INTERACTIONS_FILE,
    MANIFEST_FILE,
    PERTURBATION,
    PREDICTIONS_DIR,
    SCHEMA_VERSION,
    SCORES_FILE,
    SKIPPED_COLUMNS,
    SKIPPED_FILE,
    SPLITS_DIR,
    TIMING_COLUMNS,
    TIMINGS_FILE,
)
from pertscale.screen import Screen, open_screen
from pertscale.splits import Split, doubles_split, holdout
from pertscale.stats.curation import Curation, curate
from pertscale.stats.interactions import Interactions, complete_doubles, find_interactions
from pertscale.stats.labels import LabelTable
from pertscale.stats.pseudobulk import read_pseudobulk
from pertscale.stats.ranksum import rank_sum

SETTINGS = ("full", "full_without_target", "curated")
#: Classes within a context; expression of held-out singles and doubles; genetic interactions.
TASKS = (TASK, SINGLE, DOUBLE, "interactions")
#: Principal components of the embedding that is learned from the training part (SPEC H4).
TRAINING_DIM = 10
#: Scratch below the output folder that later calls reuse.
WORK_DIR = ".work"


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
    how = _Splitting(_read_split(split), tuple(seeds), test_fraction)
    log = _Log(quiet=quiet)
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
        plan = _Plan(
            folder, screen, labels, given,
            [m for m in METHODS if methods is None or m in methods],
            [m for m in EXPRESSION_MODELS if methods is None or m in methods],
            log,
        )  # fmt: skip
        for context in labels.contexts:
            _plan_context(plan, context, tasks, settings, how)
        with compute_here(resolved):
            _run_units(plan, quiet)
            _run_expression(plan, tasks)
    _write_tables(plan)
    options = {
        "store": Path(screen.path).name,
        "embedding": None if given is None else given.name,
        "tasks": list(tasks),
        "methods": [*plan.methods, *plan.models],
        "settings": list(settings),
        **how.as_dict(),
        **labels.options,
    }
    write_json(folder / MANIFEST_FILE, _manifest(plan, options))
    return _report(folder, screen, log)


def _report(folder: Path, screen: Screen, log: _Log) -> BenchmarkResult:
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


@dataclass(frozen=True)
class _Splitting:
    """How perturbations are held out: by a given split, or by drawing one per seed."""

    given: Split | None
    seeds: tuple[int, ...]
    test_fraction: float

    def splits(self, names: Sequence[str], groups: dict[str, str]) -> list[Split]:
        if self.given is not None:
            return [self.given.restrict(names)]
        mine = {name: groups[name] for name in names}
        return [
            holdout(names, test_fraction=self.test_fraction, seed=seed, groups=mine)
            for seed in self.seeds
        ]

    def as_dict(self) -> dict[str, Any]:
        if self.given is not None:
            return {"split": self.given.name, "split_hash": self.given.hash}
        return {"seeds": list(self.seeds), "test_fraction": self.test_fraction}


# --- the record of a run ------------------------------------------------------------------


@dataclass
class _Stage:
    reused: bool = False


@dataclass
class _Log:
    """Timings and what was skipped, in the order in which it happened."""

    quiet: bool
    timings: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[dict[str, Any]] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str, unit: str = "") -> Iterator[_Stage]:
        started = time.perf_counter()
        stage = _Stage()
        yield stage
        seconds = time.perf_counter() - started
        self.add(name, unit, seconds, reused=stage.reused)

    def add(self, name: str, unit: str, seconds: float, *, reused: bool = False) -> None:
        self.timings.append({"stage": name, "unit": unit, "seconds": seconds, "reused": reused})

    def skip(self, what: str, context: str, reason: str) -> None:
        self.skipped.append({"what": what, "context": context, "reason": reason})
        say(f"skipped {what} ({context}): {reason}", quiet=self.quiet)

    @staticmethod
    def before(folder: Path) -> str | None:
        """Key of the labels that the last finished run used."""
        manifest = folder / MANIFEST_FILE
        return read_json(manifest)["labels_key"] if manifest.exists() else None


@dataclass
class _Plan:
    """What is to be run, collected context by context."""

    folder: Path
    screen: Screen
    labels: LabelTable
    embedding: Embedding | None
    methods: list[str]
    models: list[str]
    log: _Log
    units: list[Unit] = field(default_factory=list)
    expression: list[ExpressionUnit] = field(default_factory=list)
    interactions: dict[str, Interactions] = field(default_factory=dict)
    failed: list[Unit] = field(default_factory=list)
    matrices: dict[tuple[str, str], LabelMatrix] = field(default_factory=dict)
    vectors: dict[tuple[str, str], Embedding] = field(default_factory=dict)
    splits: dict[str, dict[str, str]] = field(default_factory=dict)


def _screen(store: Any, folder: Path, memory: str | int, client: Any, log: _Log) -> Screen:
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


# --- planning one context -----------------------------------------------------------------


def _plan_context(
    plan: _Plan, context: str, tasks: Sequence[str], settings: Sequence[str], how: _Splitting
) -> None:
    """Split the perturbations of a context and list what to fit and score."""
    table = plan.labels.perturbations
    mine = table[(table["context"] == context) & table["tested"]]
    groups = target_group(plan.screen.perturbations, set(plan.screen.genes))
    try:
        splits = how.splits(list(mine[PERTURBATION]), groups)
    except InputError as error:
        plan.log.skip("all methods", context, str(error))
        return
    if TASK in tasks:
        _plan_classes(plan, context, mine, splits, settings, groups)
    if plan.models:
        _plan_expression(plan, context, list(mine[PERTURBATION]), splits, tasks, how)


def _plan_classes(
    plan: _Plan,
    context: str,
    mine: pd.DataFrame,
    splits: Sequence[Split],
    settings: Sequence[str],
    groups: dict[str, str],
) -> None:
    """List the classifiers' units; `mine` are the tested perturbations of the context."""
    if not (mine["n_up"] + mine["n_down"]).any():
        plan.log.skip(
            "curated", context, "no gene is differentially expressed in any perturbation; scores "
            "of the full setting only say how often a method predicts otherwise",
        )  # fmt: skip
    full = tuple(s for s in settings if s.startswith("full"))
    tables = {"full": (plan.labels, full)} if full else {}
    if "curated" in settings and (mine["n_up"] + mine["n_down"]).any():
        try:
            tables["curated"] = (
                curate(plan.labels, context=context, recipe=Curation()),
                ("curated",),
            )
        except InputError as error:
            plan.log.skip("curated", context, str(error))
    for split in splits:
        _write_split(plan, context, split)
        for kind, (labels, wanted) in tables.items():
            matrix = label_matrix(labels, context, plan.folder / WORK_DIR / kind)
            plan.matrices[context, kind] = matrix
            try:
                usable = split.restrict(matrix.perturbations)
            except InputError as error:
                plan.log.skip(f"{kind}, {split.name}", context, str(error))
                continue
            _plan_units(plan, context, kind, usable, split, wanted, groups)


def _plan_expression(
    plan: _Plan,
    context: str,
    names: list[str],
    splits: Sequence[Split],
    tasks: Sequence[str],
    how: _Splitting,
) -> None:
    """List the units of expression: the same split for singles, one of its own for doubles."""
    if SINGLE in tasks:
        for split in splits:
            _plan_expression_unit(plan, context, SINGLE, split, expression.single_unit)
    if DOUBLE not in tasks:
        return
    try:
        doubles = splits if how.given else [doubles_split(names, seed=s) for s in how.seeds]
    except InputError as error:
        plan.log.skip(DOUBLE, context, str(error))
        return
    for split in doubles:
        _plan_expression_unit(plan, context, DOUBLE, split, expression.double_unit)


def _plan_expression_unit(
    plan: _Plan,
    context: str,
    task: str,
    split: Split,
    make: Callable[[str, Split, Sequence[str]], ExpressionUnit],
) -> None:
    try:
        unit = make(context, split, plan.models)
    except InputError as error:
        plan.log.skip(f"{task}, {split.name}", context, str(error))
        return
    _write_split(plan, context, split)
    plan.expression.append(unit)


def _write_split(plan: _Plan, context: str, split: Split) -> None:
    file = f"{slug(context)}-{split.name}.json"
    split.write(plan.folder / SPLITS_DIR / file)
    plan.splits.setdefault(context, {})[split.name] = file


def _plan_units(
    plan: _Plan,
    context: str,
    kind: str,
    usable: Split,
    split: Split,
    settings: tuple[str, ...],
    groups: dict[str, str],
) -> None:
    embedding = _embedding_for(plan, context, split)
    for name in plan.methods:
        key = ""
        if METHODS[name].needs_embedding:
            if isinstance(embedding, str):
                plan.log.skip(f"{name} ({kind}, {split.name})", context, embedding)
                continue
            covered = np.isfinite(_vectors(plan, embedding, usable.train)).all(axis=1)
            if not covered.any():
                reason = f"embedding {embedding.name!r} has none of the training perturbations"
                plan.log.skip(f"{name} ({kind}, {split.name})", context, reason)
                continue
            key = embedding.hash
        plan.units.append(
            Unit(context, kind, usable, name, settings, tuple(groups[n] for n in usable.train), key)
        )


def _embedding_for(plan: _Plan, context: str, split: Split) -> Embedding | str:
    """Return the vectors for a split, or why there are none."""
    if plan.embedding is not None:
        plan.vectors[context, split.name] = plan.embedding
        return plan.embedding
    if (context, split.name) not in plan.vectors:
        profiles = read_pseudobulk(plan.folder, context=context)["mean_log1p"]
        mine = np.isin(profiles[PERTURBATION].values.astype(str), [*split.train, CONTROL])
        dim = min(TRAINING_DIM, int(mine.sum()) - 1, len(plan.labels.genes) - 1)
        if dim < 1:
            return "too few training perturbations to learn an embedding from; pass embedding="
        learned = embeddings.from_training(
            profiles.isel({PERTURBATION: mine}).values, genes=list(plan.labels.genes), dim=dim
        )
        plan.vectors[context, split.name] = learned
    return plan.vectors[context, split.name]


def _vectors(plan: _Plan, embedding: Embedding, names: Sequence[str]) -> np.ndarray:
    return embedding.normalized().vectors(names, targets=plan.screen.targets)


# --- running ------------------------------------------------------------------------------


def _run_units(plan: _Plan, quiet: bool) -> None:
    with Progress("methods", total=len(plan.units), quiet=quiet) as progress:
        for unit in plan.units:
            matrix = plan.matrices[unit.context, unit.labels]
            with plan.log.stage("method", unit.title) as stage:
                stage.reused = is_done(plan.folder, unit, matrix)
                if not stage.reused:
                    _run_unit(plan, unit, matrix)
            progress.advance()
    plan.units = [unit for unit in plan.units if unit not in plan.failed]


def _run_unit(plan: _Plan, unit: Unit, matrix: LabelMatrix) -> None:
    names = [*unit.split.train, *unit.split.test]
    vectors = np.empty((len(names), 0))
    if unit.embedding:
        vectors = _vectors(plan, plan.vectors[unit.context, unit.split.name], names)
    try:
        run_unit(plan.folder, unit, matrix, vectors, plan.screen.targets)
    except (ArgumentError, InputError) as error:  # too few training perturbations for a method
        plan.log.skip(f"{unit.method} ({unit.labels}, {unit.split.name})", unit.context, str(error))
        plan.failed.append(unit)


def _run_expression(plan: _Plan, tasks: Sequence[str]) -> None:
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


def _call_interactions(plan: _Plan, context: str) -> None:
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


def _write_tables(plan: _Plan) -> None:
    """Join the scores of the units, write what was left out, and clear what is no longer asked."""
    wanted = {u.folder for u in plan.units} | {u.folder for u in plan.expression}
    for marker in sorted((plan.folder / PREDICTIONS_DIR).glob("*/*/*/*/unit.json")):
        if marker.parent.relative_to(plan.folder).as_posix() not in wanted:
            remove(marker.parent)
            for parent in list(marker.parents)[1:4]:  # split, labels, context
                if not any(parent.iterdir()):
                    parent.rmdir()
    files = {file for mine in plan.splits.values() for file in mine.values()}
    for path in (plan.folder / SPLITS_DIR).glob("*.json"):
        if path.name not in files:
            remove(path)
    write_table(plan.folder / SCORES_FILE, _scores(plan))
    write_table(plan.folder / INTERACTIONS_FILE, _interactions(plan))
    write_table(plan.folder / DROPS_FILE, _drops(plan))
    write_table(plan.folder / SKIPPED_FILE, declared_frame(plan.log.skipped, SKIPPED_COLUMNS))


def _scores(plan: _Plan) -> pd.DataFrame:
    """Scores of classes, of expression, and of calls of interactions."""
    parts = [read_scores(plan.folder, plan.units)]
    parts += expression.read_unit_scores(plan.folder, plan.expression)
    parts += [
        expression.score_interactions(plan.folder, unit, plan.interactions[unit.context])
        for unit in plan.expression
        if unit.task == DOUBLE and unit.context in plan.interactions
    ]
    filled = [part for part in parts if len(part)]
    return pd.concat(filled, ignore_index=True) if filled else parts[0]


def _interactions(plan: _Plan) -> pd.DataFrame:
    """All pairs that were judged, context by context."""
    tables = [
        found.table.assign(context=context)[[c.name for c in INTERACTION_COLUMNS]]
        for context, found in plan.interactions.items()
    ]
    if not tables:
        return declared_frame([], INTERACTION_COLUMNS)
    return pd.concat(tables, ignore_index=True)


def _drops(plan: _Plan) -> pd.DataFrame:
    """Cells and genes that ingest left out, and perturbations that were not tested."""
    table = plan.labels.perturbations
    untested = [
        {
            "kind": "perturbation",
            "name": row.perturbation,
            "context": row.context,
            "source": Path(plan.screen.path).name,
            "row": -1,
            "label": row.perturbation,
            "reason": row.reason,
        }
        for row in table[~table["tested"]].itertuples()
    ]
    ingested = plan.screen.drops.to_dict("records")
    return declared_frame([*ingested, *untested], DROP_COLUMNS)


def _manifest(plan: _Plan, options: dict[str, Any]) -> dict[str, Any]:
    packages = ("pertscale", "dask", "distributed", "numpy", "scipy", "pandas", "numba", "zarr")
    return {
        "schema_version": SCHEMA_VERSION,
        "task": TASK,
        "options": options,
        "screen": plan.screen.fingerprint,
        "labels_key": plan.labels.key,
        "embeddings": {
            f"{context} / {split}": {"name": e.name, "hash": e.hash, "provenance": e.provenance}
            for (context, split), e in plan.vectors.items()
        },
        "splits": plan.splits,
        "units": [
            {
                "context": u.context,
                "labels": u.labels,
                "split": u.split.name,
                "split_hash": u.split.hash,
                "method": u.method,
                "folder": u.folder,
                "key": u.key(plan.matrices[u.context, u.labels]),
            }
            for u in plan.units
        ],
        "expression": [
            {
                "context": u.context,
                "task": u.task,
                "split": u.split.name,
                "split_hash": u.split.hash,
                "folder": u.folder,
                "key": u.key(plan.labels.key),
            }
            for u in plan.expression
        ],
        "interactions": {
            context: {
                "null": asdict(found.fit.null),
                "lower": found.lower,
                "upper": found.upper,
                "rule": found.rule,
                "threshold": found.threshold,
                "level": found.level,
                "misfit": found.fit.misfit,
                "notes": list(found.fit.notes),
            }
            for context, found in plan.interactions.items()
        },
        "versions": {"python": platform.python_version()} | {p: version(p) for p in packages},
    }
