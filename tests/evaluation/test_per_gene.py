"""AUROC within genes against scikit-learn, and tables of labels that other tools wrote."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

import pertscale as ps
from pertscale.errors import ArgumentError, CorruptFileError, InputError, NotFoundError
from pertscale.evaluation.per_gene import auroc_by_gene, evaluate_per_gene


def _case(seed: int, *, n: int = 40, genes: int = 30) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    truth = random.choice([-1, 0, 1, -128], (n, genes), p=[0.2, 0.5, 0.2, 0.1]).astype(np.int8)
    truth[:, 0] = 0  # a gene that never changes
    scores = random.dirichlet(np.ones(3), (n, genes)).round(1).astype(np.float32)  # with ties
    return truth, scores


@pytest.mark.parametrize("seed", range(3))
def test_areas_equal_those_of_scikit_learn(seed: int) -> None:
    truth, scores = _case(seed)
    changed, upwards = auroc_by_gene(truth, scores)
    assert np.isnan(changed[0])
    assert np.isnan(upwards[0])
    s = scores.astype(np.float64)
    for g in range(1, truth.shape[1]):
        tested = truth[:, g] != -128
        expected = roc_auc_score(truth[tested, g] != 0, 1 - s[tested, g, 1])
        assert changed[g] == pytest.approx(expected, abs=1e-12)
        de = tested & (truth[:, g] != 0)
        total = s[de, g, 2] + s[de, g, 0]
        direction = np.where(total > 0, s[de, g, 2] / np.where(total > 0, total, 1), 0.5)
        expected = roc_auc_score(truth[de, g] == 1, direction)
        assert upwards[g] == pytest.approx(expected, abs=1e-12)


def test_dask_gives_the_same_whatever_the_chunks() -> None:
    truth, scores = _case(7)
    lazy = da.from_array(truth, chunks=(13, 7)), da.from_array(scores, chunks=(11, 4, 3))
    for mine, theirs in zip(auroc_by_gene(*lazy), auroc_by_gene(truth, scores), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_means_leave_out_genes_of_one_class_and_missing_predictions_rank_last() -> None:
    truth = np.array([[1, 0], [0, 0], [-1, 0]], np.int8)
    scores = np.full((3, 2, 3), np.nan, np.float32)
    scores[1] = 1 / 3
    table = evaluate_per_gene(truth, scores).set_index("metric")
    rows = {metric: (row["value"], row["n"]) for metric, row in table.iterrows()}
    assert rows["auroc_de_per_gene"] == (0.0, 1)
    assert rows["auroc_direction_per_gene"] == (0.5, 1)


# --- label tables from outside --------------------------------------------------------------------


def _written(tmp_path, frame: pd.DataFrame, name: str = "labels.csv"):
    path = tmp_path / name
    if name.endswith(".parquet"):
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="," if ".csv" in name else "\t")
    return path


def _label(labels: ps.LabelTable, perturbation: str, gene: str) -> int:
    return int(labels.matrix().sel(perturbation=perturbation, gene=gene))


@pytest.mark.parametrize("name", ["x.csv", "x.tsv.gz", "x.parquet"])
def test_words_for_classes(tmp_path, name) -> None:
    frame = pd.DataFrame(
        {
            "pert": ["A", "A", "B"],
            "gene": ["NA", "G2", "G2"],
            "label": ["Up", "not differentially expressed", "decrease"],
            "split": ["train", "train", "test"],
        }
    )
    labels, split = ps.stats.read_label_table(_written(tmp_path, frame, name), context="K562")
    assert labels.contexts == ("K562",)
    assert (_label(labels, "A", "NA"), _label(labels, "A", "G2")) == (1, 0)
    assert _label(labels, "B", "G2") == -1
    assert _label(labels, "B", "NA") == -128  # not listed: not tested
    assert (split.train, split.test) == (("A",), ("B",))


def test_integers_have_to_say_whose_they_are(tmp_path) -> None:
    frame = pd.DataFrame({"pert": list("AAB"), "gene": list("XYX"), "label": [0, 1, 2]})
    path = _written(tmp_path, frame)
    with pytest.raises(InputError, match="say whose with codes="):
        ps.stats.read_label_table(path)
    labels, split = ps.stats.read_label_table(path, codes="synthpert")
    assert [_label(labels, *pair) for pair in ("AX", "AY", "BX")] == [0, -1, 1]
    assert split is None
    labels, _ = ps.stats.read_label_table(path, codes="up_first")
    assert [_label(labels, *pair) for pair in ("AX", "AY", "BX")] == [0, 1, -1]
    with pytest.raises(InputError, match="'pertscale' has"):
        ps.stats.read_label_table(path, codes="pertscale")
    with pytest.raises(ArgumentError, match="codes='mine' is not one of"):
        ps.stats.read_label_table(path, codes="mine")


def test_half_a_perturbqa_pair_is_not_taken_for_directions(tmp_path) -> None:
    path = _written(tmp_path, pd.DataFrame({"pert": ["A"], "gene": ["X"], "label": [1]}))
    with pytest.raises(InputError, match="read_perturbqa"):
        ps.stats.read_label_table(path)


def test_tables_of_scanpy_and_pdex(tmp_path) -> None:
    scanpy = pd.DataFrame(
        {
            "group": ["A", "A", "A"],
            "names": ["X", "Y", "Z"],
            "logfoldchanges": [1.0, -2.0, 3.0],
            "pvals_adj": [0.001, 0.001, 0.2],
        }
    )
    labels, _ = ps.stats.read_label_table(_written(tmp_path, scanpy))
    assert [_label(labels, "A", g) for g in "XYZ"] == [1, -1, 0]
    pdex = pd.DataFrame(
        {
            "target": ["A", "A"],
            "feature": ["X", "Y"],
            "fold_change": [2.0, 0.5],
            "fdr": [0.04, 0.04],
        }
    )
    path = _written(tmp_path, pdex)
    labels, _ = ps.stats.read_label_table(path, fdr=0.05, fold_change="ratio")
    assert [_label(labels, "A", g) for g in "XY"] == [1, -1]


def test_our_own_exports_come_back(tmp_path, example) -> None:
    made = ps.stats.rank_sum(example.screen, out=tmp_path / "labels", quiet=True)
    context = made.contexts[0]
    for style in ("pertscale", "scanpy", "pdex"):
        table = made.to_pandas(context=context, style=style)
        if style == "pertscale":
            table = table[["perturbation", "gene", "label"]]
            assert (table["label"] == -1).any()
        path = _written(tmp_path, table, f"{style}.parquet")
        back, _ = ps.stats.read_label_table(path, context=context)
        ours = made.matrix(context)
        theirs = back.matrix().sel(perturbation=ours["perturbation"], gene=ours["gene"])
        same = (ours.values == theirs.values).mean()
        assert same > 0.999  # float32 fold changes of scanpy's columns may round to zero


def test_several_contexts_and_bad_tables(tmp_path) -> None:
    frame = pd.DataFrame(
        {"pert": ["A", "A"], "gene": ["X", "X"], "label": ["up", "down"], "cell_line": ["k", "r"]}
    )
    path = _written(tmp_path, frame)
    with pytest.raises(InputError, match="the contexts k, r"):
        ps.stats.read_label_table(path)
    labels, _ = ps.stats.read_label_table(path, context="r")
    assert _label(labels, "A", "X") == -1
    with pytest.raises(InputError, match="no column for the gene"):
        ps.stats.read_label_table(_written(tmp_path, frame.drop(columns="gene")))
    with pytest.raises(InputError, match="listed twice"):
        ps.stats.read_label_table(_written(tmp_path, frame.drop(columns="cell_line")))
    with pytest.raises(InputError, match="neither a column of classes"):
        ps.stats.read_label_table(_written(tmp_path, frame.drop(columns=["label", "cell_line"])))
    with pytest.raises(InputError, match="row 0 has the label 'sideways'"):
        ps.stats.read_label_table(_written(tmp_path, frame[:1].assign(label="sideways")))
    with pytest.raises(NotFoundError, match="there is no file"):
        ps.stats.read_label_table(tmp_path / "none.csv")
    damaged = tmp_path / "damaged.parquet"
    damaged.write_bytes(b"PAR1")
    with pytest.raises(CorruptFileError, match="can't be read"):
        ps.stats.read_label_table(damaged)


def test_excluded_pairs_do_not_count() -> None:
    truth, scores = _case(3)
    exclude = np.array([[0, 1], [5, 29], [39, 7]])
    without = truth.copy()
    without[tuple(exclude.T)] = -128
    lazy = da.from_array(truth, chunks=(13, 7)), da.from_array(scores, chunks=(11, 4, 3))
    expected = evaluate_per_gene(without, scores)
    assert evaluate_per_gene(*lazy, exclude=exclude).equals(expected)
    assert not evaluate_per_gene(truth, scores).equals(expected)
