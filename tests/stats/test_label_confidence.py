"""Confidence of labels: formulas by hand, calibrated on simulated truth, lazy, where unknown."""

from __future__ import annotations

from dataclasses import replace

import dask
import numpy as np
import pandas as pd
import pytest
import scipy.stats

import pertscale as ps
from pertscale.errors import InputError, UnknownNameError
from pertscale.schema import Label
from pertscale.stats import LabelTable, confidence, confidence_matrix
from pertscale.stats.effect_spread import spread_with_effect
from pertscale.stats.label_confidence import (
    CONFIDENT,
    LocalRate,
    confidence_of_part,
    confident_labels,
    local_rate,
)

NULL = (0.0, 1.0)
FDR = 0.01


@pytest.fixture(scope="module")
def labels(example, tmp_path_factory):
    return ps.stats.rank_sum(example.screen, out=tmp_path_factory.mktemp("labels"), quiet=True)


def in_memory(z, label, p_value, *, n_cells=50, n_control=400, mean=1.0) -> LabelTable:
    """A table of one perturbation in memory, U as it follows from z without ties."""
    z = np.asarray(z, np.float32)
    sigma = np.sqrt(n_cells * n_control * (n_cells + n_control + 1) / 12)
    u = n_cells * n_control / 2 + np.sign(z) * (np.abs(z) * sigma + 0.5)
    genes = [f"g{i:06d}" for i in range(len(z))]
    named = pd.DataFrame({"perturbation": "A", "gene": genes, "label": np.asarray(label, np.int8)})
    table = LabelTable.from_pairs(named, context="c", options={"fdr": FDR})
    assert table._pairs is not None
    columns = {
        "n_cells": n_cells,
        "n_control": n_control,
        "mean": mean,
        "mean_control": mean,
        "u_statistic": u,
        "z": z,
        "fdr": np.where(np.asarray(label) == 0, 1.0, 0.0),
        "p_value": p_value,
    }
    return replace(table, _pairs=table._pairs.assign(**columns))


def of_table(table: LabelTable, rate: LocalRate) -> np.ndarray:
    return confidence_of_part(table._pairs, rate, fdr=FDR, continuity=True)


def test_formulas_by_hand():
    """Called pairs by the rate of z; others by power at ½ ± 0.1, where p is above 0.1."""
    z = np.array([4.0, -3.1, 1.0, -0.3, 1.8, 0.0])
    label = np.array([1, -1, 0, 0, 0, 0])
    p = 2 * scipy.stats.norm.sf(np.abs(z))
    rate = LocalRate((0.5, 2.0), np.array([-2.0, 0.0, 2.0]), np.array([0.2, 1.0, 0.1]))
    table = in_memory(z, label, p)
    found = of_table(table, rate)
    called = 1 - np.interp((z[:2] - 0.5) / 2, rate.centers, rate.fdr)
    np.testing.assert_allclose(found[:2], called, rtol=1e-6)
    n1, n2 = 50, 400
    sigma = np.sqrt((n1 + n2 + 1) / (12 * n1 * n2))
    critical = scipy.stats.norm.isf(FDR * 3 / len(z) / 2)  # this one beside the two of six
    one = [np.array([x]) for x in (sigma, sigma, n1, n2)]
    (spread,) = spread_with_effect(0.6, *one)
    power = scipy.stats.norm.cdf((0.1 - critical * sigma) / spread)
    power += scipy.stats.norm.cdf((-0.1 - critical * sigma) / spread)
    np.testing.assert_allclose(found[[2, 3, 5]], power, rtol=1e-5)
    assert found[4] == 0 and p[4] < 0.1
    assert found.dtype == np.float32
    unexpressed = of_table(in_memory(z, label, p, mean=0.0), rate)
    assert np.isnan(unexpressed[2:]).all()


def test_more_cells_are_more_confidence():
    p, nothing = np.full(20, 0.5), np.zeros(20)
    rate = LocalRate(NULL, np.empty(0), np.empty(0))
    few, many = (
        of_table(in_memory(np.full(20, 0.67), nothing, p, n_cells=n, n_control=10 * n), rate)
        for n in (10, 500)
    )
    assert (few < 0.1).all() and (many > CONFIDENT).all()


@pytest.mark.parametrize("null", [NULL, (0.3, 1.5)])
def test_local_rate_is_that_of_the_mixture(null):
    """70 % null, whose centre and scale are given; within 0.1 where there are values."""
    random, (centre, scale) = np.random.default_rng(0), null
    n = 300_000
    is_null = random.random(n) < 0.9
    t = np.where(is_null, random.normal(size=n), random.normal(4, 1, n))
    table = in_memory(centre + scale * t, np.zeros(n), np.ones(n))
    rate = local_rate(table, "c", null)
    at = np.arange(-3, 6, 0.1)
    norm = scipy.stats.norm.pdf
    wanted = 0.9 * norm(at) / (0.9 * norm(at) + 0.1 * norm(at, 4, 1))
    found = rate.of(centre + scale * at)
    np.testing.assert_allclose(found, wanted, atol=0.1)
    assert (found >= 0).all() and (found <= 1).all()
    assert (np.diff(found[at > 0]) <= 0).all()
    assert rate.of(np.array([centre + 50 * scale]))[0] < 1e-3


def test_without_effects_nothing_is_sure():
    z = np.random.default_rng(1).normal(size=100_000)
    rate = local_rate(in_memory(z, np.zeros(len(z)), np.ones(len(z))), "c", NULL)
    inside = np.abs(z) < np.quantile(np.abs(z), 0.999)
    assert rate.of(z[inside]).min() > 0.7


def test_few_pairs_have_no_rate():
    rate = local_rate(in_memory(np.full(30, 5.0), np.ones(30), np.full(30, 1e-6)), "c", NULL)
    assert np.isnan(rate.of(np.array([5.0]))).all()


def test_it_is_calibrated_for_what_is_called():
    """1 - confidence is the share that is false, of pairs that a generous test calls."""
    random = np.random.default_rng(3)
    n = 200_000
    is_null = random.random(n) < 0.9
    z = np.where(is_null, random.normal(size=n), random.normal(0, 3.5, n))
    p = 2 * scipy.stats.norm.sf(np.abs(z))
    called = np.abs(z) > 2
    table = in_memory(z, np.where(called, np.sign(z), 0), p)
    found = of_table(table, local_rate(table, "c", NULL))[called]
    false = is_null[called]
    assert (1 - found).mean() == pytest.approx(false.mean(), abs=0.03)
    sure = found >= CONFIDENT
    assert 0 < sure.mean() < 1
    assert false[sure].mean() < 0.2 < false[~sure].mean()


def test_confident_pairs_of_a_simulated_screen_are_true_more_often(tmp_path):
    made = ps.simulate_screen(
        tmp_path / "s.h5ad",
        n_cells=6_000,
        n_genes=200,
        n_perturbations=30,
        umi_per_cell=3_000,
        seed=2,
        quiet=True,
    )
    store = ps.io.ingest(made.path, tmp_path / "s.zarr", quiet=True)
    labels = ps.stats.rank_sum(store, out=tmp_path / "out", fdr=0.2, quiet=True)
    found = confidence(tmp_path / "out").compute().reset_index(drop=True)
    table = labels.to_pandas(columns=["label"]).reset_index(drop=True)
    effect = made.truth["log2_effect"].isel(context=0).to_pandas()
    size = np.abs(effect.loc[labels.perturbations["perturbation"], labels.genes].to_numpy()).ravel()
    assert len(size) == len(table)
    is_true, called = size > 0.1, (table["label"] != Label.NON_DE).to_numpy()
    sure = (found["confidence"] >= CONFIDENT).to_numpy()
    assert (called & sure).sum() > 20 and (called & ~sure).sum() > 20
    assert is_true[called & sure].mean() > is_true[called & ~sure].mean() + 0.1
    # an unchanged pair that is sure has hardly ever a large effect
    unsure = ~called & (found["confidence"] < 0.2).to_numpy()
    assert (size[~called & sure] > 1).mean() <= (size[unsure] > 1).mean()


def test_it_is_lazy_and_the_same_on_every_scheduler(labels):
    lazy = confidence(labels.path)
    assert lazy.npartitions == labels.frame.npartitions
    found = []
    for scheduler in ("synchronous", "threads"):
        with dask.config.set(scheduler=scheduler):
            found.append(lazy.compute())
    pd.testing.assert_frame_equal(*found, check_exact=True)
    pairs = labels.frame.compute()
    assert list(found[0]["gene"]) == list(pairs["gene"])
    unexpressed = (pairs["mean"] + pairs["mean_control"]) == 0
    assert found[0]["confidence"].isna().tolist() == unexpressed.tolist()
    assert found[0]["confidence"].dropna().between(0, 1).all()


def test_one_context_and_its_matrix(labels):
    whole = confidence(labels.path).compute()
    rows = labels.perturbations
    for context in labels.contexts:
        mine = np.flatnonzero(rows["context"] == context)
        one = confidence(labels.path, context=context).compute()
        wanted = whole[whole["perturbation"].isin(mine)]
        pd.testing.assert_frame_equal(one.reset_index(drop=True), wanted.reset_index(drop=True))
        matrix = confidence_matrix(labels.path, context=context)
        truth = labels.matrix(context)
        assert matrix.dims == truth.dims and matrix.shape == truth.shape  # untested: no rows
        assert list(matrix["perturbation"].values) == list(truth["perturbation"].values)
        np.testing.assert_array_equal(matrix.values.ravel(), one["confidence"].to_numpy())
        kept = confident_labels(labels, context, NULL).values
        wanted = np.where(matrix.values >= CONFIDENT, truth.values, np.int8(Label.UNTESTED))
        np.testing.assert_array_equal(kept, wanted)
    with pytest.raises(UnknownNameError, match="no context 'gamma'"):
        confidence(labels.path, context="gamma")


def test_where_nothing_was_tested_there_is_no_row(example, tmp_path):
    ps.stats.rank_sum(example.screen, out=tmp_path, min_cells=10_000, quiet=True)
    assert not len(confidence(tmp_path).compute())
    assert confidence_matrix(tmp_path, context="alpha").shape[0] == 0


def test_labels_alone_have_none():
    pairs = pd.DataFrame({"perturbation": ["A"], "gene": ["x"], "label": [1]})
    with pytest.raises(InputError, match="no n_cells"):
        confident_labels(LabelTable.from_pairs(pairs, context="c"), "c", NULL)
