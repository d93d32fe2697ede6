"""Every public function says at once what is wrong with the type of an argument."""

from __future__ import annotations

import inspect
import subprocess
import sys

import anndata
import numpy as np
import pandas as pd
import pytest

import pertscale as ps
from pertscale.arguments import checked
from pertscale.errors import ArgumentError

PACKAGES = (
    ps,
    ps.io,
    ps.stats,
    ps.splits,
    ps.embeddings,
    ps.evaluation,
    ps.models,
    ps.report,
    ps.baselines,
)


def public_functions():
    """Functions of all public packages, by their full name."""
    found = {}
    for package in PACKAGES:
        for name in dir(package):
            value = getattr(package, name)
            if inspect.isfunction(value):
                found[f"{package.__name__}.{name}"] = value
    return found


FUNCTIONS = public_functions()


def test_every_public_function_is_checked():
    assert len(FUNCTIONS) > 60
    unchecked = [name for name, f in FUNCTIONS.items() if not getattr(f, "is_checked", False)]
    assert not unchecked, "decorate them with pertscale.arguments.checked"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_public_functions_refuse_what_no_annotation_allows(name):
    function = FUNCTIONS[name]
    parameters = inspect.signature(function).parameters
    wrong = dict.fromkeys(parameters, object())
    if all(p.annotation in ("Any", "ArrayLike") for p in parameters.values()):
        pytest.fail("say in the annotations what it takes")
    with pytest.raises(ArgumentError, match=r"has to be .*, found an object"):
        function(**wrong)


ADATA = anndata.AnnData(np.ones((4, 3), np.float32))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: ps.io.ingest(ADATA, "x.zarr"), "found an AnnData; write it with adata.write_h5ad"),
        (lambda: ps.io.check(ADATA), "source has to be a path or a list (each a path)"),
        (lambda: ps.run_benchmark(ADATA), "adata.write_h5ad('screen.h5ad') and pass that path"),
        (lambda: ps.plan_benchmark(ADATA), "store has to be a path, a Screen or a list"),
        (lambda: ps.stats.rank_sum(ADATA), "screen has to be a path or a Screen"),
        (lambda: ps.open_screen(None), "found None"),
        (lambda: ps.open_screen(b"k562.zarr"), "pass os.fsdecode(path)"),
        (lambda: ps.read_embedding(pd.DataFrame({"a": [1]})), "frame.to_parquet"),
        (lambda: ps.run_benchmark("x.zarr", tasks="within"), "pass a list: tasks=['within']"),
        (lambda: ps.run_benchmark("x.zarr", methods=["mean", 3]), "found a list of str and int"),
        (lambda: ps.run_benchmark("x.zarr", fdr="0.01"), "fdr has to be a number, found '0.01'"),
        (lambda: ps.run_benchmark("x.zarr", quiet="yes"), "quiet has to be True or False"),
        (lambda: ps.run_benchmark("x.zarr", min_cells=2.5), "a whole number, found 2.5"),
        (lambda: ps.run_benchmark("x.zarr", memory=None), "memory has to be text or a whole"),
        (lambda: ps.curate("runs/labels"), "read one with pertscale.read_labels(path)"),
        (lambda: ps.score_labels([], "split.json"), "labels has to be a LabelTable"),
        (lambda: ps.splits.holdout("KRAS"), "pass a list: perturbations=['KRAS']"),
        (lambda: ps.report.class_shares("runs/k562"), "pertscale.read_result(path)"),
        (lambda: ps.stats.find_interactions(np.ones((3, 4))), "profiles has to be a DataArray"),
        (lambda: ps.baselines.WeightedKNN(k=2.5), "k has to be a whole number or one of 'all'"),
        (lambda: ps.Split("s", train="A", test=("B",)), "pass a list: train=['A']"),
        (lambda: ps.stats.rank_sum("x.zarr", test=1), "one of 'mannwhitney', 'scanpy'"),
    ],
)
def test_the_message_says_what_to_pass(call, words):
    with pytest.raises(ArgumentError) as caught:
        call()
    assert words in str(caught.value)


def test_numpy_numbers_paths_and_arrays_are_taken(tmp_path):
    names = np.array(["A", "B", "C", "D"])
    split = ps.splits.holdout(names, seed=np.int64(3), test_fraction=np.float32(0.25))
    assert split == ps.splits.holdout(pd.Index(names), seed=3)
    with pytest.raises(ps.errors.NotFoundError):
        ps.open_screen(tmp_path / "none.zarr")


def test_what_is_missing_stays_pythons_error():
    with pytest.raises(TypeError, match="missing"):
        ps.io.ingest("k562.h5ad")
    with pytest.raises(TypeError, match="unexpected"):
        ps.splits.holdout(["A", "B"], sed=1)


def test_a_decorated_function_shows_its_own_signature():
    @checked
    def scaled(value: float, *, by: int = 2) -> float:
        """Multiply."""
        return value * by

    assert str(inspect.signature(scaled)) == "(value: 'float', *, by: 'int' = 2) -> 'float'"
    assert scaled(2.0, by=4) == 8.0
    with pytest.raises(ArgumentError, match="by has to be a whole number, found True"):
        scaled(2.0, by=True)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda p: p.__name__)
def test_a_package_shows_its_public_names_only(package):
    shown = dir(package)
    assert shown == sorted(package.__all__)
    assert all(getattr(package, name) is not None for name in shown)


def test_errors_are_there_from_the_start():
    code = "import pertscale as ps; ps.errors.InputError; assert 'errors' in dir(ps)"
    subprocess.run([sys.executable, "-c", code], check=True)
