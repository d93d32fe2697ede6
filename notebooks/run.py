"""Run the notebooks and keep their outputs: python notebooks/run.py [NAME …].

What differs from machine to machine is left out: times of cells, versions, counters. Files that the
notebooks write go to a folder that is removed.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

HERE = Path(__file__).resolve().parent
#: A line that a progress bar has written over.
OVERWRITTEN = re.compile(r"[^\n]*\r(?=[^\n])")


def execute(
    notebook: nbformat.NotebookNode, folder: Path, kernel: AsyncKernelManager | None = None
) -> nbformat.NotebookNode:
    """Run a notebook in a folder; return it without what differs from machine to machine.

    It has a kernel of its own, unless one is given, which then has to be in the folder.
    """
    client = NotebookClient(
        notebook,
        km=kernel,
        timeout=600,
        coalesce_streams=True,
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute()
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for i, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{i:02d}", {}
        for output in cell.get("outputs", ()):
            if output.output_type == "stream":
                output.text = OVERWRITTEN.sub("", output.text)
    return notebook


def main(names: list[str]) -> None:
    """Run the named notebooks, by default all."""
    paths = [HERE / f"{name}.ipynb" for name in names] or sorted(HERE.glob("*.ipynb"))
    for path in paths:
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            notebook = execute(nbformat.read(path, as_version=4), Path(folder))
        nbformat.write(notebook, path)
        size = path.stat().st_size / 1e3
        print(f"{path.name}: {time.monotonic() - started:.0f} s, {size:.0f} kB", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
