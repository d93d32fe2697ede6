"""The notebooks run from the first cell to the last."""

from __future__ import annotations

import nbformat
import pytest
from nbclient import NotebookClient

from tests.helpers import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
@pytest.mark.filterwarnings("ignore")  # of the kernel's own machinery
def test_notebook_runs(path, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert sum("image/png" in o.get("data", {}) for c in code for o in c.outputs) >= 1
    committed = nbformat.read(path, as_version=4)
    shown = [len(c.outputs) for c in committed.cells if c.cell_type == "code"]
    assert shown == [len(c.outputs) for c in code], "run the notebook again and commit its outputs"


def test_both_papers_have_one():
    assert [path.stem for path in NOTEBOOKS] == ["categories", "expression"]
