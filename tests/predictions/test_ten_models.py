"""The ten models of the two papers, each by a small file in its real output format.

The README's table says how; what is done here is what stands there.
"""

from __future__ import annotations

import json
import pickle

import anndata
import numpy as np
import pandas as pd
import pytest

import pertscale as ps
from pertscale.evaluation import at_operating_point
from tests.support.screens import draw_counts, write_h5ad

CONTEXT, SPLIT = "alpha", "holdout-seed0"


pytestmark = [pytest.mark.usefixtures("without_report"), pytest.mark.once]


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A screen, its benchmark, and the observed profiles."""
    folder = tmp_path_factory.mktemp("ten")
    counts, perturbation, _ = draw_counts(n_cells=2000, n_genes=120, n_perturbations=14, seed=4)
    obs = {"perturbation": perturbation, "cell_line": np.full(len(perturbation), CONTEXT)}
    source = write_h5ad(folder / "s.h5ad", counts, obs)
    store = ps.io.ingest(source, folder / "s.zarr", quiet=True)
    out = folder / "run"
    how = {
        "out": out,
        "tasks": ["within", "single"],
        "methods": ["majority_vote", "mean"],
        "settings": ["full"],
        "seed": 0,
        "controls": "shared",  # so that a perfect prediction has a correlation of 1
        "quiet": True,
    }
    result = ps.run_benchmark(store, **how)
    profiles = result.pseudobulk["mean_log1p"]
    truth = pd.DataFrame(
        profiles.values, list(profiles["perturbation"].values), list(profiles["gene"].values)
    )
    return store, source, how, truth, list(result.splits[CONTEXT][SPLIT].test)


def _scored(given, name, *, predictions=None, models=None):
    store, _, how, _, _ = given
    result = ps.run_benchmark(store, **how, predictions=predictions, models=models)
    mine = at_operating_point(result.scores).query("method == @name and level == 'overall'")
    assert len(mine)
    return mine.set_index(["task", "metric"])["value"]


def _folder(path, rows, genes):
    """Write the second paper's directory."""
    path.mkdir()
    (path / "gene_names.json").write_text(json.dumps(genes))
    (path / "all_predictions.json").write_text(json.dumps(rows, indent=4))
    return path


def test_state(given, tmp_path):
    """``state tx predict`` writes single cells, its genes numbered from 0."""
    data = anndata.read_h5ad(given[1])
    genes = list(data.var_names)
    values = data.X.toarray()
    values = np.log1p(values / values.sum(axis=1, keepdims=True) * 1e4).astype(np.float32)
    obs = data.obs.rename(columns={"perturbation": "target_gene", "cell_line": "cell_type"})
    anndata.AnnData(values, obs, pd.DataFrame(index=map(str, range(len(genes))))).write_h5ad(
        tmp_path / "adata_pred.h5ad"
    )
    with pytest.raises(ps.errors.InputError, match="numbers its genes from 0"):
        _scored(given, "STATE", predictions={"STATE": tmp_path / "adata_pred.h5ad"})
    found = ps.read_predictions(tmp_path / "adata_pred.h5ad", genes=genes)
    scores = _scored(given, "STATE", predictions={"STATE": found})
    assert scores["within", "accuracy"] > 0.995
    assert scores["single", "pearson_delta"] > 0.99


def test_synthpert(given, tmp_path):
    """A csv with the fused codes 0 none, 1 down, 2 up."""
    pairs = [(p, g, (i + j) % 3) for i, p in enumerate(given[4]) for j, g in enumerate(given[3])]
    table = pd.DataFrame(pairs, columns=["pert", "gene", "label"])
    table.to_csv(tmp_path / "synthpert.csv", index=False)
    found = ps.read_predictions(tmp_path / "synthpert.csv", codes="synthpert")
    assert (
        0 < _scored(given, "SynthPert", predictions={"SynthPert": found})["within", "macro_f1"] < 1
    )


def test_summer(given, tmp_path):
    """Answers of a language model in words, or its probabilities."""
    pairs = [(p, g) for p in given[4] for g in given[3]]
    table = pd.DataFrame(pairs, columns=["pert", "gene"])
    table["label"] = "not differentially expressed"
    table.to_csv(tmp_path / "summer.csv", index=False)
    scores = _scored(given, "SUMMER", predictions={"SUMMER": tmp_path / "summer.csv"})
    assert scores["within", "balanced_accuracy"] == pytest.approx(1 / 3)


def test_gears(given, tmp_path):
    """``gears_model.predict`` returns a dictionary 'A' or 'A_B' → vector in ``gene_list`` order."""
    truth, names = given[3], given[4]
    content = {name: truth.loc[name].to_numpy() - 0.01 for name in names}  # misses zero a little
    (tmp_path / "gears.pkl").write_bytes(pickle.dumps(content))
    found = ps.read_predictions(tmp_path / "gears.pkl", genes=list(truth), allow_pickle=True)
    scores = _scored(given, "GEARS", predictions={"GEARS": found})
    assert scores["single", "pearson_delta"] > 0.999


@pytest.mark.parametrize("model", ["CPA", "scGPT", "scFoundation", "Geneformer", "scBERT", "UCE"])
def test_folders_of_the_second_paper(given, tmp_path, model):
    truth, names = given[3], given[4]
    joined = {"CPA": "{}+ctrl", "scGPT": "{}", "scFoundation": "{}"}.get(model, "{}+ctrl")
    rows = {joined.format(n): [*map(float, truth.loc[n])] for n in names}
    rows["" if model in ("scGPT", "scFoundation") else "ctrl"] = [0.0] * truth.shape[1]
    path = _folder(tmp_path / model, rows, list(truth))
    scores = _scored(given, model, predictions={model: path})
    assert scores["single", "l2"] == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("model", ["Geneformer", "scBERT", "UCE"])
def test_cell_embeddings_through_the_decoder(given, tmp_path, model):
    """A vector per cell in obsm; the ridge decoder is fitted on condition means (method K2)."""
    labels = anndata.read_h5ad(given[1]).obs["perturbation"].astype(str)
    random = np.random.default_rng(0)
    data = anndata.AnnData(
        np.zeros((len(labels), 1), np.float32),
        obs=pd.DataFrame({"condition": labels.replace("non-targeting", "ctrl")}),
    )
    data.obsm[f"X_{model.lower()}"] = random.normal(size=(len(labels), 16)).astype(np.float32)
    data.write_h5ad(tmp_path / "cells.h5ad")
    embedding = ps.embeddings.from_cells(tmp_path / "cells.h5ad")
    decoder = ps.baselines.RidgeDecoder(embedding=embedding)
    store, _, how, _, _ = given
    result = ps.run_benchmark(store, **how, models={model: decoder})
    assert (result.scores["method"] == model).any()
    row = result.coverage[result.coverage["name"] == f"{model}: cells"].iloc[0]
    assert row["n_perturbations_predicted"] == row["n_perturbations"]


@pytest.mark.parametrize("model", ["scGPT", "scFoundation", "GEARS"])
def test_vectors_in_the_linear_model(given, tmp_path, model):
    """Gene vectors of scGPT and scFoundation as G, GEARS' ontology graph as P (method H5, H7)."""
    genes = list(given[3])
    random = np.random.default_rng(1)
    if model == "GEARS":
        edges = [(a, b, float(random.random())) for a in genes[:40] for b in genes[:40]]
        table = pd.DataFrame(edges, columns=["source", "target", "importance"])
        table.to_csv(tmp_path / "go_essential_all.csv", index=False)
        vectors = ps.embeddings.from_edges(tmp_path / "go_essential_all.csv")
        linear = ps.baselines.BilinearModel(dim=3, perturbations=vectors)
    else:
        table = pd.DataFrame(random.normal(size=(8, len(genes))), columns=genes)
        table.to_csv(tmp_path / "emb.tsv", sep="\t", index=False)
        vectors = ps.read_embedding(tmp_path / "emb.tsv")
        linear = ps.baselines.BilinearModel(dim=3, genes=vectors)
    scores = _scored(given, "linear_with", models={"linear_with": linear})
    assert scores["single", "l2"] > 0
