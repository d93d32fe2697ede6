"""run_models: every model on every split, each once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from pertscale.arguments import checked
from pertscale.diagnostics.progress import say
from pertscale.errors import ArgumentError, InputError
from pertscale.io.parquet import declared_frame
from pertscale.models.config import TASKS, ModelSpec, read_config
from pertscale.models.process import DONE, finished_run, run_model
from pertscale.models.task import REQUEST_FILE, task_key, write_task
from pertscale.predictions.given_split import check_names, left_out, on_screen, told_in_no_part
from pertscale.predictions.predictions import Predictions, read_predictions
from pertscale.schema import LOG1P_1E4, SINGLE, Column
from pertscale.screen import Screen, open_screen
from pertscale.splits import Split
from pertscale.splits.drawn import check_test_fraction
from pertscale.splits.rule import SplitRule, double_split, single_split
from pertscale.stats.differential.options import RankSumOptions
from pertscale.storage.atomic import read_json, remove, remove_leftovers
from pertscale.storage.folder_names import folder_name, slug
from pertscale.storage.locations import local_path
from pertscale.storage.lock import locked

RUN_COLUMNS = (
    Column("model", "str", "name of the model"),
    Column("context", "str", "context of the cells"),
    Column("task", "str", "'single' or 'double'"),
    Column("split", "str", "name of the split; empty where none could be drawn"),
    Column("status", "str", "that of ModelRun, or 'skipped'"),
    Column("reason", "str", "what is missing, wrong or failed"),
    Column("left_out", "str", "names of the split given that the context lacks, joined by ','"),
    Column("seconds", "float64", "wall time", "s"),
    Column("peak_memory_bytes", "float64", "largest resident memory of a process", "bytes"),
    Column("split_hash", "str", "hash of who is in which part of the split"),
    Column("split_drawn", "str", "how the split was drawn"),
    Column("path", "str", "the predictions, where there are some"),
)
#: Below a split's folder; models' names can't start with a dot. Gone when all models are done.
_TASK_DIR = ".task"


@dataclass(frozen=True, kw_only=True)
class _Unit:
    """A split of a context, or why there is none.

    Attributes
    ----------
    context, task : str
    split : Split, optional
        The perturbations of the task.
    split_hash, split_drawn : str
        Of the split as a benchmark draws it, with the perturbations of all tasks.
    reason : str
        Why there is no split.
    left_out : tuple of str
        Names of a split that was given which the context lacks.
    """

    context: str
    task: str
    split: Split | None = None
    split_hash: str = ""
    split_drawn: str = ""
    reason: str = ""
    left_out: tuple[str, ...] = ()


@checked
def run_models(
    config: str | os.PathLike[str],
    store: str | os.PathLike[str] | Screen,
    *,
    out: str | os.PathLike[str],
    split: str | os.PathLike[str] | Split | None = None,
    seeds: Sequence[int] | None = None,
    test_fraction: float = 0.25,
    min_cells: int = 2,
    context: str | None = None,
    tasks: Sequence[str] = TASKS,
    quiet: bool = False,
) -> pd.DataFrame:
    """Run the models of a file on the splits that :func:`pertscale.run_benchmark` scores.

    Splits are those of a benchmark that is called with the same ``split``, ``seeds``,
    ``test_fraction`` and ``min_cells``; it refuses predictions for other ones.

    One model at a time, each as a subprocess; one that fails does not stop the others. A second
    call runs only models that have no predictions yet, or whose inputs or command have changed. The
    predictions are in ``out/CONTEXT/TASK/SPLIT/MODEL/predictions.parquet``, beside the log and the
    record of the run.

    Parameters
    ----------
    config : path
        A models.toml, as :func:`pertscale.models.read_config` reads it.
    store : path or Screen
        A screen store.
    out : path
        Output folder.
    split : path or Split, optional
        Who is held out. By default a part of the perturbations, and for doubles half of the
        doubles, is drawn, once per seed.
    seeds : sequence of int, optional
        Seeds of the splits; also what the models are asked to use. By default those of
        :func:`pertscale.run_benchmark`: 0, or 0 to 4 where fewer than 40 are held out.
    test_fraction : float
        Share of the perturbations that is held out, where `split` is not given.
    min_cells : int
        Perturbations with fewer cells are neither trained on nor held out.
    context : str, optional
        Only this context; all by default.
    tasks : sequence of str
        Of ``'single'`` and ``'double'``.
    quiet : bool
        Show no progress.

    Returns
    -------
    DataFrame
        One row per model and split: ``model, context, task, split, status, reason, left_out,
        seconds, peak_memory_bytes, split_hash, split_drawn, path``. What could not be run has the
        status ``'skipped'``.

    Raises
    ------
    ArgumentError
        For an unknown task, or an impossible `test_fraction` or `min_cells`.
    InputError
        For a file of models that can't be used, or if the screen lacks more than half of the
        split's names.
    UnknownNameError
        For an unknown context.
    LockedError
        If another run works in the output folder.
    """
    unknown = [task for task in tasks if task not in TASKS]
    if unknown:
        raise ArgumentError(f"tasks has {unknown[0]!r}, known are {', '.join(TASKS)}")
    check_test_fraction(test_fraction)
    testing = RankSumOptions(min_cells=min_cells)
    specs = read_config(config)
    folder = local_path(out, "the folder of runs").absolute()
    screen = open_screen(store)
    given = split if split is None or isinstance(split, Split) else Split.read(split)
    if given is not None:
        check_names(given, [screen], quiet=quiet, listed="column left_out", can_alias=False)
        given = on_screen(given, screen, None)
    rule = SplitRule(given, None if seeds is None else tuple(seeds), test_fraction)
    rows: list[dict[str, Any]] = []
    with locked(folder, quiet=quiet):
        for each in screen.contexts if context is None else (context,):
            for unit in _units(screen, each, tasks, rule, testing.min_cells, quiet):
                mine = [spec for spec in specs.values() if unit.task in spec.tasks]
                rows += _run_unit(screen, unit, mine, folder, quiet)
    return declared_frame(rows, RUN_COLUMNS)


@checked
def predictions_of(runs: pd.DataFrame) -> dict[str, list[Predictions]]:
    """Return what the models of a table predict, for ``run_benchmark(store, predictions=...)``.

    Parameters
    ----------
    runs : DataFrame
        As :func:`run_models` returns it; rows without predictions are left out.
    """
    by_model: dict[str, list[Predictions]] = {}
    known = runs.reindex(columns=runs.columns.union(["split_hash", "split_drawn"]), fill_value="")
    for run in known[known["path"] != ""].itertuples():
        read = read_predictions(run.path, scale=LOG1P_1E4, context=run.context, split=run.split)
        parts = (
            replace(part, split_hash=run.split_hash, split_drawn=run.split_drawn)
            for part in read.parts
        )
        by_model.setdefault(run.model, []).append(replace(read, parts=tuple(parts)))
    return by_model


def _units(
    screen: Screen,
    context: str,
    tasks: Sequence[str],
    rule: SplitRule,
    min_cells: int,
    quiet: bool,
) -> Iterator[_Unit]:
    """Yield the splits as a benchmark plans them, of the perturbations that it tests."""
    names = screen.tested(context, min_cells=min_cells)
    targets = screen.targets
    lacking: list[str] = []
    if rule.given is not None:
        lacking, nowhere = left_out(rule.given, names)
        if nowhere:
            say(told_in_no_part(rule.given, nowhere, len(names), context), quiet=quiet)
    for task in (t for t in TASKS if t in tasks):
        unit = partial(_Unit, context=context, task=task, left_out=tuple(lacking))
        restrict = single_split if task == SINGLE else double_split
        try:
            if task == SINGLE or rule.given is not None:
                splits = rule.splits(names, screen.target_groups)
            else:
                splits = rule.of_doubles(names, targets)
            for split in splits:
                yield unit(
                    split=restrict(split, targets),
                    split_hash=split.hash,
                    split_drawn=rule.in_words(split, min_cells=min_cells),
                )
        except InputError as error:
            yield unit(reason=str(error))


def _run_unit(
    screen: Screen, unit: _Unit, specs: Sequence[ModelSpec], out: Path, quiet: bool
) -> Iterator[dict[str, Any]]:
    """Run the models on a split; the task is written when the first of them needs it."""
    head = {
        "context": unit.context,
        "task": unit.task,
        "split_hash": unit.split_hash,
        "split_drawn": unit.split_drawn,
        "left_out": ",".join(unit.left_out),
    }
    split = unit.split
    if split is None:
        say(f"skipped {unit.task} ({unit.context}): {unit.reason}", quiet=quiet)
        none = {"split": "", "status": "skipped", "reason": unit.reason, "path": ""}
        yield from ({"model": spec.name, **head, **none} for spec in specs)
        return
    folder = out / slug(unit.context) / unit.task / folder_name(split.name)
    key = task_key(screen, split, context=unit.context, seed=split.seed)
    runs = []
    for spec in specs:
        run = finished_run(spec, key, folder / spec.name)
        if run is None:
            title = f"{spec.name} ({unit.context}, {unit.task}, {split.name})"
            say(f"running {title}; it writes {folder / spec.name / 'model.log'}", quiet=quiet)
            task = _task(screen, split, unit.context, folder / _TASK_DIR, key)
            run = run_model(spec, task, folder / spec.name)
            say(f"{run.status} after {run.seconds:.0f} s: {title} {run.reason}", quiet=quiet)
        runs.append(run)
        yield {**head, "split": split.name, **asdict(run), "path": run.path or ""}
    if all(run.status in DONE for run in runs):
        remove(folder / _TASK_DIR)


def _task(screen: Screen, split: Split, context: str, folder: Path, key: str) -> Path:
    """Return the task's folder, written unless it is there with the same content."""
    request = folder / REQUEST_FILE
    if request.exists() and read_json(request)["key"] == key:
        return folder
    remove_leftovers(folder.parent, folder.name)
    return write_task(screen, split, folder, context=context, seed=split.seed)
