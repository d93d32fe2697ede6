"""Models of expression, against the golden files and plain formulas (method H, K2)."""

from __future__ import annotations

import json

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from sklearn.linear_model import Ridge

from pertscale import embeddings
from pertscale.baselines import Additive, BilinearModel, MeanExpression, NoChange, RidgeDecoder
from pertscale.baselines.expression import (
    base,
)
from pertscale.embeddings import Embedding, components
from pertscale.errors import ArgumentError, InputError, NotFittedError
from tests.support.helpers import GOLDEN, real_data

INPUTS = json.loads((GOLDEN / "linear_model_inputs.json").read_text())
EXPECTED = json.loads((GOLDEN / "linear_model_expected.json").read_text())
CONDITIONS = ["control" if c == "ctrl" else c for c in INPUTS["conditions"]]


def as_profiles(genes_by_conditions, conditions, genes):
    names = ["control" if c == "ctrl" else c for c in conditions]
    return xr.DataArray(
        np.array(genes_by_conditions).T,
        dims=("perturbation", "gene"),
        coords={"perturbation": names, "gene": genes},
    )


PROFILES = as_profiles(INPUTS["pseudobulk"], INPUTS["conditions"], INPUTS["genes"])
TRAIN = PROFILES.sel(
    perturbation=[
        n
        for n, c in zip(CONDITIONS, INPUTS["conditions"], strict=True)
        if INPUTS["role"][c] == "train"
    ]
)


def profiles_of(names, n_genes=20, seed=0):
    random = np.random.default_rng(seed)
    genes = [f"G{i}" for i in range(n_genes)]
    return as_profiles(random.gamma(2, 1, (n_genes, len(names))), names, genes)


# --- simple ---------------------------------------------------------------------------------------


def test_no_change_and_means():
    control = TRAIN.sel(perturbation="control").values
    np.testing.assert_array_equal(NoChange().fit(TRAIN).predict(["X", "Y"]).values, [control] * 2)
    predicted = MeanExpression().fit(TRAIN).predict(["X"])
    np.testing.assert_allclose(predicted.values[0], EXPECTED["mean"], rtol=1e-9)
    others = TRAIN.drop_sel(perturbation="control").values.mean(axis=0)
    found = MeanExpression(over="perturbations").fit(TRAIN).predict(["X"]).values[0]
    np.testing.assert_allclose(found, others)
    with pytest.raises(ArgumentError, match="over="):
        MeanExpression(over="cells").fit(TRAIN)


def test_additive_for_any_number_of_genes():
    profiles = profiles_of(["control", "A", "B", "C", "A+B"])
    model = Additive().fit(profiles)
    value = {n: profiles.sel(perturbation=n).values for n in ("control", "A", "B", "C")}
    names = ["A+B", "A+B+C", "A", "control", "A+D", "D"]
    found = model.predict(names).values
    expected = [
        value["A"] + value["B"] - value["control"],
        value["A"] + value["B"] + value["C"] - 2 * value["control"],
        value["A"],
        value["control"],
    ]
    np.testing.assert_allclose(found[:4], expected)
    assert np.isnan(found[4:]).all()


def test_additive_counts_two_guides_of_a_gene_once():
    names = ["control", "A_1", "A_2", "B_1", "C"]
    profiles = profiles_of(names)
    of = {"A_1": ["A"], "A_2": ["A"], "B_1": ["B"], "C": ["C"], "control": []}
    held_out = {"A_1+A_2": ["A"], "A_1+B_2": ["A", "B"], "A_3+C": ["A", "C"], "A_1+D_1": ["A", "D"]}
    found = Additive(targets=of | held_out).fit(profiles).predict([*held_out]).values
    value = {n: profiles.sel(perturbation=n).values for n in names}
    mean = (value["A_1"] + value["A_2"]) / 2
    np.testing.assert_allclose(found[0], mean)
    np.testing.assert_allclose(found[1], value["A_1"] + value["B_1"] - value["control"])
    np.testing.assert_allclose(found[2], mean + value["C"] - value["control"])
    assert np.isnan(found[3]).all()


def test_additive_is_a_bilinear_model_of_doubles():
    """G of single profiles, P of memberships, W the identity, intercept -y0 (method H8)."""
    profiles = profiles_of(["control", "A", "B", "C"])
    singles = profiles.sel(perturbation=["A", "B", "C"]).values
    membership = np.array([[1, 1, 0], [0, 1, 1]])
    control = profiles.sel(perturbation="control").values
    bilinear = (singles.T @ np.eye(3) @ membership.T).T - control
    np.testing.assert_allclose(Additive().fit(profiles).predict(["A+B", "B+C"]).values, bilinear)


def test_the_doubles_of_norman_have_the_stated_errors():
    import anndata

    adata = anndata.read_h5ad(real_data("norman_mcfaline/devel.h5ad"))
    adata = adata[(adata.obs["dataset"] == "norman19").to_numpy()]
    labels = adata.obs["condition"].astype(str).to_numpy()
    X = adata.X.toarray() if hasattr(adata.X, "toarray") else np.asarray(adata.X)
    names = sorted(set(labels))
    means = np.stack([X[labels == n].mean(axis=0, dtype=np.float64) for n in names])
    profiles = as_profiles(means.T, names, list(adata.var_names))
    there = set(names)
    doubles = [n for n in names if "+" in n and there.issuperset(n.split("+"))]
    assert len(doubles) == 5
    train = profiles.sel(perturbation=[n for n in names if n not in doubles])
    truth = profiles.sel(perturbation=doubles).values

    def error(model):
        return np.linalg.norm(model.fit(train).predict(doubles).values - truth, axis=1).mean()

    assert error(Additive()) == pytest.approx(0.446, abs=5e-4)
    assert error(NoChange()) == pytest.approx(1.374, abs=5e-4)
    assert error(MeanExpression(over="perturbations")) == pytest.approx(1.388, abs=5e-4)
    assert error(MeanExpression()) == pytest.approx(1.385, abs=5e-4)


# --- bilinear -------------------------------------------------------------------------------------


def golden_embeddings():
    reference = as_profiles(INPUTS["ref_pseudobulk"], INPUTS["ref_conditions"], INPUTS["ref_genes"])
    external = Embedding(
        "external", tuple(INPUTS["ext_gene_names"]), np.array(INPUTS["ext_gene_embedding"])
    )
    return {
        "selftrained": {},
        "transferP": {"perturbations": embeddings.from_screen(reference, dim=INPUTS["pca_dim"])},
        "externalG": {"genes": external},
    }


@pytest.mark.parametrize("case", ["selftrained", "transferP", "externalG"])
def test_bilinear_model_is_the_authors(case):
    want = EXPECTED[case]
    model = BilinearModel(dim=INPUTS["pca_dim"], ridge=INPUTS["ridge"], **golden_embeddings()[case])
    found = model.fit(TRAIN).predict(CONDITIONS)
    assert list(found["gene"].values) == want["genes"]
    predicted = np.array(want["pred"], float).T
    np.testing.assert_allclose(found.values, predicted, rtol=1e-9, atol=1e-11)
    assert np.isnan(found.values).any() == np.isnan(predicted).any()
    np.testing.assert_allclose(model.center_, want["center"], rtol=1e-9, atol=1e-11)
    used = {"control" if n == "ctrl" else n for n in want["train_used"]}
    assert set(model.matched_) == used


def test_principal_scores_are_the_authors():
    found = components.principal_scores(TRAIN, INPUTS["pca_dim"])
    np.testing.assert_allclose(np.abs(found), EXPECTED["G_abs"], rtol=1e-8, atol=1e-10)


def test_out_of_core_components_give_the_same_predictions(monkeypatch):
    names = ["control", *(f"G{i}" for i in range(12))]
    profiles = profiles_of(names, n_genes=90)
    direct = BilinearModel(dim=4).fit(profiles).predict(["G20", "G3"])
    lazy = profiles.copy(data=da.from_array(profiles.values, chunks=(5, 30)))
    monkeypatch.setattr(components, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(components, "_BLOCK_BYTES", 13 * 8 * 20)
    found = BilinearModel(dim=4).fit(lazy).predict(["G20", "G3"])
    np.testing.assert_allclose(found.values, direct.values, rtol=1e-9)
    with pytest.raises(ArgumentError, match="dim has to be from 1 to 12"):
        BilinearModel(dim=13).fit(lazy)


def test_special_embeddings():
    profiles = profiles_of(["control", "G1", "G2", "G3"], n_genes=8)
    train = profiles.values - profiles.values[0]
    center, level = train.mean(axis=0), profiles.values[0] + train.mean(axis=0)
    names = ["G1", "G7", "elsewhere"]
    zero = BilinearModel(genes="zero", perturbations="zero").fit(profiles).predict(names)
    np.testing.assert_allclose(zero.values, [level] * 3)
    identity = BilinearModel(genes="identity", perturbations="identity", ridge=0.1).fit(profiles)
    found = identity.predict(names).values
    np.testing.assert_allclose(found[0], level + (train[1] - center) / 1.1**2)
    np.testing.assert_allclose(found[1:], [level] * 2)
    one, same, other = (
        BilinearModel(genes="random", perturbations="random", seed=s)
        .fit(profiles)
        .predict(names)
        .values
        for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert np.isfinite(one).all()
    assert not np.allclose(one, other)
    assert BilinearModel(dim=2).fit(profiles).predict(["control"]).notnull().all()


def test_duplicated_genes_count_once():
    profiles = profiles_of(["control", "G1", "G2", "G3"], n_genes=8)
    twice = profiles.assign_coords(gene=["G0", "G1", "G1", "G3", "G4", "G5", "G6", "G7"])
    model = BilinearModel(dim=2).fit(twice)
    assert model.matched_ == ["control", "G1", "G3"]
    first = components.principal_scores(twice, 2)[1]
    np.testing.assert_array_equal(model._vectors["G1"], first)


# --- decoder --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [3, 40])
def test_ridge_decoder_is_scikit_learns(dim):
    names = ["control", *(f"G{i}" for i in range(12))]
    profiles = profiles_of(names)
    vectors = np.random.default_rng(1).normal(size=(14, dim))
    embedding = Embedding("cells", ("ctrl", *names[1:], "new"), vectors)
    expected = Ridge(alpha=2.0).fit(vectors[:13], profiles.values)
    model = RidgeDecoder(embedding=embedding, alpha=2.0).fit(profiles)
    found = model.predict(["new", "G3", "unknown"]).values
    np.testing.assert_allclose(found[:2], expected.predict(vectors[[13, 4]]), rtol=1e-9)
    assert np.isnan(found[2]).all()


def test_blocks_do_not_matter(monkeypatch):
    names = ["control", *(f"G{i}" for i in range(12)), "G1+G2"]
    profiles = profiles_of(names)
    embedding = Embedding("cells", tuple(names), np.random.default_rng(1).normal(size=(14, 3)))
    models = {
        "mean": MeanExpression(),
        "additive": Additive(),
        "linear": BilinearModel(dim=3),
        "identity": BilinearModel(genes="identity"),
        "decoder": RidgeDecoder(embedding=embedding),
    }
    asked = ["G3", "G1+G5", "G2+G3+G4", "control"]
    whole = {name: model.fit(profiles).predict(asked).values for name, model in models.items()}
    monkeypatch.setattr(base, "BLOCK_BYTES", 8 * 20 * 3)
    lazy = profiles.copy(data=da.from_array(profiles.values, chunks=(4, 20)))
    for name, model in models.items():
        found = model.fit(lazy).predict(asked).values
        np.testing.assert_allclose(found, whole[name], rtol=1e-9, err_msg=name)


# --- errors ---------------------------------------------------------------------------------------


def test_what_models_refuse():
    profiles = profiles_of(["control", "G1", "G2"])
    with pytest.raises(NotFittedError):
        NoChange().predict(["G1"])
    with pytest.raises(InputError, match="no row 'control'"):
        NoChange().fit(profiles.sel(perturbation=["G1"]))
    with pytest.raises(InputError, match="'G1' twice"):
        NoChange().fit(profiles.sel(perturbation=["control", "G1", "G1"]))
    with pytest.raises(InputError, match="dimensions"):
        NoChange().fit(profiles.rename(gene="x"))
    holed = profiles.copy()
    holed[1, 3] = np.nan
    with pytest.raises(InputError, match="'G1' is nan for gene 'G3'"):
        MeanExpression().fit(holed)
    with pytest.raises(ArgumentError, match="dim has to be from 1 to 2"):
        BilinearModel(dim=10).fit(profiles)
    with pytest.raises(ArgumentError, match="genes='pca'"):
        BilinearModel(genes="pca").fit(profiles)
    with pytest.raises(ArgumentError, match="ridge"):
        BilinearModel(dim=1, ridge=0).fit(profiles)
    stranger = Embedding("stranger", ("X", "Y"), np.eye(2))
    with pytest.raises(InputError, match="0 of 20 genes"):
        BilinearModel(dim=1, genes=stranger).fit(profiles)
    with pytest.raises(InputError, match="vectors for 0"):
        RidgeDecoder(embedding=stranger).fit(profiles)


def test_models_say_what_they_were():
    assert BilinearModel(genes=Embedding("mine", ("A",), np.ones((1, 1)))).fitted_params() == {
        "dim": 10,
        "ridge": 0.1,
        "genes": "mine",
        "perturbations": "training",
        "seed": 0,
    }


def test_the_bilinear_model_takes_as_many_components_as_there_are():
    profiles = profiles_of(["control", "G1", "G2", "G5"])
    model = BilinearModel().fit(profiles)
    asked = BilinearModel(dim=3).fit(profiles)
    np.testing.assert_array_equal(model.predict(["G3"]), asked.predict(["G3"]))
    assert model.fitted_params()["dim"] == 3
    assert model.fitted_params()["note"] == "3 principal components, not 10: there are no more"
    assert "note" not in asked.fitted_params()
    many = profiles_of(["control", *(f"G{i}" for i in range(12))])
    assert "note" not in BilinearModel().fit(many).fitted_params()


def test_a_guide_has_the_vector_of_its_gene():
    guides = profiles_of(["control", "G1", "G2", "G5"]).assign_coords(
        perturbation=["control", "G1_1", "G2_2", "G5_1"]
    )
    genes = guides.assign_coords(perturbation=["control", "G1", "G2", "G5"])
    expected = BilinearModel(dim=2).fit(genes).predict(["G3"])
    np.testing.assert_array_equal(BilinearModel(dim=2).fit(guides).predict(["G3_2"]), expected)
