"""Small screens that several test modules use, made once per session by the real ingest.

The process that gives the tests to those of ``-n`` loads this module, too: it imports no libraries.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from xdist.scheduler import LoadFileScheduling

import pertscale as ps
from tests.support import processes
from tests.support.helpers import NEEDED

if TYPE_CHECKING:
    import numpy as np

#: What takes longest starts first, so that no process is left with it alone at the end.
LONGEST = (
    "tests/slurm/test_recipes.py",  # it mostly waits
    "tests/test_notebooks.py",
    "tests/test_real_data.py",
    "tests/benchmark/test_run.py",
    "tests/benchmark/test_external_predictions.py",
    "tests/execution/",
    "tests/benchmark/",
    "tests/fuzz/",
    "tests/storage/test_object_storage.py",
    "tests/report/",
    "tests/evaluation/test_operating_point.py",
    "tests/test_readme.py",
    "tests/test_speed_harness.py",
    "tests/io/ingestion/",
)


def _turn(nodeid: str) -> int:
    """Return the place of a test in that order."""
    places = (i for i, start in enumerate(LONGEST) if nodeid.startswith(start))
    return next(places, len(LONGEST))


def pytest_configure(config: pytest.Config) -> None:
    """Keep compiled modules, which containers often switch off: each process compiles for seconds.

    Where they are kept, the first process does; Numba keeps its files in the same folders.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadFileScheduling:
    """Give the processes of ``-n`` whole files, so that what a file sets up is set up once."""
    config.option.loadscopereorder = False  # by numbers of tests, which says little here
    return LoadFileScheduling(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order the tests; skip once for all that need files which do not ship, where these lack.

    One test stands for the others, so that the reason with its number is told, and not lost among
    its repetitions.
    """
    items.sort(key=lambda item: _turn(item.nodeid))
    for name, needed in NEEDED.items():
        lacking = [i for i in items if any(name in m.args for m in i.iter_markers("needs"))]
        if needed.is_there or not lacking:
            continue
        reason = f"{len(lacking)} tests need {needed.what}, from {needed.source}"
        lacking[0].add_marker(pytest.mark.skip(reason=reason))
        config.hook.pytest_deselected(items=lacking[1:])
        items[:] = [item for item in items if item not in lacking[1:]]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what `tests/fuzz` may be asked for."""
    parser.addoption("--fuzz", type=int, default=200, help="changed files that tests/fuzz reads")
    parser.addoption("--fuzz-seed", type=int, default=0, help="number of the first of them")


@pytest.fixture(scope="session", autouse=True)
def quick_processes() -> Iterator[None]:
    """Fork workers and other processes from one that has imported the package."""
    import dask

    processes.prepare()
    with dask.config.set(processes.DASK):
        yield


def write_no_report(result: ps.BenchmarkResult, screen: ps.Screen | None) -> None:
    """Write a page without a figure; it is not empty, so that there is something to damage."""
    from pertscale.storage.atomic import write_bytes

    write_bytes(result.report, b"<!DOCTYPE html><title>no report</title>\n")


@pytest.fixture(scope="module")
def without_report() -> Iterator[None]:
    """Draw no report in a module: in a small screen it takes longer than all else."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pertscale.report.write_report", write_no_report)
        yield


@pytest.fixture(scope="module")
def tiny_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One context, eight perturbations, 30 genes; each module has its own, and may change it."""
    file = tmp_path_factory.mktemp("tiny") / "screen.h5ad"
    ps.simulate_screen(
        file, n_cells=400, n_genes=30, n_perturbations=8, control_fraction=0.2, seed=1, quiet=True
    )
    return file


@pytest.fixture(scope="module")
def tiny_store(tiny_source: Path) -> Path:
    """The same as a store, beside it."""
    return Path(str(ps.io.ingest(tiny_source, tiny_source.with_suffix(".zarr"), quiet=True)))


@dataclass(frozen=True)
class Example:
    """A screen on disk, and the arrays it was made from."""

    screen: ps.Screen
    source: Path
    counts: np.ndarray
    perturbation: np.ndarray
    context: np.ndarray


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Example:
    """Raw counts, two contexts, twelve perturbations and one with a single cell."""
    from tests.support.screens import draw_counts, write_h5ad

    folder = tmp_path_factory.mktemp("example")
    counts, perturbation, context = draw_counts()
    obs = {"perturbation": perturbation, "cell_line": context}
    source = write_h5ad(folder / "example.h5ad", counts, obs)
    store = ps.io.ingest(source, folder / "example.zarr", quiet=True)
    return Example(ps.open_screen(store), source, counts, perturbation, context)


@pytest.fixture(scope="session")
def log_example(tmp_path_factory: pytest.TempPathFactory) -> Example:
    """The same screen, log-normalised before it is ingested."""
    import numpy as np

    from tests.support.screens import draw_counts, write_h5ad

    folder = tmp_path_factory.mktemp("log_example")
    counts, perturbation, context = draw_counts(n_genes=150)
    totals = counts.sum(axis=1, keepdims=True)
    values = np.log1p(counts * (1e4 / totals)).astype(np.float32)
    obs = {"perturbation": perturbation, "cell_line": context}
    source = write_h5ad(folder / "log.h5ad", values, obs)
    store = ps.io.ingest(source, folder / "log.zarr", quiet=True)
    return Example(ps.open_screen(store), source, values, perturbation, context)
