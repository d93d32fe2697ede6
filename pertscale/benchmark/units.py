"""One method on one split of one context's labels: fitted, predicted, scored, and kept.

A unit is a folder that is renamed into place when it is complete, with the hash of all that it
depends on. A unit whose hash has not changed is not done again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pandas as pd
import xarray as xr
import zarr
from zarr.codecs import BloscCodec

from pertscale.baselines import METHODS
from pertscale.evaluation import evaluate_both
from pertscale.hashing import digest
from pertscale.io.atomic import atomic_path, read_json, write_json
from pertscale.io.tables import read_table, write_table
from pertscale.schema import (
    CLASS,
    CLASS_NAMES,
    GENE,
    PERTURBATION,
    PREDICTIONS_DIR,
    SCORE_COLUMNS,
)
from pertscale.splits import Split
from pertscale.stats.labels import LabelTable

#: Genes of a block of the label matrix: what kNN and the scores hold at a time.
GENE_CHUNK = 512
#: Of the label matrix, what is in memory while it is written: a byte per pair.
BAND_BYTES = 256_000_000
#: Pairs of a strip of rows of a prediction: what is ranked within perturbations at a time.
STRIP_PAIRS = 5_000_000
TASK = "within"
#: Raised when the meaning of a unit's files changes, so that old ones are not taken.
_VERSION = 1


def slug(name: str) -> str:
    """Part of a file name for a name from data: safe, readable, and distinct by its hash."""
    plain = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:40]
    return f"{plain}-{digest(name)[:8]}"


# --- the label matrix, cut along genes ------------------------------------------------------


@dataclass(frozen=True)
class LabelMatrix:
    """Labels of one context as an int8 Zarr array, chunked along genes.

    Methods and scores go through it gene block by gene block, so it need not fit in memory.
    """

    path: Path
    perturbations: tuple[str, ...]
    genes: tuple[str, ...]
    key: str

    def rows(self, names: Sequence[str]) -> da.Array:
        """Labels of some perturbations, lazily; one chunk of rows, genes in blocks."""
        at = pd.Index(self.perturbations).get_indexer(list(names))
        return da.from_zarr(zarr.open_array(self.path, mode="r"))[at]


def label_matrix(labels: LabelTable, context: str, folder: Path) -> LabelMatrix:
    """Write the labels of a context, unless that is done; see :class:`LabelMatrix`."""
    matrix = labels.matrix(context)
    path = folder / f"{slug(context)}-{labels.key[:12]}.zarr"
    if not path.exists():
        with atomic_path(path) as temporary:
            array = zarr.create_array(
                temporary,
                shape=matrix.shape,
                chunks=(max(1, matrix.shape[0]), min(GENE_CHUNK, matrix.shape[1])),
                dtype=np.int8,
            )
            width = max(1, BAND_BYTES // max(1, matrix.shape[0] * GENE_CHUNK)) * GENE_CHUNK
            for start in range(0, matrix.shape[1], width):
                lazy = matrix.data[:, start : start + width]
                band = np.empty(lazy.shape, np.int8)
                # chunks span all rows, so this process collects them
                da.store(lazy, band, lock=False, scheduler="threads")
                array[:, start : start + width] = band
    return LabelMatrix(
        path,
        tuple(matrix[PERTURBATION].values),
        tuple(matrix[GENE].values),
        digest(labels.key, context),
    )


# --- units ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Unit:
    """What to fit and score.

    Attributes
    ----------
    context : str
    labels : {'full', 'curated'}
        The labels that are fitted and predicted.
    split : Split
    method : str
        Of :data:`pertscale.baselines.METHODS`.
    settings : tuple of str
        Settings to score: 'full' and 'full_without_target', or 'curated'.
    groups : tuple of str
        Target group of each training perturbation, for cross-validation.
    embedding : str
        Hash of the vectors; empty where the method needs none.
    """

    context: str
    labels: str
    split: Split
    method: str
    settings: tuple[str, ...]
    groups: tuple[str, ...]
    embedding: str

    @property
    def folder(self) -> str:
        """Folder below the output folder."""
        return (
            f"{PREDICTIONS_DIR}/{slug(self.context)}/{self.labels}/{self.split.name}/{self.method}"
        )

    @property
    def title(self) -> str:
        """Name in progress and timings."""
        return f"{self.context} / {self.labels} / {self.split.name} / {self.method}"

    def key(self, matrix: LabelMatrix) -> str:
        """Hash of all that the unit's files depend on."""
        return digest(
            _VERSION, matrix.key, self.split.hash, self.split.name, self.split.seed, self.method,
            list(self.settings), list(self.groups), self.embedding,
        )  # fmt: skip


def is_done(out: Path, unit: Unit, matrix: LabelMatrix) -> bool:
    """Whether the unit's folder is there and belongs to the same inputs."""
    marker = out / unit.folder / "unit.json"
    return marker.exists() and read_json(marker)["key"] == unit.key(matrix)


def fit_predict(
    name: str,
    *,
    seed: int,
    y_train: Any,
    truth: Any,
    vectors: np.ndarray,
    groups: Sequence[str],
) -> tuple[Any, Any, dict[str, Any]]:
    """Fit a method and predict; return labels, class scores, and the parameters it ended with.

    `vectors` are the embedding of the training, then of the test perturbations, (n, d); d may be 0.
    """
    method = METHODS[name]
    n_train = y_train.shape[0]
    model = method.make(seed).fit(vectors[:n_train], y_train, groups=np.array(groups))
    told = {"truth": truth} if method.needs_truth else {}
    predicted, scores = model.predict_both(vectors[n_train:], **told)
    params = model.fitted_params()
    if method.needs_embedding:
        missing = np.isnan(vectors[n_train:]).any(axis=1)
        params["n_test_without_embedding"] = int(missing.sum())
    return predicted, scores, params


def run_unit(
    out: Path,
    unit: Unit,
    matrix: LabelMatrix,
    vectors: np.ndarray,
    targets: dict[str, tuple[str, ...]],
) -> None:
    """Fit, predict, score and keep one unit; `vectors` as in :func:`fit_predict`."""
    truth = matrix.rows(unit.split.test)
    predicted, scores, params = fit_predict(
        unit.method,
        seed=unit.split.seed,
        y_train=matrix.rows(unit.split.train),
        truth=truth,
        vectors=vectors,
        groups=unit.groups,
    )
    with atomic_path(out / unit.folder) as temporary:
        _write_prediction(temporary / "prediction.zarr", unit, matrix, predicted, scores)
        observed = truth.compute()  # a byte per pair, for every strip of rows
        frame = _score(temporary / "prediction.zarr", unit, matrix, observed, params, targets)
        write_table(temporary / "scores.parquet", frame)
        write_json(temporary / "unit.json", {"key": unit.key(matrix), "params": params})


def _write_prediction(
    path: Path, unit: Unit, matrix: LabelMatrix, predicted: Any, scores: Any
) -> None:
    """Write labels and class scores, each block computed once."""
    coords = {
        PERTURBATION: np.array(unit.split.test, dtype=object),
        GENE: np.array(matrix.genes, dtype=object),
        CLASS: np.array(CLASS_NAMES, dtype=object),
    }
    attrs = {"context": unit.context, "method": unit.method, "split": unit.split.name}
    xr.Dataset(coords=coords, attrs=attrs).to_zarr(path, zarr_format=3, consolidated=False)
    root = zarr.open_group(path, mode="r+")
    dims = (PERTURBATION, GENE, CLASS)
    n_test = max(1, len(unit.split.test))
    rows = -(-n_test // -(-n_test * len(matrix.genes) // STRIP_PAIRS))
    arrays: Any = [
        root.create_array(
            name,
            shape=array.shape,
            chunks=(rows, *(max(1, c[0]) for c in array.chunks[1:])),
            dtype=dtype,
            compressors=[BloscCodec(cname="lz4", clevel=5, shuffle="shuffle")],
            dimension_names=dims[: array.ndim],
        )
        for name, array, dtype in (("label", predicted, np.int8), ("score", scores, np.float32))
    ]
    da.store([predicted, scores], arrays, lock=False)


def _score(
    path: Path,
    unit: Unit,
    matrix: LabelMatrix,
    truth: np.ndarray,
    params: dict[str, Any],
    targets: dict[str, tuple[str, ...]],
) -> pd.DataFrame:
    root = zarr.open_group(path, mode="r")
    predicted, scores = da.from_zarr(root["label"]), da.from_zarr(root["score"])
    targets_at = _target_pairs(unit, matrix, targets)
    tables = evaluate_both(
        truth, predicted, scores=scores, perturbations=unit.split.test, exclude=targets_at
    )
    # curated pairs leave the targets out already
    parts = [
        with_head(tables[setting != "full"], setting, unit.context, unit.split, unit.method, params)
        for setting in unit.settings
    ]
    return pd.concat(parts, ignore_index=True)


def with_head(
    table: pd.DataFrame,
    setting: str,
    context: str,
    split: Split,
    method: str,
    params: dict[str, Any],
) -> pd.DataFrame:
    """Put the columns that say what was scored in front of :func:`evaluate`'s."""
    head = {
        "task": TASK,
        "setting": setting,
        "context": context,
        "train_contexts": context,
        "split": split.name,
        "seed": split.seed,
        "method": method,
        "params": json.dumps(params, sort_keys=True),
    }
    return table.assign(**head)[[c.name for c in SCORE_COLUMNS]]


def _target_pairs(
    unit: Unit, matrix: LabelMatrix, targets: dict[str, tuple[str, ...]]
) -> np.ndarray:
    """(row, gene) positions of the target genes of the test perturbations."""
    genes = pd.Index(matrix.genes)
    pairs = [
        (row, gene)
        for row, name in enumerate(unit.split.test)
        for gene in genes.get_indexer(list(targets[name]))
        if gene >= 0
    ]
    return np.array(pairs, dtype=np.intp).reshape(-1, 2)


def read_scores(out: Path, units: Sequence[Unit]) -> pd.DataFrame:
    """Read the scores of all units, in their order."""
    parts = [read_table(out / unit.folder / "scores.parquet") for unit in units]
    columns = [c.name for c in SCORE_COLUMNS]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def compute_here(client: Any) -> Any:
    """Context in which Dask collections are computed: on `client`, else by the local scheduler.

    Units are many small computations: a pool of processes started anew for each would cost more
    than they do, so threads stand in for it.
    """
    if client is not None:
        return client.as_current()
    if dask.config.get("scheduler", None) in ("processes", "multiprocessing"):
        return dask.config.set(scheduler="threads")
    return dask.config.set()
