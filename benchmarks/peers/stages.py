"""What the scripts share that run inside of a measured process: a clock for stages, input, output.

Runs in the environment of the peers and in that of pertscale.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

GROUP = "perturbation"
CONTROL = "non-targeting"
TARGET = 1e4
_ROWS = 8192


class Stages:
    """Wall and CPU seconds of named stages; CPU counts all threads of the process."""

    def __init__(self) -> None:
        self.seconds: dict[str, dict[str, float]] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time what is done inside of the `with` block."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.add(name, time.perf_counter() - wall, time.process_time() - cpu)

    def add(self, name: str, wall: float, cpu: float) -> None:
        """Add to a stage."""
        stage = self.seconds.setdefault(name, {"wall": 0.0, "cpu": 0.0})
        stage["wall"] = round(stage["wall"] + wall, 4)
        stage["cpu"] = round(stage["cpu"] + cpu, 4)


def report(stages: Stages, more: dict[str, Any] | None = None) -> None:
    """Print the last line that the harness reads."""
    print(json.dumps({"stages": stages.seconds, **(more or {})}), flush=True)


def count(tested: list[str], names: list[str]) -> dict[str, int]:
    """Return how many perturbations were tested, and how many there are."""
    return {"tested": len(tested), "perturbations": len(names)}


def load(path: str) -> Any:
    """Read an h5ad into memory, with both index arrays of its matrix of one type.

    SciPy's methods, and with them scanpy and illico, refuse int32 indices with int64 offsets.
    """
    import anndata

    data = anndata.read_h5ad(path)
    matrix = data.X
    if matrix.indices.dtype != matrix.indptr.dtype:
        index = np.int32 if matrix.nnz < 2**31 else np.int64
        matrix.indices = matrix.indices.astype(index, copy=False)
        matrix.indptr = matrix.indptr.astype(index, copy=False)
    return data


def log_normalise(matrix: Any) -> None:
    """Replace the counts of a CSR matrix by log1p of counts per 10,000, without a second copy."""
    for first in range(0, matrix.shape[0], _ROWS):
        bounds = matrix.indptr[first : first + _ROWS + 1]
        values = matrix.data[bounds[0] : bounds[-1]]
        rows = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
        totals = np.bincount(rows, weights=values, minlength=len(bounds) - 1)
        scale = np.divide(TARGET, totals, out=np.zeros_like(totals), where=totals > 0)
        values *= scale[rows].astype(values.dtype)
        np.log1p(values, out=values)


def toy_data() -> Any:
    """Make log-normalised data of the types of a real file, to compile what is compiled."""
    import anndata
    import pandas as pd
    import scipy.sparse as sp

    random = np.random.default_rng(0)
    matrix = sp.csr_matrix(random.poisson(0.5, (400, 60)).astype(np.float32))
    labels = np.where(np.arange(400) < 100, CONTROL, "P0")
    labels[250:] = "P1"
    obs = pd.DataFrame(
        {GROUP: pd.Categorical(labels)}, index=[f"cell{i}" for i in range(len(labels))]
    )
    data = anndata.AnnData(matrix, obs=obs, var=pd.DataFrame(index=[f"G{i}" for i in range(60)]))
    log_normalise(data.X)
    return data


def perturbations(data: Any) -> list[str]:
    """Sorted names of the perturbations, the control left out."""
    return sorted(set(data.obs[GROUP].astype(str)) - {CONTROL})


def choose_first(
    names: list[str], test: Callable[[list[str]], Any], stages: Stages, *, budget: float
) -> list[str]:
    """Return as many of the names as `test` gets through in `budget` seconds, by timing it.

    The time of a call with one name stays in the report: with it, what does not depend on the
    number of perturbations is told apart. A budget of 0 means all.
    """
    if budget <= 0 or len(names) <= 3:
        return names
    with stages("one"):
        test(names[:1])
    with stages("three"):
        test(names[:3])
    one, three = (stages.seconds[name]["wall"] for name in ("one", "three"))
    each = max((three - one) / 2, 1e-3)
    n = int((budget - one) / each) + 1
    return names[: min(max(n, 3), len(names))]


def write_p_values(path: str, names: list[str], genes: list[str], p: np.ndarray) -> None:
    """Write p-values (perturbation, gene) for the comparison."""
    np.savez(path, perturbations=np.array(names, "U"), genes=np.array(genes, "U"), p=p)
