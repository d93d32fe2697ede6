"""Vectors of the second paper's models: G or P of the bilinear model, input of the decoder."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import pertscale as ps
from pertscale.errors import AmbiguousInputError, InputError, NotFoundError
from tests.support.helpers import GOLDEN

GENES = [f"G{i}" for i in range(12)]


def profiles(names=("G0", "G1", "G2", "G3", "G0+G1")):
    random = np.random.default_rng(0)
    return xr.DataArray(
        random.gamma(1.0, 1.0, (len(names) + 1, len(GENES))),
        dims=("perturbation", "gene"),
        coords={"perturbation": ["control", *names], "gene": GENES},
    )


def test_scgpt_and_scfoundation_columns_are_genes_and_special_tokens_match_nothing(tmp_path):
    random = np.random.default_rng(1)
    table = pd.DataFrame(random.normal(size=(16, 10)), columns=["<pad>", "<cls>", *GENES[:8]])
    table.to_csv(tmp_path / "scgpt.tsv", sep="\t", index=False)
    found = ps.read_embedding(tmp_path / "scgpt.tsv")
    assert found.dim == 16
    model = ps.baselines.BilinearModel(genes=found, perturbations="random").fit(profiles())
    assert list(model.genes_) == GENES[:8]
    assert np.isfinite(model.predict(["G5"]).values).all()


def test_gears_graph_as_vectors_of_perturbations(tmp_path):
    import json

    golden = json.loads((GOLDEN / "adjacency_spectral_embedding.json").read_text())
    edges = pd.DataFrame(golden["edges"], columns=["source", "target", "importance"])
    edges.to_csv(tmp_path / "go_essential_all.csv", index=False)
    found = ps.embeddings.from_edges(tmp_path / "go_essential_all.csv")
    full = golden["full"]
    (key,) = [k for k in full if k.startswith("X")][:1]
    expected = np.array(full[key]).reshape(len(full["genes"]), -1)[:, :2]
    assert list(found.names) == full["genes"]
    np.testing.assert_allclose(np.abs(found.matrix), np.abs(expected), atol=1e-8)
    edges.drop(columns="importance").to_csv(tmp_path / "e.csv", index=False)
    with pytest.raises(InputError, match="importance missing"):
        ps.embeddings.from_edges(tmp_path / "e.csv")


def cells(tmp_path, *, keys=("X_uce",), name="cells.h5ad"):
    random = np.random.default_rng(2)
    labels = np.array(["ctrl", "G0+ctrl", "G1", "G1+G0", "unassigned"])[random.integers(0, 5, 400)]
    data = anndata.AnnData(
        np.zeros((400, 1), np.float32), obs=pd.DataFrame({"condition": labels}).astype(str)
    )
    for key in keys:
        data.obsm[key] = random.normal(size=(400, 6)).astype(np.float32)
    data.write_h5ad(tmp_path / name)
    return tmp_path / name, labels, data


def test_cell_embeddings_of_geneformer_uce_and_scbert(tmp_path, monkeypatch):
    path, labels, data = cells(tmp_path)
    monkeypatch.setattr("pertscale.embeddings.cells._VECTOR_BYTES", 8 * 6 * 37)
    found = ps.embeddings.from_cells(path)
    assert found.names == ("G0", "G0+G1", "G1", "control")
    for name, label in (("G0", "G0+ctrl"), ("G0+G1", "G1+G0"), ("control", "ctrl")):
        mean = data.obsm["X_uce"][labels == label].astype(np.float64).mean(axis=0)
        np.testing.assert_allclose(found.matrix[found.names.index(name)], mean, rtol=1e-12)
    decoder = ps.baselines.RidgeDecoder(embedding=found).fit(profiles())
    predicted = decoder.predict(["G0", "G0+G1", "G7"])
    assert np.isfinite(predicted.values[:2]).all()
    assert np.isnan(predicted.values[2]).all()
    coverage = found.coverage(["G0", "G0+G1", "G7"])
    assert coverage["covered"].tolist() == [True, True, False]


def test_which_vectors_has_to_be_clear(tmp_path):
    path, _, _ = cells(tmp_path, keys=("X_a", "X_b"))
    with pytest.raises(AmbiguousInputError, match="X_a, X_b"):
        ps.embeddings.from_cells(path)
    assert ps.embeddings.from_cells(path, key="X_b").dim == 6
    assert ps.embeddings.from_cells(path, key="X").dim == 1
    with pytest.raises(InputError, match="obsm/X_c is not an array"):
        ps.embeddings.from_cells(path, key="X_c")
    with pytest.raises(NotFoundError, match="there is no file"):
        ps.embeddings.from_cells(tmp_path / "none.h5ad")
    data = anndata.AnnData(np.zeros((3, 2), np.float32))
    data.write_h5ad(tmp_path / "bare.h5ad")
    with pytest.raises(InputError, match="no column of perturbations"):
        ps.embeddings.from_cells(tmp_path / "bare.h5ad")
