"""A unit: what is predicted, scored, and kept as one folder.

The folder is renamed into place when it is complete, with two hashes: of all that the predictions
depend on, and of what the scores depend on beside them. A unit whose hashes have not changed, and
whose files are whole, is not done again; if only the second has changed, its predictions are scored
again.
"""

from __future__ import annotations

import json
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa

from pertscale.benchmark.units.sums import PAIR_SUMS_FILE, write_sums
from pertscale.errors import CorruptFileError, NotFoundError, StorageError
from pertscale.evaluation.metrics import METRICS
from pertscale.evaluation.resampling.pairs import PairSums
from pertscale.execution.blas_build import blas_libraries
from pertscale.hashing import digest
from pertscale.io.checksums import FILES, all_sums, is_intact, write_record
from pertscale.io.parquet import declared_frame, read_arrow, write_table
from pertscale.results.unit_files import REMEDY, UNIT_FILE, read_unit
from pertscale.schema import (
    CLASS,
    GENE,
    MODEL,
    PERTURBATION,
    PREDICTIONS_DIR,
    SCORES_FILE,
    UNIT_SCORE_COLUMNS,
)
from pertscale.splits import Split
from pertscale.storage.atomic import atomic_path
from pertscale.storage.files import files_of
from pertscale.storage.folder_names import folder_name, slug
from pertscale.storage.own_files import check_replaceable, zarr_pattern
from pertscale.versions import PREDICTIONS_VERSION, SCORES_VERSION

#: Folder of the predictions, in that of a unit.
PREDICTION = "prediction.zarr"
#: Key of the BLAS libraries that models were fitted with.
BLAS = "blas"
_ARRAYS = ("label", "score", "fell_back", "prediction", "truth")
#: Pattern of the files of a unit's folder, of classes or of expression.
UNIT_FILES = "|".join(
    (
        r"unit\.json",
        r"scores\.parquet",
        r"sums\.parquet",
        r"prediction\.zarr/" + zarr_pattern([*_ARRAYS, CLASS, GENE, MODEL, PERTURBATION]),
    )
)


@dataclass(frozen=True, eq=False, kw_only=True)
class Unit(ABC):
    """What is predicted and scored, and kept as one folder.

    Attributes
    ----------
    task : str
        Of :data:`pertscale.schema.TASKS`.
    context : str
        Context that is predicted.
    split : Split
        Whose held-out perturbations are predicted.
    target_genes : dict of str to sequence of str
        Genes that each perturbation targets.
    train_contexts : tuple of str
        Contexts that methods are fitted on; empty for the context itself.
    """

    task: str
    context: str
    split: Split
    target_genes: Mapping[str, Any]
    train_contexts: tuple[str, ...] = ()

    #: Name of its stage in progress and timings.
    stage: ClassVar[str]

    @property
    @abstractmethod
    def kind(self) -> str:
        """What distinguishes it from others of its context and split, beside the method."""

    @property
    @abstractmethod
    def file_name(self) -> str:
        """Name of its own folder."""

    @property
    @abstractmethod
    def key(self) -> str:
        """Hash of all that its predictions depend on."""

    @property
    @abstractmethod
    def scoring(self) -> str:
        """Hash of what its scores depend on, beside the predictions and their version."""

    @property
    @abstractmethod
    def n_pairs(self) -> int:
        """Pairs of held-out perturbations and genes, of all methods together."""

    @property
    @abstractmethod
    def cost(self) -> float:
        """How long it takes, in pairs of the majority vote: decides what is begun first."""

    @property
    @abstractmethod
    def n_bytes(self) -> int:
        """What it holds while it runs."""

    @property
    @abstractmethod
    def is_local(self) -> bool:
        """Whether it has to run in this process, where its inputs are."""

    @property
    def scores_key(self) -> str:
        """Hash of all that its scores depend on, the metrics that there are among it."""
        return digest(SCORES_VERSION, sorted(METRICS), self.key, self.scoring)

    @property
    def source(self) -> str:
        """Contexts that methods are fitted on, as in score tables."""
        return ",".join(self.train_contexts or (self.context,))

    @property
    def folder(self) -> str:
        """Folder below the output folder."""
        kind = f"{self.kind}-from-{slug(self.source)}" if self.train_contexts else self.kind
        split = folder_name(self.split.name)
        return "/".join((PREDICTIONS_DIR, slug(self.context), kind, split, self.file_name))

    @property
    def title(self) -> str:
        """Name in progress and timings."""
        source = f" from {self.source}" if self.train_contexts else ""
        return f"{self.context}{source} / {self.kind} / {self.split.name}"

    def run(self, out: Path) -> dict[str, float]:
        """Fit, predict, score and keep; return the seconds of models that are timed apart.

        A method that cannot be fitted, say without training perturbations, leaves the reason.
        """
        # a task of a client that died may have made it meanwhile, and somebody reads it
        with atomic_path(out / self.folder, unless=lambda: self.is_done(out)) as temporary:
            temporary.mkdir(parents=True)
            outcome = self.predict(temporary / PREDICTION)
            self._finish(temporary, outcome, blas=blas_libraries())
        return outcome.seconds

    def score_again(self, out: Path) -> None:
        """Score the predictions that were kept, and keep the new scores beside them."""
        folder = out / self.folder
        record = read_unit(folder)
        with atomic_path(folder, unless=lambda: self.is_done(out)) as temporary:
            temporary.mkdir(parents=True)
            if (folder / PREDICTION).exists():
                shutil.copytree(folder / PREDICTION, temporary / PREDICTION, copy_function=_link)
            outcome = Outcome(record["params"], record["failed"])
            self._finish(temporary, outcome, blas=record[BLAS])

    def _finish(self, folder: Path, outcome: Outcome, *, blas: list[dict[str, str]]) -> None:
        """Score what is predicted, and write scores and, last, the record.

        `blas` are the libraries that the predictions were made with.
        """
        made = {file.relative_to(folder).as_posix() for file in files_of(folder)}
        if outcome.params:
            scores = self.score(folder / PREDICTION, outcome.params, held=outcome.held)
        else:
            scores = UnitScores(declared_frame([], UNIT_SCORE_COLUMNS))
        # rows of single perturbations last: tables of many units are put together of both parts
        order = np.argsort((scores.table["level"] == "perturbation").to_numpy(), kind="stable")
        write_table(folder / SCORES_FILE, scores.table.iloc[order])
        if scores.sums:
            write_sums(folder / PAIR_SUMS_FILE, scores.sums, self.split.held_out)
        sums = all_sums(folder)
        if lost := made - sums.keys():
            raise StorageError(
                f"{folder / min(lost)} was removed while the unit was made, by a run that goes on "
                "from one whose client has died; what that run makes is kept"
            )
        record = {
            "key": self.key,
            "scores_key": self.scores_key,
            "params": outcome.params,
            "failed": outcome.failed,
            "predictions_version": PREDICTIONS_VERSION,
            BLAS: blas,
            FILES: sums,
        }
        write_record(folder / UNIT_FILE, record)

    @abstractmethod
    def predict(self, store: Any) -> Outcome:
        """Fit, and write the predictions to a path or a Zarr store."""

    @abstractmethod
    def score(
        self, store: Any, params: dict[str, dict[str, Any]], *, held: Any = None
    ) -> UnitScores:
        """Return the scores of the predictions in a path or a Zarr store, which `params` are of.

        `held` is what :meth:`predict` has kept for that.
        """

    def params(self, out: Path) -> dict[str, dict[str, Any]]:
        """Return the parameters of the methods of the finished unit that have predictions."""
        return dict(read_unit(out / self.folder)["params"])

    def failed(self, out: Path) -> dict[str, str]:
        """Return why other methods of the finished unit have none, by name."""
        return dict(read_unit(out / self.folder)["failed"])

    def scores(self, out: Path) -> pa.Table:
        """Return the scores of the finished unit."""
        return read_arrow(out / self.folder / SCORES_FILE, UNIT_SCORE_COLUMNS, remedy=REMEDY)

    def is_done(
        self, out: Path, *, content: bool = True, tell: Callable[[str], object] = str
    ) -> bool:
        """Whether its folder is of the same inputs and settings, and holds what was written.

        `tell` gets what is said of damage. Without `content`, files have to have their size.
        """
        keys = {"key": self.key, "scores_key": self.scores_key}
        return self._is_intact(out, keys, content=content, tell=tell)

    def is_predicted(self, out: Path) -> bool:
        """Whether its folder has the same predictions, whole, whatever their scores are."""
        return self._is_intact(out, {"key": self.key}, content=True, tell=str)

    def _is_intact(
        self, out: Path, keys: dict[str, str], *, content: bool, tell: Callable[[str], object]
    ) -> bool:
        folder = out / self.folder
        return is_intact(
            lambda: read_unit(folder),
            keys,
            lambda record: [(folder, record.get(FILES, {}))],
            remedy=REMEDY,
            again="it is made anew",
            content=content,
            tell=tell,
        )

    def as_dict(self) -> dict[str, Any]:
        """Return what the manifest says of it."""
        return {
            "task": self.task,
            "context": self.context,
            "train_contexts": self.source,
            "split": self.split.name,
            "split_hash": self.split.hash,
            "folder": self.folder,
            "key": self.key,
        }


@dataclass(frozen=True, eq=False)
class UnitScores:
    """The scores of a unit, and what resampling needs beside them.

    Attributes
    ----------
    table : DataFrame
        :data:`pertscale.schema.UNIT_SCORE_COLUMNS`.
    sums : dict of str to PairSums
        Of classes, by setting: what scores of all pairs are functions of.
    """

    table: pd.DataFrame
    sums: Mapping[str, PairSums] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """How the methods of a unit did.

    Attributes
    ----------
    params : dict of str to dict
        Parameters of the methods that have predictions.
    failed : dict of str to str
        Why others have none.
    seconds : dict of str to float
        Of models that are timed apart.
    held : object, optional
        What scoring would read or make again, where it is in memory.
    """

    params: dict[str, dict[str, Any]]
    failed: dict[str, str]
    seconds: dict[str, float] = field(default_factory=dict)
    held: Any = None


def _link(source: str, target: str) -> None:
    """Link a file to another place, or copy it where the disk has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def is_of_earlier_version(folder: Path) -> bool:
    """Whether there is a unit's folder whose predictions are of an earlier version."""
    try:
        return read_unit(folder).get("predictions_version") != PREDICTIONS_VERSION
    except (NotFoundError, CorruptFileError):
        return False


def check_unit_replaceable(folder: Path) -> None:
    """Refuse to replace a unit's folder that holds what is not ours.

    Raises
    ------
    ExistsError
    """
    check_replaceable(folder, UNIT_FILES, "the predictions of a method")


def with_head(
    table: pd.DataFrame, params: Mapping[str, Any], split: Split, **head: str
) -> pd.DataFrame:
    """Put the columns that say what was scored in front of scores.

    Parameters
    ----------
    table : DataFrame
        As of :func:`pertscale.evaluation.evaluate`, with a column ``method``, and with ``setting``
        where there are several; ``operating_point`` where none is needed and ``no_effect`` where
        there is no formula may be missing.
    params : dict
        Of each method, by name.
    split : Split
    **head : str
        What is the same in every row of ``task``, ``setting``, ``context``, ``train_contexts``.
    """
    texts = {name: json.dumps(one, sort_keys=True) for name, one in params.items()}
    columns = {"split": split.name, "seed": split.seed, "params": table["method"].map(texts)}
    defaults = {"operating_point": "", "no_effect": np.nan}
    missing = {name: value for name, value in defaults.items() if name not in table}
    return table.assign(**head, **columns, **missing)[[c.name for c in UNIT_SCORE_COLUMNS]]
