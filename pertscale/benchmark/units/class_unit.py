"""One method on one split of one context's labels: predicted, scored, and kept.

A unit is a folder that is renamed into place when it is complete, with the hash of all that it
depends on. A unit whose hash has not changed is not done again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import dask
import dask.array as da
import numpy as np
import pandas as pd
import zarr

from pertscale.baselines.inputs import Predicted
from pertscale.benchmark.units.label_matrix import LabelMatrix, strip_rows
from pertscale.diagnostics.progress import say
from pertscale.errors import ArgumentError, CorruptFileError, InputError, NotFoundError
from pertscale.evaluation import evaluate, evaluate_both, evaluate_per_gene
from pertscale.execution.blas_build import blas_libraries
from pertscale.hashing import digest
from pertscale.io.checksums import FILES, all_sums, faults, told, write_record
from pertscale.io.parquet import read_table, write_table
from pertscale.io.zarr_datasets import Variable, create_dataset
from pertscale.results.unit_files import REMEDY, UNIT_FILE, read_unit
from pertscale.schema import (
    AS_CALLED,
    AT_TRAINING_RATE,
    CLASS,
    CLASS_NAMES,
    GENE,
    MODEL,
    PERTURBATION,
    PREDICTIONS_DIR,
    SCORE_COLUMNS,
    SCORES_FILE,
    WITHOUT_TARGET,
    Label,
)
from pertscale.splits import Split
from pertscale.storage.atomic import atomic_path
from pertscale.storage.folder_names import folder_name, slug
from pertscale.storage.own_files import check_replaceable, zarr_pattern

#: Pairs of a prediction up to which it is scored as a whole: 13 bytes each.
HELD_PAIRS = 2**22
#: Pairs of a screen up to which its units run in the process that asked.
LOCAL_PAIRS = 20_000_000
TASK = "within"
#: Key of the BLAS libraries that what was fitted was made with.
BLAS = "blas"
_ARRAYS = ("label", "score", "fell_back", "prediction", "truth")
#: Pattern of the files of a unit's folder, of classes or of expression.
UNIT_FILES = "|".join(
    (
        r"unit\.json",
        r"scores\.parquet",
        r"prediction\.zarr/" + zarr_pattern([*_ARRAYS, CLASS, GENE, MODEL, PERTURBATION]),
    )
)
#: Raised when the meaning of a unit's files changes, so that old ones are not taken.
_VERSION = 8


# --- units ------------------------------------------------------------------------------------


class Predictor(Protocol):
    """What makes the predictions of a unit; see :mod:`pertscale.benchmark.units.predictors`.

    Attributes
    ----------
    local : bool
        Whether predictions are made in this process, as what they are made from is here.
    """

    local: ClassVar[bool]

    @property
    def key(self) -> str:
        """Hash of all that the predictions depend on, beside the unit's own labels and split."""

    def predict(self, unit: ClassUnit, matrix: LabelMatrix) -> Predicted:
        """Return what is predicted of the test perturbations, lazily."""

    def overlap(self, matrix: LabelMatrix) -> np.ndarray:
        """Which genes the settings ``..._overlap`` are of, (n_genes,) bool."""

    def points(self, unit: ClassUnit, matrix: LabelMatrix) -> Points:
        """Return the operating points to score beside that of the predictor's own calls."""


@dataclass(frozen=True)
class Points:
    """Operating points at which a predictor is scored, beside the calls it makes.

    Attributes
    ----------
    training_rate : float, optional
        Share of differentially expressed pairs in training, to which its calls are set. None
        where its scores rank nothing, or no training pair was tested.
    same : bool
        Whether it stands at the training rate as it calls: methods that mark the scale.
    """

    training_rate: float | None = None
    same: bool = False


@dataclass(frozen=True)
class ClassUnit:
    """What to fit and score.

    Attributes
    ----------
    context : str
    labels : {'full', 'curated'}
        The labels that are predicted.
    split : Split
    method : str
        Name in score tables.
    settings : tuple of str
        Settings to score; see :func:`_score`.
    predictor : Predictor
    task : {'within', 'transfer'}
    train_contexts : tuple of str
        Contexts that the method is fitted on.
    """

    context: str
    labels: str
    split: Split
    method: str
    settings: tuple[str, ...]
    predictor: Predictor
    task: str = TASK
    train_contexts: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """Contexts that the method is fitted on, as in score tables."""
        return ",".join(self.train_contexts or (self.context,))

    @property
    def folder(self) -> str:
        """Folder below the output folder."""
        kind = self.labels
        if self.task != TASK:
            kind += f"-from-{slug(self.source)}"
        return "/".join(
            (
                PREDICTIONS_DIR,
                slug(self.context),
                kind,
                folder_name(self.split.name),
                self.file_name,
            )
        )

    @property
    def file_name(self) -> str:
        """Name of the method as a folder: users choose names too."""
        return folder_name(self.method)

    @property
    def title(self) -> str:
        """Name in progress and timings."""
        source = "" if self.task == TASK else f" from {self.source}"
        return f"{self.context}{source} / {self.labels} / {self.split.name} / {self.method}"

    def key(self, matrix: LabelMatrix) -> str:
        """Hash of all that the unit's files depend on."""
        return digest(
            _VERSION,
            matrix.key,
            self.split.hash,
            self.split.name,
            self.split.seed,
            self.method,
            list(self.settings),
            self.predictor.key,
            self.task,
            self.source,
        )


def is_done(
    out: Path, unit: ClassUnit, matrix: LabelMatrix, *, content: bool = True, quiet: bool = True
) -> bool:
    """Whether the unit's folder belongs to the same inputs, and is whole; see :func:`is_whole`."""
    return is_whole(out / unit.folder, unit.key(matrix), content=content, quiet=quiet)


def is_whole(folder: Path, key: str, *, content: bool = True, quiet: bool = True) -> bool:
    """Whether a unit's folder is of a key, and holds what was written.

    What does not is told unless `quiet`. Without `content`, files have to have their size.
    """
    try:
        record = read_unit(folder)
        if record["key"] != key:
            return False
        damage = faults(folder, record.get(FILES, {}), content=content)
    except NotFoundError:
        return False
    except CorruptFileError as error:
        say(f"{str(error).removesuffix(f': {REMEDY}')}; it is made anew", quiet=quiet)
        return False
    if damage:
        say(f"{told(folder, damage)}; it is made anew", quiet=quiet)
    return not damage


def write_unit(folder: Path, record: Mapping[str, Any]) -> None:
    """Write the record of a unit, when all else is in its folder."""
    write_record(folder / UNIT_FILE, {**record, BLAS: blas_libraries(), FILES: all_sums(folder)})


def check_unit_replaceable(folder: Path) -> None:
    """Refuse to replace a unit's folder that holds what is not ours.

    Raises
    ------
    ExistsError
    """
    check_replaceable(folder, UNIT_FILES, "the predictions of a method")


def run_unit(
    out: Path, unit: ClassUnit, matrix: LabelMatrix, targets: Mapping[str, Sequence[str]]
) -> None:
    """Fit, predict, score and keep one unit; `targets` are the genes of each perturbation.

    A method that cannot be fitted, say without training perturbations, leaves a record with the
    reason.
    """
    try:
        found = unit.predictor.predict(unit, matrix)
    except (ArgumentError, InputError) as error:
        with atomic_path(out / unit.folder) as temporary:
            temporary.mkdir(parents=True)
            write_unit(temporary, {"key": unit.key(matrix), "failed": str(error)})
        return
    with atomic_path(out / unit.folder) as temporary:
        place = temporary / "prediction.zarr"
        frame = write_and_score(place, unit, matrix, found, targets)
        write_table(temporary / SCORES_FILE, frame)
        write_unit(temporary, {"key": unit.key(matrix), "params": found.params})


def write_and_score(
    place: Any,
    unit: ClassUnit,
    matrix: LabelMatrix,
    found: Predicted,
    targets: Mapping[str, Sequence[str]],
) -> pd.DataFrame:
    """Write what a unit's predictor found to `place`, a path or a Zarr store; return the scores."""
    _write_prediction(place, unit, matrix, found)
    observed = matrix.rows(unit.split.held_out).compute()  # a byte per pair, for every strip
    return _score(place, unit, matrix, observed, found.params, targets)


def failure(out: Path, unit: ClassUnit) -> str | None:
    """Return why a finished unit has no predictions, or None."""
    reason = read_unit(out / unit.folder).get("failed")
    return None if reason is None else str(reason)


def _write_prediction(path: Any, unit: ClassUnit, matrix: LabelMatrix, found: Predicted) -> None:
    """Write labels and class scores, and which pairs fell back; each block computed once."""
    n_rows = strip_rows(len(unit.split.held_out), len(matrix.genes))
    chunks = (n_rows, found.labels.chunks[1][0])
    dims = (PERTURBATION, GENE, CLASS)
    lazy = {"label": found.labels, "score": found.scores}
    variables = {
        "label": Variable(dims[:2], chunks, np.int8),
        "score": Variable(dims, (*chunks, len(CLASS_NAMES)), np.float32),
    }
    if found.fell_back is not None:
        lazy["fell_back"] = found.fell_back
        variables["fell_back"] = Variable(dims[:2], chunks, np.bool_)
    made = create_dataset(
        path,
        coords={PERTURBATION: unit.split.held_out, GENE: matrix.genes, CLASS: CLASS_NAMES},
        attrs={"context": unit.context, "method": unit.method, "split": unit.split.name},
        variables=variables,
    )
    arrays: Any = [made[name] for name in lazy]
    where: dict[str, Any] = {"scheduler": "threads"} if unit.predictor.local else {}
    da.store(list(lazy.values()), arrays, lock=False, **where)


def _score(
    path: Any,
    unit: ClassUnit,
    matrix: LabelMatrix,
    truth: np.ndarray,
    params: dict[str, Any],
    targets: Mapping[str, Sequence[str]],
) -> pd.DataFrame:
    """Score a unit in each of its settings.

    ``full`` and ``curated`` are all pairs, ``full_without_target`` all but the targets, and
    ``..._overlap`` those of the genes that the training contexts have, too. For files these are all
    other contexts: what a file leaves out does not make its task easier.
    """
    predicted, scores, fell_back = _read_prediction(path, truth.size)
    names, points = unit.split.held_out, unit.predictor.points(unit, matrix)
    score: Any = {"perturbations": names, "training_rate": points.training_rate}
    tables: dict[str, pd.DataFrame] = {}
    whole = [s for s in unit.settings if not s.endswith("_overlap")]
    left_out = _target_pairs(unit, matrix, targets)
    if WITHOUT_TARGET in whole and len(left_out):
        both = evaluate_both(truth, predicted, scores=scores, exclude=left_out, **score)
        for setting in whole:
            rest = setting == WITHOUT_TARGET
            exclude = left_out if rest else None
            tables[setting] = with_rest(both[rest], truth, scores, fell_back, exclude)
    elif whole:  # no target is read out, or is among the pairs: all settings are the same
        table = evaluate(truth, predicted, scores=scores, **score)
        tables = dict.fromkeys(whole, with_rest(table, truth, scores, fell_back))
    for setting in unit.settings:
        if setting not in tables:
            there = unit.predictor.overlap(matrix)
            part = truth[:, there], predicted[:, there], scores[:, there]
            votes = None if fell_back is None else fell_back[:, there]
            table = evaluate(part[0], part[1], scores=part[2], **score)
            tables[setting] = with_rest(table, part[0], part[2], votes)
    if points.same:
        tables = {setting: at_both_points(table) for setting, table in tables.items()}
    head = {"task": unit.task, "context": unit.context, "train_contexts": unit.source}
    parts = [
        with_head(tables[s], unit.split, unit.method, params, **head, setting=s)
        for s in unit.settings
    ]
    return pd.concat(parts, ignore_index=True)


def _read_prediction(path: Any, n_pairs: int) -> tuple[Any, Any, Any]:
    """Return what was written of a prediction: labels, class scores, and which pairs fell back.

    Lazily, where these are many; None for the last of methods that do not vote.
    """
    root = zarr.open_group(path, mode="r")
    read: Any = da.from_zarr if n_pairs > HELD_PAIRS else np.asarray
    fell_back = read(root["fell_back"]) if "fell_back" in root else None
    return read(root["label"]), read(root["score"]), fell_back


def with_rest(
    table: pd.DataFrame,
    truth: np.ndarray,
    scores: Any,
    fell_back: Any = None,
    exclude: np.ndarray | None = None,
) -> pd.DataFrame:
    """Put what else is told of all pairs after the other scores of level overall.

    The areas within genes and, of methods that vote, the share of pairs without a vote.
    """
    n = int((table["level"] != "overall").argmax())
    found = [evaluate_per_gene(truth, scores, exclude=exclude)]
    if fell_back is not None:
        found.append(share_without_vote(truth, fell_back, exclude))
    return pd.concat([table[:n], *found, table[n:]], ignore_index=True)


def share_without_vote(
    truth: np.ndarray, fell_back: Any, exclude: np.ndarray | None = None
) -> pd.DataFrame:
    """Return the row that says which share of the tested pairs got their gene's majority label."""
    kept = truth != Label.UNTESTED
    if exclude is not None:
        kept[tuple(exclude.T)] = False
    n, step = int(kept.sum()), strip_rows(*truth.shape)
    strips = (slice(start, start + step) for start in range(0, len(truth), step))
    n_back = sum(int((kept[rows] & np.asarray(fell_back[rows])).sum()) for rows in strips)
    row = {"operating_point": "", "level": "overall", "group": "", "n": n}
    row |= {"metric": "share_without_vote", "value": n_back / n if n else np.nan}
    return pd.DataFrame([row])


def at_both_points(table: pd.DataFrame) -> pd.DataFrame:
    """Repeat the scores of calls for the training rate: of what stands there as it calls."""
    called = table[table["operating_point"] == AS_CALLED]
    return pd.concat([table, called.assign(operating_point=AT_TRAINING_RATE)], ignore_index=True)


def _with_lacking(table: pd.DataFrame, params: dict[str, Any]) -> pd.DataFrame:
    """Add how many perturbations have no vector, for methods that need one: a row of the scores."""
    if "n_test_without_embedding" not in params:
        return table
    n = table.loc[table["level"] == "perturbation", "group"].nunique()
    row = {"operating_point": "", "level": "overall", "group": "", "n": n}
    row |= {"metric": "n_without_vector", "value": float(params["n_test_without_embedding"])}
    return pd.concat([table, pd.DataFrame([row])], ignore_index=True)


def with_head(
    table: pd.DataFrame, split: Split, method: str | None, params: dict[str, Any], **head: str
) -> pd.DataFrame:
    """Put the columns that say what was scored in front of scores.

    Parameters
    ----------
    table : DataFrame
        As of :func:`evaluate`, with a column ``method`` where `method` is None; what is the same
        in every row, ``operating_point`` where none is needed and ``no_effect`` where there is no
        formula, may be missing.
    split : Split
    method : str, optional
    params : dict
        Of the method; of all methods by name where `method` is None.
    **head : str
        ``task``, ``setting``, ``context``, ``train_contexts``.
    """
    if method is not None:
        table, params = _with_lacking(table, params).assign(method=method), {method: params}
    texts = {name: json.dumps(mine, sort_keys=True) for name, mine in params.items()}
    columns = {"split": split.name, "seed": split.seed, "params": table["method"].map(texts)}
    missing = {
        n: v for n, v in {"operating_point": "", "no_effect": np.nan}.items() if n not in table
    }
    return table.assign(**head, **columns, **missing)[[c.name for c in SCORE_COLUMNS]]


def _target_pairs(
    unit: ClassUnit, matrix: LabelMatrix, targets: Mapping[str, Sequence[str]]
) -> np.ndarray:
    """(row, gene) positions of the target genes of the test perturbations."""
    genes = pd.Index(matrix.genes)
    pairs = [
        (row, gene)
        for row, name in enumerate(unit.split.held_out)
        for gene in genes.get_indexer(list(targets[name]))
        if gene >= 0
    ]
    return np.array(pairs, dtype=np.intp).reshape(-1, 2)


def read_scores(out: Path, units: Sequence[ClassUnit]) -> pd.DataFrame:
    """Read the scores of all units, in their order."""
    parts = [read_table(out / unit.folder / SCORES_FILE, remedy=REMEDY) for unit in units]
    columns = [c.name for c in SCORE_COLUMNS]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def compute_here(client: Any, n_pairs: int) -> Any:
    """Context in which units' Dask collections are computed: on `client`, or by threads here.

    Units are many small computations. Below :data:`LOCAL_PAIRS`, asking a cluster for each of them
    costs more than they do, as would a pool of processes started anew for each.
    """
    if client is not None and n_pairs > LOCAL_PAIRS:
        return client.as_current()
    if client is not None or dask.config.get("scheduler", None) in ("processes", "multiprocessing"):
        return dask.config.set(scheduler="threads")
    return dask.config.set()
