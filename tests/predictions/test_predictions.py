"""Reading predictions of all formats, and putting them on a screen's genes and perturbations."""

from __future__ import annotations

import json
import pickle

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import xarray as xr

import pertscale as ps
from pertscale.errors import (
    AmbiguousInputError,
    ArgumentError,
    CorruptFileError,
    InputError,
    NotFoundError,
)
from pertscale.perturbation_names import name_of
from pertscale.predictions.files import paper_folder
from tests.support.helpers import GOLDEN

GENES = ["GATA1", "HLA-A", "KLF1", "NA", "TP53"]
CONTROL = np.array([3.0, 1.0, 0.5, 2.0, 0.0])
NAMES = ["GATA1", "KLF1", "GATA1+KLF1"]
TRUTH = CONTROL + np.array([[0.5, 0, 0, 0, 0], [0, 0.25, 0, 0, 1], [0.5, 0.25, 0, 0, 1]])


def align(predictions, **more):
    return predictions.align("K562", "s", perturbations=NAMES, genes=GENES, control=CONTROL, **more)


def profiles(path, **how):
    return align(ps.read_predictions(path, **how)).profiles(NAMES)


# --- the second paper's folders -------------------------------------------------------------------


@pytest.mark.parametrize("style", ["r_style", "python_style"])
@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
def test_golden_folders(style, chunk, monkeypatch):
    monkeypatch.setattr(paper_folder, "_CHUNK", chunk)
    folder = GOLDEN / "prediction_dirs"
    expected = json.loads((folder / "expected.json").read_text())[style]
    found = ps.read_predictions(folder / style, scale="log1p_1e4")
    names = [name_of(n.replace("+ctrl", "").split("+")) for n in expected["predictions"]]
    names = [n if n != "ctrl" else "control" for n in names]
    part = found.parts[0]
    assert list(part.genes) == expected["genes"]
    wanted = [n for n in names if n != "control"]
    aligned = found.align("x", "s", perturbations=wanted, genes=part.genes, control=np.zeros(9))
    assert set(aligned.rows) == set(names)
    for name, values in zip(names, expected["predictions"].values(), strict=True):
        got = part.values[aligned.rows[name]]
        want = [np.nan if v is None else float(v) for v in values]
        np.testing.assert_array_equal(got, np.array(want, np.float32))
    lost = [*expected.get("dropped_unlabelled", []), *expected.get("not_in_split", [])]
    assert set(aligned.unmatched) == {n.replace("+ctrl", "") for n in lost}
    for name in expected.get("dropped_all_missing", []):
        assert name.replace("+ctrl", "") in part.notes[0]


def _folder(tmp_path, text, genes=GENES):
    folder = tmp_path / "model"
    folder.mkdir(exist_ok=True)
    (folder / "all_predictions.json").write_text(text)
    (folder / "gene_names.json").write_text(json.dumps(genes))
    return folder


def test_a_key_with_quotes_and_one_bare_number(tmp_path):
    folder = _folder(tmp_path, '{ "a\\"]b" : [1], "KLF1": 2.5 }', ["GATA1"])
    part = ps.read_predictions(folder, scale="log1p_1e4").parts[0]
    assert part.perturbations == ('a"]b', "KLF1")
    assert part.values.tolist() == [[1.0], [2.5]]


@pytest.mark.parametrize(
    "text", ['{"KLF1": [1, 2', '{"KLF1" [1]}', "[1]", '{"KLF1": [1, 2], ', "", '{"KLF1": [1 2]}']
)
def test_incomplete_json_is_an_error(tmp_path, text):
    with pytest.raises(CorruptFileError, match="not a complete JSON object of arrays"):
        ps.read_predictions(_folder(tmp_path, text, ["A", "B"]))


def test_folders_that_contradict_themselves(tmp_path):
    with pytest.raises(InputError, match="'KLF1' has 2 values"):
        ps.read_predictions(_folder(tmp_path, '{"KLF1": [1, 2]}'))
    with pytest.raises(InputError, match="'KLF1' holds 'x', a number is needed"):
        ps.read_predictions(_folder(tmp_path, '{"KLF1": [1, "x", 2, 3, 4]}'))
    with pytest.raises(InputError, match="no condition with a value"):
        ps.read_predictions(_folder(tmp_path, '{"KLF1": [null, null, null, null, null]}'))


# --- every other format ---------------------------------------------------------------------------


def _frame(index=("GATA1+ctrl", "KLF1", "KLF1_GATA1")):
    return pd.DataFrame(TRUTH, index=list(index), columns=GENES)


def _write(tmp_path, form):
    frame = _frame().astype(np.float32)
    path = tmp_path / f"pred.{form.split()[0]}"
    if form == "csv":
        frame.to_csv(path, index_label="condition")
    elif form == "tsv turned":
        frame.T.to_csv(path, sep="\t", index_label="gene")
    elif form == "parquet":
        frame.to_parquet(path)
    elif form == "parquet long":
        long = frame.rename_axis("pert").reset_index().melt("pert", var_name="gene")
        long.to_parquet(path)
    elif form == "csv.gz long":
        long = frame.rename_axis("condition").reset_index().melt("condition", var_name="gene")
        long.to_csv(path, index=False)
    elif form.startswith("h5ad"):
        values = TRUTH if form == "h5ad" else sp.csr_matrix(TRUTH)
        obs = pd.DataFrame({"condition": frame.index}, index=["a", "b", "c"])
        data = anndata.AnnData(values, obs=obs, var=pd.DataFrame(index=GENES))
        data.write_h5ad(path)
    elif form == "zarr":
        array = xr.DataArray(
            TRUTH,
            dims=("perturbation", "gene"),
            coords={"perturbation": list(frame.index), "gene": GENES},
        )
        array.to_dataset(name="x").to_zarr(path, zarr_format=2, consolidated=False)
    elif form == "npz":
        np.savez(path, perturbations=list(frame.index), genes=GENES, values=TRUTH)
    return path


@pytest.mark.parametrize(
    "form",
    [
        "csv",
        "tsv turned",
        "parquet",
        "parquet long",
        "csv.gz long",
        "h5ad",
        "h5ad csr",
        "zarr",
        "npz",
    ],
)
def test_every_format_gives_the_same_profiles(tmp_path, form):
    np.testing.assert_allclose(profiles(_write(tmp_path, form)), TRUTH, rtol=1e-6)


def test_dictionaries_of_gears_and_their_genes(tmp_path):
    content = {"GATA1": TRUTH[0], "KLF1": TRUTH[1], "GATA1_KLF1": TRUTH[2]}
    (tmp_path / "genes.txt").write_text("\n".join(GENES))
    path = tmp_path / "gears.pkl"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(InputError, match="pass allow_pickle=True"):
        ps.read_predictions(path, genes=GENES)
    with pytest.raises(InputError, match="pass genes="):
        ps.read_predictions(path, allow_pickle=True)
    how = {"genes": tmp_path / "genes.txt", "allow_pickle": True}
    np.testing.assert_allclose(profiles(path, **how), TRUTH, rtol=1e-6)
    np.savez(tmp_path / "gears.npz", **content)
    np.testing.assert_allclose(profiles(tmp_path / "gears.npz", genes=GENES), TRUTH, rtol=1e-6)
    with pytest.raises(InputError, match=r"'GATA1' has shape .5,., expected 2 numbers"):
        ps.read_predictions(tmp_path / "gears.npz", genes=["A", "B"])


def test_contexts_and_splits_are_told_apart(tmp_path):
    rows = [
        ("GATA1", g, v, c, s)
        for c, add in (("K562", 0), ("RPE1", 1))
        for s in ("s", "t")
        for g, v in zip(GENES, TRUTH[0] + add, strict=True)
    ]
    table = pd.DataFrame(rows, columns=["pert", "gene", "value", "cell_line", "split"])
    table.to_csv(tmp_path / "p.csv", index=False)
    found = ps.read_predictions(tmp_path / "p.csv", scale="log1p_1e4")
    assert len(found.parts) == 4
    assert found.part("RPE1", "t").values[0, 0] == pytest.approx(TRUTH[0, 0] + 1)
    assert found.part("HepG2", "s") is None
    assert align(ps.read_predictions(tmp_path / "p.csv", scale="log1p_1e4")) is not None


@pytest.mark.parametrize("form", ["parquet", "csv"])
@pytest.mark.parametrize("column", ["context", "split", "perturbation", "gene"])
def test_rows_that_do_not_say_what_they_are_of(tmp_path, column, form):
    def write():
        if form == "csv":
            table.to_csv(tmp_path / "p.csv", index=False)
        else:
            table.to_parquet(tmp_path / "p.parquet")

    path = tmp_path / f"p.{form}"
    table = pd.DataFrame(
        {
            "perturbation": ["GATA1", "KLF1"],
            "gene": ["NA", "NA"],
            "value": [0.1, 0.2],
            "context": ["K562", "K562"],
            "split": ["s", "s"],
        }
    )
    table.loc[1, column] = None
    write()
    with pytest.raises(InputError, match="empty in row 1"):
        ps.read_predictions(path, scale="delta")
    if column in ("context", "split"):  # nowhere told: for any
        table[column] = None
        write()
        [part] = ps.read_predictions(path, scale="delta").parts
        assert part.perturbations == ("GATA1", "KLF1")
        assert getattr(part, column) == ""


def test_the_key_tells_all_ways_of_reading_apart(tmp_path):
    np.savez(tmp_path / "p.npz", GATA1=np.arange(2.0), KLF1=np.arange(2.0))
    read = ps.read_predictions
    found = [
        read(tmp_path / "p.npz", scale="delta", genes=["NA", "TP53"], **more)
        for more in ({}, {"split": "s"}, {"context": "K562"}, {"control": "in_file"})
    ]
    found.append(read(tmp_path / "p.npz", scale="delta", genes=["TP53", "NA"]))
    (tmp_path / "l.csv").write_text("perturbation,gene,label\nGATA1,NA,1\nKLF1,NA,2\n")
    found += [read(tmp_path / "l.csv", codes=codes) for codes in ("synthpert", "up_first")]
    table = pd.DataFrame({"alias": ["x"], "name": ["NA"]})
    table.to_parquet(tmp_path / "a.parquet")
    table.to_csv(tmp_path / "a.csv", index=False)
    same = [
        read(tmp_path / "l.csv", codes="synthpert", aliases=aliases).key
        for aliases in (tmp_path / "a.parquet", tmp_path / "a.csv", {"x": "NA"})
    ]
    assert len({one.key for one in found} | set(same)) == len(found) + 1


def test_names_are_read_by_the_grammar_and_what_is_unknown_is_listed(tmp_path):
    frame = pd.DataFrame(
        np.vstack([TRUTH, CONTROL, CONTROL]),
        columns=GENES,
        index=["ctrl+GATA1", "KLF1+ctrl", "KLF1+GATA1", "ctrl", "ELSE"],
    )
    frame.to_csv(tmp_path / "p.csv", index_label="condition")
    aligned = align(ps.read_predictions(tmp_path / "p.csv"))
    assert set(aligned.rows) == {*NAMES, "control"}
    assert aligned.unmatched == ("ELSE",)
    coverage = aligned.coverage([*NAMES, "TP53"])
    assert coverage["n_perturbations_predicted"] == 3
    assert coverage["perturbations_missing"] == "TP53"


def test_the_same_perturbation_twice_is_an_error(tmp_path):
    frame = _frame(index=("GATA1", "KLF1+GATA1", "GATA1+KLF1"))
    frame.to_csv(tmp_path / "p.csv", index_label="condition")
    with pytest.raises(InputError, match=r"'GATA1\+KLF1' is predicted twice"):
        align(ps.read_predictions(tmp_path / "p.csv"))


def test_genes_by_name_with_aliases_and_what_is_missing_is_nan(tmp_path):
    frame = _frame().rename(columns={"TP53": "P53"}).drop(columns="HLA-A")[::-1]
    frame[["KLF1", "P53", "GATA1"]].to_csv(tmp_path / "p.csv", index_label="condition")
    got = profiles(tmp_path / "p.csv", aliases={"P53": "TP53"}, scale="log1p_1e4")
    expected = TRUTH.copy()
    expected[:, [1, 3]] = np.nan
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    with pytest.raises(InputError, match="none of the 5 genes"):
        ps.read_predictions(_write(tmp_path, "csv")).align(
            "x", "s", perturbations=NAMES, genes=["X", "Y"], control=CONTROL[:2]
        )
    with pytest.raises(InputError, match="none of the 3 conditions"):
        ps.read_predictions(_write(tmp_path, "csv")).align(
            "x", "s", perturbations=["X"], genes=GENES, control=CONTROL
        )


# --- scales ---------------------------------------------------------------------------------------


def _scaled(scale):
    if scale == "delta":
        return TRUTH - CONTROL
    if scale == "lfc":
        return np.log2((np.expm1(TRUTH) + 1e-9) / (np.expm1(CONTROL) + 1e-9))
    if scale == "counts":
        return np.expm1(TRUTH) * 0.03
    return TRUTH


@pytest.mark.parametrize("scale", ["log1p_1e4", "delta", "lfc"])
def test_every_scale_leads_to_the_same_profiles(tmp_path, scale):
    frame = pd.DataFrame(_scaled(scale), index=NAMES, columns=GENES)
    frame.to_csv(tmp_path / "p.csv", index_label="condition")
    np.testing.assert_allclose(profiles(tmp_path / "p.csv", scale=scale), TRUTH, atol=1e-5)


def _realistic(seed=0):
    random = np.random.default_rng(seed)
    genes = [f"G{i}" for i in range(400)]
    level = random.gamma(0.5, 1.0, len(genes))
    control = np.log1p(1e4 * level / level.sum())
    truth = control * random.normal(1, 0.05, (3, len(genes)))
    return genes, control, truth


def test_counts_are_scaled_and_both_are_proved_against_the_control(tmp_path):
    genes, control, truth = _realistic()
    counts = np.expm1(truth) * np.array([[0.5], [2.0], [0.01]])
    for values in (truth, counts):
        frame = pd.DataFrame(values, index=NAMES, columns=genes)
        frame.to_csv(tmp_path / "p.csv", index_label="condition")
        found = ps.read_predictions(tmp_path / "p.csv")
        aligned = found.align("x", "s", perturbations=NAMES, genes=genes, control=control)
        assert aligned.proved_scale() == ("counts" if values is counts else "log1p_1e4")
        total = np.expm1(truth).sum(axis=1, keepdims=True)
        want = truth if values is truth else np.log1p(np.expm1(truth) / total * 1e4)
        np.testing.assert_allclose(aligned.profiles(NAMES), want, atol=1e-4)


def _cells(spread: float, n_genes: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Return counts of controls, and of cells of each of NAMES; most genes are hardly expressed."""
    random = np.random.default_rng(0)
    level = np.exp(random.normal(0, spread, n_genes))
    level *= 500 / level.sum()
    effects = np.where(random.random((3, n_genes)) < 0.1, 2.0, 1.0)
    control = random.poisson(level, (200, n_genes))
    return control, random.poisson(level * effects[:, None], (3, 60, n_genes))


def _per(counts: np.ndarray, total: float) -> np.ndarray:
    """Return profiles: means over cells of log1p of counts per `total`."""
    return np.log1p(counts / counts.sum(axis=-1, keepdims=True) * total).mean(axis=-2)


@pytest.mark.parametrize("total", [500, 5_000, 20_000, 50_000, 1_000_000])
def test_profiles_per_another_total_are_refused(tmp_path, total):
    control, cells = _cells(2.2)
    genes = [f"G{i}" for i in range(control.shape[1])]
    where = {"perturbations": NAMES, "genes": genes, "control": _per(control, 1e4)}
    path = tmp_path / "p.csv"
    pd.DataFrame(_per(cells, total), NAMES, genes).to_csv(path, index_label="condition")
    found = ps.read_predictions(path).align("x", "s", **where)
    with pytest.raises(InputError, match=r"as log1p of counts per [\d,]+.*per 10,000:"):
        found.profiles(NAMES)
    declared = ps.read_predictions(path, scale="log1p_1e4").align("x", "s", **where)
    np.testing.assert_allclose(declared.profiles(NAMES), _per(cells, total), rtol=1e-5)
    assert "times as high as in the control" in declared.coverage(NAMES)["note"]
    pd.DataFrame(_per(cells, 1e4), NAMES, genes).to_csv(path, index_label="condition")
    proved = ps.read_predictions(path).align("x", "s", **where)
    np.testing.assert_allclose(proved.profiles(NAMES), _per(cells, 1e4), rtol=1e-5)
    assert proved.coverage(NAMES)["note"] == "read as log1p_1e4, proved against the control"


@pytest.mark.parametrize("total", [500, 1_000_000])
def test_logarithms_of_evenly_expressed_genes_are_no_counts(tmp_path, total):
    control, cells = _cells(0.02)
    genes = [f"G{i}" for i in range(control.shape[1])]
    path = tmp_path / "p.csv"
    pd.DataFrame(_per(cells, total), NAMES, genes).to_csv(path, index_label="condition")
    found = ps.read_predictions(path).align(
        "x", "s", perturbations=NAMES, genes=genes, control=_per(control, 1e4)
    )
    with pytest.raises(InputError, match=r"as counts .*and as log1p of counts per"):
        found.profiles(NAMES)


def test_counts_of_one_perturbation_do_not_depend_on_the_others(tmp_path):
    """Each is scaled to the share of the genes that it has itself."""
    level = np.expm1(CONTROL)
    values = np.stack([level, level, level])
    values[0, 2:] = np.nan
    pd.DataFrame(values, NAMES, GENES).to_csv(tmp_path / "c.csv", index_label="condition")
    aligned = align(ps.read_predictions(tmp_path / "c.csv", scale="counts"))
    together, alone = aligned.profiles(NAMES), aligned.profiles(NAMES[:1])
    np.testing.assert_array_equal(together[:1], alone)
    scaled = np.log1p(level / level.sum() * 1e4)
    np.testing.assert_allclose(together[1], scaled, atol=1e-5)
    share = level[:2].sum() / level.sum()
    np.testing.assert_allclose(alone[0, :2], np.log1p(level[:2] / level[:2].sum() * 1e4 * share))


def test_a_scale_that_can_not_be_proved_has_to_be_declared(tmp_path):
    genes, control, truth = _realistic()
    delta = truth - control
    frame = pd.DataFrame(delta, index=NAMES, columns=genes)
    frame.to_csv(tmp_path / "p.csv", index_label="condition")
    frame.abs().to_csv(tmp_path / "q.csv", index_label="condition")
    where = {"perturbations": NAMES, "genes": genes, "control": control}
    for name in ("p.csv", "q.csv"):
        with pytest.raises(InputError, match="can't be proved"):
            ps.read_predictions(tmp_path / name).align("x", "s", **where).profiles(NAMES)
    declared = ps.read_predictions(tmp_path / "p.csv", scale="log1p_1e4")
    with pytest.raises(InputError, match="scale='log1p_1e4' can't have"):
        declared.align("x", "s", **where).profiles(NAMES)


def test_logarithms_that_miss_zero_by_a_little_are_taken_as_they_are(tmp_path):
    genes, control, truth = _realistic()
    truth[:, truth.mean(axis=0) < 0.1] -= 0.1
    frame = pd.DataFrame(truth, index=NAMES, columns=genes)
    frame.to_csv(tmp_path / "p.csv", index_label="condition")
    found = ps.read_predictions(tmp_path / "p.csv")
    aligned = found.align("x", "s", perturbations=NAMES, genes=genes, control=control)
    assert aligned.proved_scale() == "log1p_1e4"
    np.testing.assert_allclose(aligned.profiles(NAMES), truth, rtol=1e-5, atol=1e-6)


def test_declared_scales_that_the_values_contradict(tmp_path):
    frame = pd.DataFrame(TRUTH * 100, index=NAMES, columns=GENES)
    frame.to_csv(tmp_path / "p.csv", index_label="condition")
    with pytest.raises(InputError, match="scale='log1p_1e4' can't have"):
        profiles(tmp_path / "p.csv", scale="log1p_1e4")
    with pytest.raises(ArgumentError, match="scale='log' is not one of"):
        ps.read_predictions(tmp_path / "p.csv", scale="log")
    with pytest.raises(ArgumentError, match="control='mine' is not"):
        ps.read_predictions(tmp_path / "p.csv", control="mine")


def test_own_controls_count_only_if_asked_for(tmp_path):
    shifted = np.vstack([TRUTH + 0.5, CONTROL + 0.5])
    frame = pd.DataFrame(shifted, index=[*NAMES, "ctrl"], columns=GENES)
    frame.to_csv(tmp_path / "p.csv", index_label="condition")
    got = profiles(tmp_path / "p.csv", scale="log1p_1e4")
    np.testing.assert_allclose(got, TRUTH + 0.5, rtol=1e-6)
    got = profiles(tmp_path / "p.csv", scale="log1p_1e4", control="in_file")
    np.testing.assert_allclose(got, TRUTH, atol=1e-6)
    frame.drop(index="ctrl").to_csv(tmp_path / "q.csv", index_label="condition")
    with pytest.raises(InputError, match="there is no control among the conditions"):
        profiles(tmp_path / "q.csv", scale="log1p_1e4", control="in_file")


# --- classes --------------------------------------------------------------------------------------


def test_labels_and_probabilities(tmp_path):
    labels = pd.DataFrame(
        {"pert": ["GATA1", "GATA1", "KLF1"], "gene": ["TP53", "NA", "NA"], "label": [1, 2, 0]}
    )
    labels.to_csv(tmp_path / "l.csv", index=False)
    found, scores = align(ps.read_predictions(tmp_path / "l.csv", codes="synthpert")).classes(NAMES)
    assert found[0].tolist() == [-128, -128, -128, 1, -1]
    assert found[1, 3] == 0
    assert (found[2] == -128).all()
    assert scores[0, 4].tolist() == [1, 0, 0]
    assert np.isnan(scores[2]).all()
    table = pd.DataFrame({"pert": ["GATA1", "KLF1"], "gene": ["TP53", "NA"]})
    table = table.assign(p_down=[0.7, 0.4], p_non_de=[0.2, 0.4], p_up=[0.1, 0.2])
    table.to_parquet(tmp_path / "p.parquet")
    found, scores = align(ps.read_predictions(tmp_path / "p.parquet")).classes(NAMES)
    assert found[0, 4] == -1
    assert found[1, 3] == 0  # a tie goes to the smallest code (method E2)
    assert scores[0, 4].tolist() == pytest.approx([0.7, 0.2, 0.1])
    table.assign(p_up=2).to_parquet(tmp_path / "p.parquet")
    with pytest.raises(InputError, match="class probabilities of row 0"):
        ps.read_predictions(tmp_path / "p.parquet")
    with pytest.raises(ArgumentError, match="is for expression"):
        ps.read_predictions(tmp_path / "l.csv", codes="synthpert", scale="delta")


# --- bad input ------------------------------------------------------------------------------------


def test_what_is_no_prediction(tmp_path):
    with pytest.raises(NotFoundError, match="there is no file or folder"):
        ps.read_predictions(tmp_path / "nothing.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="a folder without predictions"):
        ps.read_predictions(tmp_path / "empty")
    (tmp_path / "a.docx").write_text("")
    with pytest.raises(InputError, match="a format that is not known"):
        ps.read_predictions(tmp_path / "a.docx")
    pd.DataFrame({"pert": ["A"], "gene": ["B"], "x": [1]}).to_csv(tmp_path / "x.csv")
    with pytest.raises(InputError, match="no column of predictions"):
        ps.read_predictions(tmp_path / "x.csv")
    table = pd.DataFrame({"pert": ["A", "A"], "gene": ["B", "B"], "value": [1, 2]})
    table.to_csv(tmp_path / "x.csv", index=False)
    with pytest.raises(InputError, match=r"pair \(A, B\) is predicted twice"):
        ps.read_predictions(tmp_path / "x.csv")
    pd.DataFrame({"condition": ["A"], "G": ["high"]}).to_csv(tmp_path / "x.csv", index=False)
    with pytest.raises(InputError, match="column 'G' has 'high' in row 0"):
        ps.read_predictions(tmp_path / "x.csv")
    with pytest.raises(ArgumentError, match="genes= is for h5ad and dictionaries"):
        ps.read_predictions(_write(tmp_path, "csv"), genes=GENES)


def test_two_variables_of_a_dataset_have_to_be_chosen_from(tmp_path):
    array = xr.DataArray(
        TRUTH, dims=("perturbation", "gene"), coords={"perturbation": NAMES, "gene": GENES}
    )
    both = xr.Dataset({"a": array, "b": array + 1})
    both.to_zarr(tmp_path / "p.zarr", zarr_format=2, consolidated=False)
    with pytest.raises(AmbiguousInputError, match="a, b"):
        ps.read_predictions(tmp_path / "p.zarr")
    got = profiles(tmp_path / "p.zarr", layer="b", scale="log1p_1e4")
    np.testing.assert_allclose(got, TRUTH + 1, rtol=1e-6)


def test_reprs_escape_names(tmp_path):
    frame = pd.DataFrame(TRUTH, index=NAMES, columns=GENES)
    frame.to_csv(tmp_path / "<b>.csv", index_label="condition")
    found = ps.read_predictions(tmp_path / "<b>.csv", context="<i>")
    assert "3 x 5" in repr(found)
    assert "<b>" not in found._repr_html_()


def test_cut_off_tables_and_archives(tmp_path):
    path = _write(tmp_path, "csv")
    path.write_text(path.read_text()[:-20])
    with pytest.raises(CorruptFileError, match="line 4 has 2 fields, the lines before it have 6"):
        ps.read_predictions(path)
    path = _write(tmp_path, "npz")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(CorruptFileError, match=r"pred\.npz"):
        ps.read_predictions(path)
    with pytest.raises(ArgumentError, match="codes='synthper' is not one of"):
        ps.read_predictions(_write(tmp_path, "parquet long"), codes="synthper")
