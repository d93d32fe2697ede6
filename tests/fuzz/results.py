"""What pertscale wrote: labels and results, whose files have sums. Every change is noticed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd

import pertscale as ps
from tests.fuzz.plain import Reader
from tests.support.screens import write_h5ad

_N_CELLS, _N_GENES = 240, 12


def _store(folder: Path) -> Path:
    """Six perturbations with an effect each, in one context."""
    random = np.random.default_rng(0)
    names = np.array(["control", *(f"G{i}" for i in range(6))])[np.arange(_N_CELLS) % 8 % 7]
    rate = np.ones((_N_CELLS, _N_GENES))
    for i in range(6):
        rate[names == f"G{i}", (i + 1) % _N_GENES] = 8
    source = write_h5ad(folder / "s.h5ad", random.poisson(rate) + 1, {"perturbation": names})
    return Path(str(ps.io.ingest(source, folder / "s.zarr", quiet=True)))


def _write_labels(folder: Path) -> None:
    ps.stats.rank_sum(_store(folder.parent), out=folder, quiet=True)
    _tidy(folder.parent)


def _write_result(folder: Path) -> None:
    """All of a result but its page, which takes longer than all else, and what it works on."""
    with mock.patch("pertscale.report.write_report"):
        ps.run_benchmark(
            _store(folder.parent),
            out=folder,
            methods=["majority_vote"],
            settings=["full"],
            tasks=["within"],
            seed=0,
            quiet=True,
        )
    shutil.rmtree(folder / ".work")
    _tidy(folder.parent)


def _tidy(folder: Path) -> None:
    (folder / "s.h5ad").unlink()
    shutil.rmtree(folder / "s.zarr")


def read_labels(folder: Path) -> Any:
    found = ps.read_labels(folder)
    context = found.contexts[0]
    return {
        "genes": list(found.genes),
        "perturbations": _cells(found.perturbations),
        "pairs": _cells(found.to_pandas()),
        "matrix": found.matrix(context).to_numpy(),
    }


def read_result(folder: Path) -> Any:
    found = ps.read_result(folder)
    tables = {
        name: getattr(found, name) for name in ("scores", "skipped", "drops", "targets", "coverage")
    }
    parts = {
        f"{context} {name}": [split.train, split.test]
        for context, mine in found.splits.items()
        for name, split in mine.items()
    }
    predicted = found.predictions(
        context="s", labels="full", split="holdout-seed0", method="majority_vote"
    )
    return {
        "predicted": predicted["label"].to_numpy(),
        **{name: _cells(table) for name, table in tables.items()},
        **parts,
        "labels": _cells(found.labels.to_pandas()),
        "profiles": found.pseudobulk["mean_log1p"].to_numpy(),
    }


def _cells(table: pd.DataFrame) -> list[list[str]]:
    return table.astype(str).to_numpy().tolist()


RESULTS = (
    Reader("labels of a store", _write_labels, read_labels, None),
    Reader("result", _write_result, read_result, None),
)
