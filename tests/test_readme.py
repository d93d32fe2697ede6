"""What stands in the README works as it stands there, block after block of a section."""

from __future__ import annotations

import json
import re

import anndata
import pandas as pd
import pytest

import pertscale as ps
from tests.support.helpers import ROOT

README = (ROOT / "README.md").read_text()


def blocks(section):
    """Python blocks below a heading, in their order."""
    body = re.split(r"^## ", README, flags=re.MULTILINE)
    (mine,) = (part for part in body if part.startswith(section + "\n"))
    return re.findall(r"```python\n(.*?)```", mine, re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the files that the README names, small."""
    folder = tmp_path_factory.mktemp("readme")
    screen = ps.simulate_screen(
        folder / "k562.h5ad",
        n_cells=4000,
        n_genes=300,
        n_perturbations=16,
        n_doubles=12,
        contexts=("K562",),
        seed=3,
        quiet=True,
    )
    screen.write_embedding(folder / "genept.parquet")
    screen.write_embedding(folder / "scgpt.parquet")
    single = anndata.read_h5ad(folder / "k562.h5ad").obs["perturbation"].iloc[0].split("+")[0]
    (folder / "target").write_text(single)
    tables = folder / "perturbqa"
    tables.mkdir()
    rows = [(f"P{i}", f"G{j}", int((i + j) % 3 == 0)) for i in range(8) for j in range(30)]
    de = pd.DataFrame(rows, columns=["pert", "gene", "label"])
    de["split"] = ["test" if name in ("P6", "P7") else "train" for name in de["pert"]]
    changed = de[de["label"] == 1].assign(label=lambda t: t["gene"].str[1:].astype(int) % 2)
    for line in ("k562", "rpe1"):
        de.to_csv(tables / f"{line}-de.csv", index=False)
        changed.to_csv(tables / f"{line}-dir.csv", index=False)
    (folder / "go.gmt").write_text(
        "".join(f"T{i}\t\tP{i % 8}\tG{i % 30}\tX{i}\tX{i // 2}\n" for i in range(60))
    )
    scanpy = pd.DataFrame({"group": "A", "names": [f"G{i}" for i in range(9)]})
    scanpy = scanpy.assign(scores=2.0, logfoldchanges=1.0, pvals=1e-5, pvals_adj=1e-4)
    scanpy.to_csv(folder / "rank_genes_groups.csv", index=False)
    return folder


@pytest.mark.once
@pytest.mark.usefixtures("without_report")
def test_the_blocks_run_one_after_the_other(folder, monkeypatch):
    monkeypatch.chdir(folder)
    names = {"ps": ps}
    screen, pieces = blocks("Your screen"), blocks("Piece by piece")
    assert (len(screen), len(pieces)) == (1, 3)
    for block in (*screen, *pieces):
        exec(block.replace("GATA1", (folder / "target").read_text()), names)
    result = names["result"]
    assert {"within", "single", "double"} <= set(result.scores["task"])
    assert names["model"].predict(names["split"].test[:1]).shape[0] == 1
    assert len(names["found"].table)
    assert isinstance(names["table"], ps.LabelTable)


def test_options_that_the_shell_lines_use_are_there():
    from click.testing import CliRunner

    from pertscale.cli import main

    for line in re.findall(r"^pertscale (.*)$", README, re.MULTILINE):
        command, *_ = line.split()
        text = CliRunner().invoke(main, [command, "--help"]).output
        for option in re.findall(r"(?<= )--[a-z-]+", line.split("#")[0].split(" -- ")[0]):
            assert option in text or command in ("models", "slurm"), (line, json.dumps(text))
