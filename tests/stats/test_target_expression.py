"""What perturbations do to their targets: numbers against the cells, intervals that hold."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.stats

import pertscale as ps
from pertscale.errors import InputError
from pertscale.schema import TARGET_COLUMNS
from pertscale.stats import LabelTable, knockdown, read_pseudobulk
from pertscale.stats.target_expression import residual_interval


@pytest.fixture(scope="module")
def labels(example, tmp_path_factory):
    return ps.stats.rank_sum(example.screen, out=tmp_path_factory.mktemp("labels"), quiet=True)


@pytest.fixture(scope="module")
def bulk(labels):
    return read_pseudobulk(labels.path.parent)


@pytest.fixture(scope="module")
def found(labels, bulk):
    return knockdown(labels, bulk)


def test_rows_are_all_perturbations_with_what_the_labels_say(labels, found):
    assert {c.name: str(found[c.name].dtype) for c in TARGET_COLUMNS} == {
        c.name: "object" if c.dtype == "str" else c.dtype for c in TARGET_COLUMNS
    }
    assert list(found["perturbation"]) == list(labels.perturbations["perturbation"])
    columns = ["log2_fold_change", "p_value", "fdr", "n_cells", "n_control", "label", "is_target"]
    table = labels.to_pandas(columns=columns)
    table = table[table["is_target"]].reset_index(drop=True)
    tested = found[found["verdict"] != "not_measured"].reset_index(drop=True)
    assert len(tested) == len(table) == 24
    for name in columns[:5]:
        np.testing.assert_array_equal(tested[name], table[name])
    words = {-1: "knocked_down", 0: "not", 1: "activated"}
    assert list(tested["verdict"]) == [words[label] for label in table["label"]]
    alone = found[found["perturbation"] == "G_alone"]
    assert list(alone["verdict"]) == ["not_measured"]  # G_alone is no gene
    assert alone[["residual", "low", "high", "p_value"]].isna().all(axis=None)


def test_the_residual_is_that_of_the_cells(example, found):
    """And its standard error about that of their variance."""
    values = example.counts * (1e4 / example.counts.sum(axis=1, keepdims=True))
    for row in found[found["verdict"] != "not_measured"].itertuples():
        mine = values[:, int(row.target[1:])]
        is_here = example.context == row.context
        cells = mine[is_here & (example.perturbation == row.perturbation)]
        controls = mine[is_here & (example.perturbation == "non-targeting")]
        assert row.residual == pytest.approx(cells.mean() / controls.mean(), rel=1e-9)
        if row.residual > 0:
            s = np.hypot(*(scipy.stats.sem(x) / x.mean() for x in (cells, controls)))
            t = scipy.stats.t.ppf(0.975, len(cells) - 1)
            assert np.log(row.high / row.residual) == pytest.approx(t * s, rel=0.25)
            assert row.residual**2 == pytest.approx(row.low * row.high)


def test_a_target_without_counts_has_an_upper_bound():
    """The share of 30 cells that may express it, none of which does."""
    low, high = residual_interval([[0.0], [2.0]], [[0.0], [1.0]], [[0.0], [0.5]], [[30], [500]])
    share = scipy.stats.binomtest(0, 30).proportion_ci(method="exact").high
    assert low[0] == 0
    assert high[0] == pytest.approx(share / 0.5)
    low, high = residual_interval([[1.0], [0.0]], [[0.5], [0.0]], [[0.5], [0.0]], [[30], [500]])
    assert np.isnan(low[0])
    assert np.isnan(high[0])


@pytest.mark.parametrize("n_cells", [10, 30, 200])
@pytest.mark.parametrize("counts", [0.3, 3.0, 20.0])
@pytest.mark.parametrize("residual", [0.1, 0.5, 1.0])
def test_intervals_hold_the_truth(n_cells, counts, residual):
    """Negative binomial counts of cells of unequal depth."""
    random = np.random.default_rng([n_cells, int(10 * counts), int(10 * residual)])

    def summaries(mean: float, n: int, size: int) -> np.ndarray:
        depth = np.exp(random.normal(0, 0.4, (size, n)))
        rate = mean * depth * random.gamma(3.0, 1 / 3.0, (size, n))
        values = random.poisson(rate) * (1e4 / np.rint(5000 * depth))
        return np.stack([values.mean(1), np.log1p(values).mean(1), (values > 0).mean(1)])

    n_tables = 2000
    perturbed = summaries(counts * residual, n_cells, n_tables)
    control = np.tile(summaries(counts, 1000, 100), n_tables // 100)
    both = np.stack([perturbed, control], axis=1)
    n = np.array([[n_cells], [1000]]) * np.ones(n_tables)
    low, high = residual_interval(*both, n)
    holds = ((low <= residual) & (residual <= high)).mean()
    assert 0.925 < holds < 0.99


def test_verdicts_of_few_cells_and_of_silent_targets(example, tmp_path):
    labels = ps.stats.rank_sum(example.screen, out=tmp_path / "labels", min_cells=90, quiet=True)
    found = knockdown(labels, read_pseudobulk(tmp_path / "labels"))
    few = ~labels.perturbations["tested"].to_numpy()
    assert 0 < few[labels.perturbations["n_cells"] > 1].sum() < 24
    is_gene = (found["target"] != "G_alone").to_numpy()
    assert set(found.loc[few & is_gene, "verdict"]) == {"few_cells"}
    assert found.loc[few, ["residual", "low", "high", "fdr"]].isna().all(axis=None)
    assert (found.loc[few & is_gene, "n_cells"] < 90).all()


def test_lazy_and_not_lazy_are_the_same(labels, bulk, found):
    from pertscale.stats.pseudobulk import open_pseudobulk

    for pseudobulk in (bulk.compute(), open_pseudobulk(labels.path.parent, dask=False)):
        pd.testing.assert_frame_equal(knockdown(labels, pseudobulk), found)


def test_tables_that_do_not_belong_together(labels, bulk):
    pairs = pd.DataFrame({"perturbation": ["A"], "gene": ["A"], "label": [1]})
    with pytest.raises(InputError, match=r"no is_target, log2_fold_change.*rank_sum"):
        knockdown(LabelTable.from_pairs(pairs, context="c"), bulk)
    with pytest.raises(InputError, match="699 genes, the label table 700"):
        knockdown(labels, bulk.isel(gene=slice(1, None)))
    with pytest.raises(InputError, match=r"lacks perturbation 'G0' of context 'beta'.*12 pairs"):
        knockdown(labels, bulk.isel(perturbation=(bulk["context"] == "alpha").values))
