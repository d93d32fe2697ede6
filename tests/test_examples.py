"""The examples in docstrings run; every public function and class that computes something has some.

They run in a folder with a small simulated screen: ``k562.h5ad``, its store ``k562.zarr``, and the
label table ``k562.labels``, with the names that a user would have imported.
"""

import doctest
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import pertscale as ps
from tests.conftest import write_no_report

PACKAGES = (
    "", ".baselines", ".embeddings", ".evaluation", ".io", ".models", ".predictions", ".report",
    ".simulate", ".slurm", ".splits", ".stats",
)  # fmt: skip
#: What has no example of its own, and why.
WITHOUT = {
    "a base class": {"ExpressionModel", "LabelClassifier"},
    "a record that a function with an example returns or takes": {
        "Account", "Attack", "AuditedClasses", "BenchmarkPlan", "BenchmarkResult",
        "ExpressionMethod", "Method", "Metric", "ModelRun", "ModelSpec", "Predictions",
        "SimulatedScreen",
    },
    "starts other programs: examples/models and the README show them": {
        "check_predictions", "predictions_of", "read_config", "run_model", "run_models",
        "write_task",
    },
    "of a batch system: the README shows them": {
        "Call", "Job", "wait_for_workers", "worker_memory", "write_script",
    },
}  # fmt: skip
FLAGS = doctest.NORMALIZE_WHITESPACE
DOI = re.compile(r"https://(?:doi\.org|arxiv\.org|openreview\.net)/[^\s;,>)]+")


def public() -> dict[str, Any]:
    """Functions and classes that the packages export, by where they are defined."""
    found = {}
    for package in PACKAGES:
        module = importlib.import_module(f"pertscale{package}")
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isfunction(value) or inspect.isclass(value):
                found[f"{value.__module__}.{value.__name__}"] = value
    return found


def exempt(name: str) -> bool:
    """Whether a name is in :data:`WITHOUT`, or a figure, which the notebooks show."""
    short = name.rpartition(".")[2]
    figure = name.startswith("pertscale.report.")
    return figure or any(short in names for names in WITHOUT.values())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the examples find: a screen, its store and its labels."""
    here = tmp_path_factory.mktemp("examples")
    ps.simulate_screen(
        here / "k562.h5ad", n_cells=1500, n_genes=120, n_perturbations=12, n_doubles=4,
        control_fraction=0.2, umi_per_cell=1000, seed=1, quiet=True,
    )  # fmt: skip
    ps.io.ingest(here / "k562.h5ad", here / "k562.zarr", quiet=True)
    ps.stats.rank_sum(here / "k562.zarr", quiet=True)
    return here


def examples() -> Iterator[doctest.DocTest]:
    """The examples of all that is public, methods of classes among it."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    names = {"ps": ps, "np": np, "pd": pd, "xr": xr}
    for name, value in public().items():
        found = finder.find(value, name, module=False, globs=dict(names))
        yield from (example for example in found if example.examples)


@pytest.mark.parametrize("example", list(examples()), ids=lambda example: example.name)
def test_example_runs(example, folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr("pertscale.report.write_report", write_no_report)  # it takes seconds
    told: list[str] = []
    doctest.DocTestRunner(optionflags=FLAGS).run(example, out=told.append)
    assert not told, "".join(told)


def test_every_public_name_that_computes_has_an_example():
    with_examples = {example.name for example in examples()}
    assert [n for n in public() if n not in with_examples and not exempt(n)] == []


def test_the_list_of_exceptions_is_not_longer_than_needed():
    short = {name.rpartition(".")[2] for name in public()}
    listed = {name for names in WITHOUT.values() for name in names}
    assert listed <= short


def test_references_of_docstrings_are_those_of_the_method():
    method = (Path(__file__).parents[1] / "docs" / "method.md").read_text("utf-8")
    known = set(DOI.findall(method))
    cited = {url for value in public().values() for url in DOI.findall(value.__doc__ or "")}
    assert cited - known == set()
    assert len(cited) > 8
