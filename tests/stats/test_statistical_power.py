"""Power: the effect and its standard deviation against SciPy, predicted against realised recall."""

from __future__ import annotations

from dataclasses import replace

import dask
import numpy as np
import pandas as pd
import pytest
import scipy.stats

import pertscale as ps
from pertscale.errors import ArgumentError, InputError
from pertscale.stats import LabelTable, power, power_at, power_summary
from pertscale.stats.differential.multiple_testing import benjamini_hochberg
from pertscale.stats.effect_spread import spread_with_effect
from pertscale.stats.statistical_power import (
    detected_share,
    sigma_of_u,
    smallest_effect,
    untied_sigma,
)

FDR = 0.01


def tied_sigma(first: np.ndarray, second: np.ndarray) -> float:
    """The standard deviation of U, from its formula with ties."""
    n1, n2, n = len(first), len(second), len(first) + len(second)
    _, t = np.unique(np.concatenate([first, second]), return_counts=True)
    ties = float((t.astype(float) ** 3 - t).sum())
    return float(np.sqrt(n1 * n2 / 12 * (n + 1 - ties / (n * (n - 1)))))


@pytest.fixture(scope="module")
def labels(example, tmp_path_factory):
    return ps.stats.rank_sum(example.screen, out=tmp_path_factory.mktemp("labels"), quiet=True)


@pytest.fixture(scope="module")
def pairs(labels):
    """All pairs with names, what the table says of them, and their power."""
    found = power(labels).compute().reset_index(drop=True)
    table = labels.to_pandas().reset_index(drop=True)
    return pd.concat([table, found[["theta", "min_effect"]]], axis=1)


def groups(example, context: str, perturbation: str, gene: str) -> tuple[np.ndarray, np.ndarray]:
    """Normalised counts of the perturbed cells, and of the controls."""
    values = example.counts[:, int(gene[1:])] / example.counts.sum(axis=1)
    mine = example.context == context
    return tuple(
        values[mine & (example.perturbation == name)] for name in (perturbation, "non-targeting")
    )


def test_pairs_are_those_of_scipy(example, labels, pairs):
    """U, the standard deviation with ties, and the formula of the smallest effect."""
    names = {"alpha": "G3", "beta": "G7"}
    for context, name in names.items():
        mine = pairs[(pairs["context"] == context) & (pairs["perturbation"] == name)]
        n_called = max(1, int((mine["fdr"] < FDR).sum()))
        critical = scipy.stats.norm.isf(FDR * n_called / len(mine) / 2)
        for row in mine.iloc[::37].itertuples():
            first, second = groups(example, context, name, row.gene)
            found = scipy.stats.mannwhitneyu(first, second, method="asymptotic")
            n_pairs = len(first) * len(second)
            assert row.theta == pytest.approx(found.statistic / n_pairs, rel=1e-12)
            if row.z != 0:
                wanted = (critical + scipy.stats.norm.ppf(0.8)) * tied_sigma(first, second)
                assert row.min_effect == pytest.approx(wanted / n_pairs, rel=1e-5)


@pytest.mark.parametrize("continuity", [True, False])
def test_sigma_is_recovered_from_the_statistic(continuity):
    random = np.random.default_rng(0)
    for n1, n2 in ((5, 7), (40, 300)):
        first, second = random.poisson(1.5, n1), random.poisson(1.0, n2)
        u = scipy.stats.mannwhitneyu(first, second).statistic
        sigma = tied_sigma(first, second)
        deviation = u - n1 * n2 / 2
        z = np.sign(deviation) * (abs(deviation) - 0.5 * continuity) / sigma
        n = np.array([n1]), np.array([n2])
        found = sigma_of_u(np.array([u]), np.array([z], np.float32), *n, continuity=continuity)
        assert found[0] == pytest.approx(sigma, rel=1e-6)
        assert untied_sigma(*n)[0] == pytest.approx(tied_sigma(np.arange(n1), n1 + np.arange(n2)))
        assert found[0] < untied_sigma(*n)[0]
    assert np.isnan(sigma_of_u(np.array([17.5]), np.zeros(1), *n, continuity=continuity))


def test_other_variants_of_the_test(example, tmp_path):
    """Without a correction for ties the test divides by what untied cells would have."""
    for test, ratio in (("scanpy", 1.0), ("scanpy_tie", 0.999)):
        labels = ps.stats.rank_sum(example.screen, out=tmp_path / test, test=test, quiet=True)
        found = power(labels).compute()
        table = labels.to_pandas(columns=["n_cells", "n_control", "fdr", "z"])
        is_first = (found["perturbation"] == 0).to_numpy()
        n = (table.loc[is_first, name].to_numpy() for name in ("n_cells", "n_control"))
        n1, n2 = n
        called = max(1, int((table.loc[is_first, "fdr"] < FDR).sum()))
        largest = smallest_effect(untied_sigma(n1, n2) / (n1 * n2), FDR * called / 700)
        tested = (table.loc[is_first, "z"] != 0).to_numpy()
        quotient = found.loc[is_first, "min_effect"].to_numpy()[tested] / largest[tested]
        if ratio == 1.0:
            np.testing.assert_allclose(quotient, 1, rtol=1e-6)
        else:
            assert (quotient < ratio).mean() > 0.9


def test_where_z_is_zero_the_ties_of_the_gene_stand_in(example, pairs):
    """So that the effect is right within some percent; without ties it would be half as large."""
    zero = pairs[(pairs["z"] == 0) & (pairs["mean_control"] > 0)]
    assert len(zero) > 4
    for row in zero.itertuples():
        first, second = groups(example, row.context, row.perturbation, row.gene)
        n_pairs = len(first) * len(second)
        mine = pairs.query("context == @row.context and perturbation == @row.perturbation")
        threshold = FDR * max(1, (mine["fdr"] < FDR).sum()) / len(mine)
        wanted = smallest_effect(np.array(tied_sigma(first, second) / n_pairs), threshold)
        assert row.min_effect == pytest.approx(float(wanted), rel=0.1)
    assert pairs["min_effect"].isna().equals((pairs["mean"] + pairs["mean_control"]) == 0)


def test_without_any_other_no_ties_are_assumed():
    table = _table(pd.DataFrame({"u_statistic": [50.0], "z": np.float32([0]), "fdr": [1.0]}))
    found = power(table).compute()
    wanted = smallest_effect(untied_sigma(np.array([10]), np.array([10])) / 100, FDR)
    assert found["theta"].iloc[0] == 0.5
    assert found["min_effect"].iloc[0] == pytest.approx(wanted[0])


def _table(columns: pd.DataFrame, n_cells: int = 10, n_control: int = 10) -> LabelTable:
    """A table in memory of one perturbation."""
    named = columns.assign(perturbation="A", gene=[f"g{i:03d}" for i in range(len(columns))])
    table = LabelTable.from_pairs(named.assign(label=0), context="c", options={"fdr": FDR})
    more = {"n_cells": n_cells, "n_control": n_control, "mean": 1.0, "mean_control": 1.0}
    assert table._pairs is not None
    return replace(table, _pairs=table._pairs.assign(**more, **columns))


def test_the_threshold_is_what_is_called(labels):
    """A p-value below it would be called, one above it would not, whatever else was called."""
    summary = power_summary(labels).set_index(["context", "perturbation"])
    names = ("alpha", "G3"), ("beta", "G0")
    for context, name in names:
        p = labels.to_pandas(context=context, perturbation=name, columns=["p_value"])["p_value"]
        threshold = summary.loc[(context, name), "p_threshold"]
        uncalled = int(np.argmax(p))
        p = p.to_numpy().copy()
        called = benjamini_hochberg(p[None])[0] < FDR
        assert (p[called] <= threshold).all()
        assert (p[~called] > threshold).all()
        p[uncalled] = 0.999 * threshold
        assert benjamini_hochberg(p[None])[0][uncalled] < FDR
    nothing = _table(pd.DataFrame({"u_statistic": 60.0, "z": np.float32(0.7), "fdr": [1.0] * 50}))
    assert power_summary(nothing)["p_threshold"].to_list() == [FDR / 50]


def test_the_summary_is_of_expressed_genes(labels, pairs):
    summary = power_summary(labels)
    assert len(summary) == labels.perturbations["tested"].sum()
    pairs = pairs.assign(is_expressed=(pairs["mean"] > 0) | (pairs["mean_control"] > 0))
    groups = pairs.groupby(["context", "perturbation"], observed=True, sort=False)
    keys = pd.MultiIndex.from_frame(summary[["context", "perturbation"]])
    expressed = groups["is_expressed"].sum().reindex(keys)
    median = pairs[pairs["is_expressed"]].groupby(["context", "perturbation"], observed=True)
    median = median["min_effect"].median().reindex(keys)
    assert list(summary["n_expressed"]) == list(expressed)
    np.testing.assert_allclose(summary["min_effect"], median)
    larger = summary.sort_values("n_cells").query("context == 'alpha'")
    assert larger["min_effect"].iloc[-1] < larger["min_effect"].iloc[0]


def test_power_at_an_effect(labels):
    """It is 80 % at the smallest effect, the same on both sides, and alpha without an effect."""
    sigma, threshold = np.array([0.03]), np.array([1e-4])
    smallest = smallest_effect(sigma, threshold)
    for theta in (0.5 + smallest, 0.5 - smallest):
        assert detected_share(theta, sigma, threshold)[0] == pytest.approx(0.8)
    assert detected_share(0.5, sigma, threshold)[0] == pytest.approx(1e-4)
    weak, strong = (power_at(labels, theta).compute()["power"] for theta in (0.65, 0.8))
    assert (strong >= weak).sum() == strong.notna().sum()
    least = power(labels).compute()["min_effect"]
    assert weak[least < 0.1].min() > 0.8
    none = power_at(labels, 0.5).compute()["power"].dropna()
    threshold = power_summary(labels)["p_threshold"]
    assert none.between(0.999 * threshold.min(), threshold.max() + 1.001 * FDR / 700).all()


def _censored(random, shape, share, shift=0.0):
    """Normal values, moved by a shift, of which only the upper share of unshifted ones shows."""
    bound = scipy.stats.norm.isf(share)
    return np.maximum(random.normal(shift, size=shape), bound)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.97])
@pytest.mark.parametrize("shift", [-1.0, 0.0, 0.7])
def test_the_spread_with_an_effect_is_that_of_repeated_draws(share, shift):
    random = np.random.default_rng(7)
    n1, n2, n_draws = 40, 500, 3000
    cells, controls = (
        _censored(random, (n_draws, n1), share, shift),
        _censored(random, (n_draws, n2), share),
    )
    ranks = scipy.stats.rankdata(np.concatenate([cells, controls], axis=1), axis=1)
    drawn = (ranks[:, :n1].sum(axis=1) - n1 * (n1 + 1) / 2) / (n1 * n2)
    n = np.array([float(n1)]), np.array([float(n2)])
    untied = untied_sigma(*n) / (n1 * n2)
    same = _censored(random, (400, n1), share)
    tied = np.array(
        [np.mean([tied_sigma(*both) for both in zip(same, controls[:400], strict=True)])]
    )
    sigma = tied / (n1 * n2)
    found = spread_with_effect(float(drawn.mean()), sigma, untied, *n)
    assert found[0] == pytest.approx(drawn.std(), rel=0.1)
    assert spread_with_effect(0.5, sigma, untied, *n)[0] == sigma[0]
    assert np.isnan(spread_with_effect(0.6, np.array([np.nan]), untied, *n)[0])


def test_it_is_lazy_and_the_same_on_every_scheduler(labels):
    lazy = power(labels)
    assert lazy.npartitions == labels.frame.npartitions
    found = []
    for scheduler in ("synchronous", "threads"):
        with dask.config.set(scheduler=scheduler):
            found.append((lazy.compute(), power_summary(labels)))
    for one, other in zip(*found, strict=True):
        pd.testing.assert_frame_equal(one, other, check_exact=True)


def test_predicted_recall_is_realised():
    """Normal expression, shifted by d: theta = Phi(d/√2). Recall within 2 points in each decile."""
    random = np.random.default_rng(4)
    n1, n2, n_genes, n_groups = 150, 1500, 200, 400
    shift = random.uniform(-0.9, 0.9, (n_groups, n_genes))
    shift[:, ::3] = 0
    u = np.empty(shift.shape)
    for gene in range(n_genes):
        controls = np.sort(random.normal(size=n2))
        cells = random.normal(shift[:, gene, None], size=(n_groups, n1))
        u[:, gene] = np.searchsorted(controls, cells).sum(axis=1)
    sigma = float(untied_sigma(np.array(n1), np.array(n2)))
    z = (np.abs(u - n1 * n2 / 2) - 0.5) / sigma
    called = benjamini_hochberg(np.minimum(1, 2 * scipy.stats.norm.sf(z))) < FDR
    threshold = FDR * called.sum(axis=1, keepdims=True) / n_genes
    theta = scipy.stats.norm.cdf(shift / np.sqrt(2))
    predicted = detected_share(theta, np.full(shift.shape, sigma / (n1 * n2)), threshold)
    changed = shift != 0
    size = np.abs(theta[changed] - 0.5)
    decile = np.searchsorted(np.quantile(size, np.arange(0.1, 1, 0.1)), size)
    realised = np.bincount(decile, called[changed]) / np.bincount(decile)
    expected = np.bincount(decile, predicted[changed]) / np.bincount(decile)
    np.testing.assert_allclose(realised, expected, atol=0.02)
    assert expected.min() < 0.05
    assert expected.max() > 0.95


def test_where_nothing_was_tested_there_is_no_row(example, tmp_path):
    labels = ps.stats.rank_sum(example.screen, out=tmp_path, min_cells=10_000, quiet=True)
    assert len(labels.frame.compute()) == len(power(labels).compute()) == 0
    assert list(power_summary(labels).columns)[:3] == ["context", "perturbation", "n_cells"]
    assert not len(power_summary(labels))


def test_a_table_of_labels_alone_has_no_power():
    pairs = pd.DataFrame({"perturbation": ["A"], "gene": ["x"], "label": [1]})
    with pytest.raises(InputError, match=r"no n_cells, .*u_statistic.*rank_sum"):
        power(LabelTable.from_pairs(pairs, context="c"))
    with pytest.raises(InputError, match="threshold of the fdr"):
        power_summary(replace(_table(pd.DataFrame({"u_statistic": [1.0], "z": 1.0, "fdr": 1.0})),
                              options={}))  # fmt: skip
    with pytest.raises(ArgumentError, match="theta=2 is no probability"):
        power_at(LabelTable.from_pairs(pairs, context="c"), 2)
