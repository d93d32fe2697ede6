"""The notebooks run from the first cell to the last, and what is committed is what they show."""

from __future__ import annotations

import importlib.util
import re

import nbformat
import pytest
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import run_sync

from tests.support.helpers import ROOT

FOLDER = ROOT / "notebooks"
NOTEBOOKS = {path.stem: path for path in sorted(FOLDER.glob("*.ipynb"))}
#: What each one promises: texts of its outputs, and how many figures.
PROMISES = {
    "quickstart": (
        [
            r"80 perturbations",
            r"methods: 100%",
            r"<BenchmarkResult quickstart-files/run>",
            r"<LabelTable quickstart-files/run/labels>",
            r"<Split 'holdout-seed0': 60 train, 20 test",
            r"method +20 +20 +40 +20\n",  # the same call computes nothing, another seed half
            r"report\.html",
        ],
        1,
    ),
    "cluster": (
        [
            r"dashboard: http://127\.0\.0\.1:\d+/status",
            r"threads: (\w{16})\nworkers: \1\n",
            r"<BenchmarkResult cluster-files/workers>",
        ],
        0,
    ),
    "your_model": (
        [
            r"<Predictions mine\.csv: expression",
            r"target falls +[\d.]+ ",
            r"ridge +[\d.]+ ",
            r"half a file +20 +10 ",
            r"scores of the baselines, all the same",
            r"the scale of the values can't be proved",
        ],
        1,
    ),
    "categories": ([r"macro_f1", r"majority_vote", r"report\.html"], 1),
    "expression": ([r"additive", r"synergy", r"above 2 .* 1\.000"], 6),
}


def outputs(notebook):
    """Texts and figures of a notebook's outputs."""
    texts, figures = [], 0
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            assert output.output_type != "error", output
            data = output.get("data", {})
            texts.append(output.get("text", "") or data.get("text/plain", ""))
            figures += "image/png" in data
    return texts, figures


def check_promises(name, notebook):
    texts, figures = outputs(notebook)
    wanted, n_figures = PROMISES[name]
    for pattern in wanted:
        assert re.search(pattern, "\n".join(texts)), f"{name} does not show {pattern!r}"
    assert figures == n_figures


def test_there_are_five():
    assert set(NOTEBOOKS) == set(PROMISES)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_what_is_committed(name):
    path = NOTEBOOKS[name]
    notebook = nbformat.read(path, as_version=4)
    check_promises(name, notebook)
    numbers = [c.execution_count for c in notebook.cells if c.cell_type == "code"]
    assert numbers == list(range(1, len(numbers) + 1)), "run it in one go: notebooks/run.py"
    text = path.read_text()
    assert len(text) < 1_000_000
    assert not re.search(r"/(tmp|home|root|work|Users|private|var)/", _without_pictures(notebook))
    shown = [o for c in notebook.cells for o in c.get("outputs", ())]
    assert not [o.text for o in shown if o.get("name") == "stderr"], "nothing warns"


def _without_pictures(notebook):
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            output.get("data", {}).pop("image/png", None)
    return nbformat.writes(notebook)


@pytest.fixture(scope="module")
def kernel():
    """One for all notebooks: a new one takes seconds to import what they use."""
    manager = AsyncKernelManager(kernel_name="python3")
    run_sync(manager.start_kernel)()
    yield manager
    run_sync(manager.shutdown_kernel)(now=True)


def as_new(folder):
    """A notebook that leaves the kernel in a folder, with no name of those before it."""
    lines = (
        "%reset -f",
        "__spec__ = None",  # which multiprocessing looks for
        f"import os; os.chdir({str(folder)!r}); del os",
    )
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("\n".join(lines))])


@pytest.mark.once
@pytest.mark.parametrize("name", NOTEBOOKS)
@pytest.mark.filterwarnings("ignore")  # of the kernel's own machinery
def test_notebook_runs(name, kernel, tmp_path):
    spec = importlib.util.spec_from_file_location("run_notebooks", FOLDER / "run.py")
    run_notebooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(run_notebooks)
    committed = nbformat.read(NOTEBOOKS[name], as_version=4)
    run_notebooks.execute(as_new(tmp_path), tmp_path, kernel)
    found = run_notebooks.execute(nbformat.read(NOTEBOOKS[name], as_version=4), tmp_path, kernel)
    check_promises(name, found)
    assert _kinds(found) == _kinds(committed), "commit what notebooks/run.py makes of it"


def _kinds(notebook):
    """Kinds of outputs, cell by cell; a busy machine may have warned."""
    return [
        [o.output_type for o in cell.get("outputs", ()) if o.get("name") != "stderr"]
        for cell in notebook.cells
    ]
