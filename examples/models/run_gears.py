"""GEARS as a model of `pertscale models run`: python run_gears.py TASK OUT.

An environment of its own, tried with Python 3.11 on a CPU (1.9 GB; torch first and held by a
constraint, or pip replaces it by a CUDA build):

    python3.11 -m venv envs/gears
    envs/gears/bin/pip install torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu
    envs/gears/bin/pip install -r requirements-gears.txt

Nothing is downloaded when it runs. GEARS links perturbed genes by the GO terms they share; here
by the gene sets of a .gmt file, named by the variable PERTSCALE_GMT, or without one by
co-expression over the training cells. PERTSCALE_EPOCHS is the number of epochs [20, as published].

Licence: GEARS (cell-gears 0.1.2) is MIT; Roohani, Huang, Leskovec, Nature Biotechnology 2024.
"""

from __future__ import annotations

import json
import os
import pickle
import random
import sys
import time
from importlib.metadata import version
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import torch

# cell-gears 0.1.2 masks sparse rows with a Series, of which scipy >= 1.14 asks this
pd.Series.nonzero = lambda series: series.to_numpy().nonzero()

from gears import GEARS, PertData  # noqa: E402

CTRL = "ctrl"
NEIGHBOURS = 20


def main(task: Path, out: Path) -> None:
    """Train on the task's cells and write the predictions."""
    started = time.perf_counter()
    request = json.loads((task / "request.json").read_text())
    split = json.loads((task / "split.json").read_text())
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(request["seed"])
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", request["threads"])))
    data = anndata.read_h5ad(task / "data.h5ad")
    spelling = {n: s for n, s in request["spelling"].items() if s.count("+") == 1}
    data = data[data.obs["condition"].isin([CTRL, *spelling.values()])].copy()

    folder = out / "gears"
    folder.mkdir()
    genes = sorted({g for s in spelling.values() for g in s.split("+")} - {CTRL})
    write_graph(folder, genes, data)
    perturbations = PertData(str(folder))
    perturbations.new_data_process("task", adata=data)
    perturbations.load(data_path=str(folder / "task"))
    perturbations.split, perturbations.seed = "no_test", request["seed"]
    perturbations.set2conditions = parts(split, spelling, request["seed"])
    perturbations.get_dataloader(batch_size=32, test_batch_size=128)
    model = GEARS(perturbations, device="cuda" if torch.cuda.is_available() else "cpu")
    model.model_initialize(hidden_size=64)
    epochs = int(os.environ.get("PERTSCALE_EPOCHS", "20"))
    model.train(epochs=epochs, lr=1e-3)

    asked = [name for name in request["conditions"] if name in spelling]
    lists = {name: [g for g in spelling[name].split("+") if g != CTRL] for name in asked}
    found = model.predict(list(lists.values()))
    values = np.stack([found["_".join(lists[name])] for name in asked])
    frame = pd.DataFrame(values, index=pd.Index(asked, name="condition"), columns=data.var_names)
    frame = frame[request["genes"]]
    frame.to_parquet(out / "predictions.parquet")
    meta = {
        "versions": {p: version(p) for p in ("cell-gears", "torch", "torch_geometric", "numpy")},
        "seconds": time.perf_counter() - started,
        "epochs": epochs,
        "graph": "gene sets" if os.environ.get("PERTSCALE_GMT") else "co-expression",
        "lowest_value": float(values.min()),  # the network is not bound to what can be
        "not_predicted": [name for name in request["conditions"] if name not in spelling],
    }
    (out / "meta.json").write_text(json.dumps(meta, indent=1))


def parts(split: dict, spelling: dict, seed: int) -> dict[str, list[str]]:
    """Return training and validation conditions; without validation a tenth of the training."""
    train, val = ([spelling[n] for n in split[p] if n in spelling] for p in ("train", "val"))
    train, val = list(dict.fromkeys(train)), list(dict.fromkeys(val))
    if not val:
        order = np.random.RandomState(seed).permutation(len(train))
        val = [train[i] for i in order[: max(1, len(train) // 10)]]
    return {"train": [CTRL, *(n for n in train if n not in set(val))], "val": val}


def write_graph(folder: Path, genes: list[str], data: anndata.AnnData) -> None:
    """Write the files that GEARS would download: the perturbed genes and which are alike."""
    path = os.environ.get("PERTSCALE_GMT")
    edges = edges_of_sets(genes, Path(path)) if path else edges_of_expression(genes, data)
    edges += [(gene, gene, 1.0) for gene in genes]
    (folder / "gene2go_all.pkl").write_bytes(pickle.dumps({gene: {gene} for gene in genes}))
    (folder / "essential_all_data_pert_genes.pkl").write_bytes(pickle.dumps(genes))
    (folder / "go_essential_all").mkdir()
    table = pd.DataFrame(edges, columns=["source", "target", "importance"])
    table.to_csv(folder / "go_essential_all" / "go_essential_all.csv", index=False)


def edges_of_sets(genes: list[str], path: Path) -> list[tuple[str, str, float]]:
    """Link genes whose sets overlap by more than a tenth, as GEARS does with GO terms."""
    member: dict[str, set[int]] = {gene: set() for gene in genes}
    for i, line in enumerate(path.read_text().splitlines()):
        for gene in line.split("\t")[2:]:
            if gene in member:
                member[gene].add(i)
    edges = []
    for a in genes:
        for b in genes:
            shared = len(member[a] & member[b])
            if a != b and shared and shared / len(member[a] | member[b]) > 0.1:
                edges.append((a, b, shared / len(member[a] | member[b])))
    return edges


def edges_of_expression(genes: list[str], data: anndata.AnnData) -> list[tuple[str, str, float]]:
    """Link each gene to those it is most correlated with; genes not read out stay alone."""
    here = [gene for gene in genes if gene in data.var_names]
    with np.errstate(invalid="ignore", divide="ignore"):
        matrix = np.corrcoef(data[:, here].X.toarray().T)
    alike = np.nan_to_num(np.abs(np.atleast_2d(matrix)))
    np.fill_diagonal(alike, 0)
    return [
        (here[j], gene, float(alike[i, j]))
        for i, gene in enumerate(here)
        for j in np.argsort(-alike[i], kind="stable")[:NEIGHBOURS]
        if alike[i, j] > 0
    ]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
