"""A label table reads back lazily what was tested, selects by name, is curated by the recipe."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from dask.callbacks import Callback

from pertscale.errors import ArgumentError, InputError, NotFoundError, UnknownNameError
from pertscale.schema import Label
from pertscale.stats import Curation, LabelTable, curate, rank_sum, read_labels


@pytest.fixture(scope="module")
def labels(example, tmp_path_factory):
    return rank_sum(example.screen, out=tmp_path_factory.mktemp("labels"), quiet=True)


@pytest.fixture
def pairs():
    return pd.DataFrame(
        {
            "perturbation": ["B", "A", "A", "B"],
            "gene": ["y", "x", "z", "x"],
            "label": [1, 0, -1, 0],
        }
    )


def test_matrix_is_lazy_and_equals_the_rows(labels):
    class Counter(Callback):
        n = 0

        def _posttask(self, *_):
            self.n += 1

    counter = Counter()
    with counter:
        matrix = labels.matrix("beta")
    assert counter.n == 0
    frame = labels.to_pandas(context="beta", columns=["label"])
    wide = frame.pivot(index="perturbation", columns="gene", values="label")
    wide = wide.loc[matrix["perturbation"].values, matrix["gene"].values]
    np.testing.assert_array_equal(matrix.values, wide.to_numpy())
    assert matrix.dtype == np.int8


def test_frame_has_every_pair_once(labels):
    frame = labels.frame[["perturbation", "gene"]].compute()
    assert len(frame) == 24 * 700
    assert not frame.duplicated().any()
    names = labels.perturbations.iloc[frame["perturbation"].unique()]
    assert set(names["context"]) == {"alpha", "beta"}


def test_summary_is_table_1(labels):
    frame = labels.to_pandas(columns=["label"])
    summary = labels.summary().set_index("context")
    for context, mine in frame.groupby("context", observed=True):
        share = mine["label"].value_counts(normalize=True) * 100
        row = summary.loc[context]
        assert row["pairs"] == len(mine)
        assert row["up_percent"] == pytest.approx(share[1])
        assert row["down_percent"] == pytest.approx(share[-1])
        assert row["non_de_percent"] == pytest.approx(share[0])


def test_selection_by_name(labels):
    frame = labels.to_pandas(context="alpha", perturbation=["G1", "G3"], gene="G5")
    assert list(frame["perturbation"]) == ["G1", "G3"]
    assert set(frame["gene"]) == {"G5"}
    with pytest.raises(UnknownNameError, match="did you mean 'G_alone"):
        labels.to_pandas(perturbation="G_alon")
    with pytest.raises(UnknownNameError, match="alpha, beta"):
        labels.to_pandas(context="gamma")
    with pytest.raises(ArgumentError, match="name one with context="):
        labels.matrix()


def test_other_tools_columns(labels):
    ours = labels.to_pandas(context="alpha", perturbation="G1")
    scanpy = labels.to_pandas(context="alpha", perturbation="G1", style="scanpy")
    assert list(scanpy.columns) == [
        "context",
        "group",
        "names",
        "scores",
        "logfoldchanges",
        "pvals",
        "pvals_adj",
    ]
    np.testing.assert_array_equal(scanpy["pvals_adj"], ours["fdr"])
    pdex = labels.to_pandas(context="alpha", perturbation="G1", style="pdex")
    assert {"target", "feature", "target_mean", "ref_mean", "p_value", "statistic", "fdr"} <= set(
        pdex.columns
    )
    np.testing.assert_allclose(pdex["target_mean"], np.expm1(ours["mean"]))
    fold = np.log2((pdex["target_mean"] + 1e-9) / (pdex["ref_mean"] + 1e-9))
    np.testing.assert_allclose(pdex["log2_fold_change"], fold, rtol=1e-3, atol=1e-4)
    with pytest.raises(ArgumentError, match="style"):
        labels.to_pandas(style="seurat")


def test_from_pairs(pairs):
    table = LabelTable.from_pairs(pairs, context="k562")
    matrix = table.matrix()
    assert list(matrix["gene"].values) == ["x", "y", "z"]
    untested = Label.UNTESTED
    np.testing.assert_array_equal(matrix.values, [[0, untested, -1], [0, 1, untested]])
    assert table.summary().loc[0, "pairs"] == 4
    shuffled = LabelTable.from_pairs(pairs.iloc[::-1], context="k562")
    assert shuffled.key == table.key
    assert len(table.frame.compute()) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.drop(columns="gene"), "gene missing"),
        (lambda p: p.assign(label=2), "labels are -1 down"),
        (lambda p: pd.concat([p, p.iloc[:1]]), "listed twice"),
    ],
)
def test_from_bad_pairs(pairs, change, message):
    with pytest.raises(InputError, match=message):
        LabelTable.from_pairs(change(pairs), context="k562")


def test_nothing_there(tmp_path):
    with pytest.raises(NotFoundError, match="no finished label table"):
        read_labels(tmp_path)


# --- curation (method C2) ----------------------------------------------------------------------


def test_curated_pairs_follow_the_recipe(labels):
    recipe = Curation(max_positives=8, n_negatives=30, min_positives=3, gene_holdout=0.0)
    curated = curate(labels, context="alpha", recipe=recipe, seed=3)
    frame = curated.to_pandas().astype({"gene": object})
    for name, mine in frame.groupby("perturbation", observed=True):
        full = labels.to_pandas(context="alpha", perturbation=name)
        full = full.astype({"gene": object}).set_index("gene")
        de = full[full["label"] != 0]
        best = de.assign(size=-de["z"].abs()).sort_values(["p_value", "size"]).index[:8]
        expected = set(best) - {name}
        got = mine.set_index("gene")["label"]
        assert set(got[got != 0].index) == expected
        assert name not in got.index
        n_negatives = (got == 0).sum()
        assert n_negatives in (29, 30)  # the target may have been among those drawn
        assert (full.loc[got.index, "label"] == got).all()


def test_curation_sets_genes_aside_and_is_reproducible(labels):
    recipe = Curation(min_positives=2, gene_holdout=0.25)
    first = curate(labels, context="alpha", recipe=recipe, seed=1)
    again = curate(labels, context="alpha", recipe=recipe, seed=1)
    other = curate(labels, context="alpha", recipe=recipe, seed=2)
    assert first.key == again.key != other.key
    assert len(first.genes) <= 0.75 * len(labels.genes)


def test_nothing_to_curate(labels):
    with pytest.raises(InputError, match="nothing to curate"):
        curate(labels, context="alpha", recipe=Curation(min_positives=10_000))
