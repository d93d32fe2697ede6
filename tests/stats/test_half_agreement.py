"""Reproducibility: halves of the cells by hand, perturbations without any, none at all."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_score, recall_score

import pertscale as ps
from pertscale.errors import NotFoundError
from pertscale.schema import REPRODUCIBILITY_COLUMNS
from pertscale.stats import half_agreement, reproducibility
from tests.support.screens import write_h5ad


@pytest.fixture(scope="module")
def halved(tmp_path_factory):
    """Perturbations of 9 cells have no halves."""
    folder = tmp_path_factory.mktemp("halved")
    random = np.random.default_rng(0)
    sizes = [200, *[60] * 8, 9, 9]
    means = np.tile(random.gamma(1.0, 2.0, 80), (len(sizes), 1))
    for row in means[2:]:
        row[random.choice(80, 20, replace=False)] *= random.choice([0.3, 3.0], 20)
    counts = random.poisson(np.repeat(means, sizes, axis=0))
    names = ["non-targeting", *(f"P{i}" for i in range(1, len(sizes)))]
    source = write_h5ad(folder / "s.h5ad", counts, {"perturbation": np.repeat(names, sizes)})
    store = ps.io.ingest(source, folder / "s.zarr", quiet=True)
    ps.stats.rank_sum(store, out=folder / "out", replicates=1, quiet=True)
    return folder / "out"


def test_scores_by_hand(halved):
    label = ps.stats.read_halves(halved)["label"].values
    label = label[:, (label[0] != -128).any(axis=1)]
    rows = [str(n) for n in ps.stats.read_halves(halved)["perturbation"].values]
    assert rows[0] == "control"  # its own halves are no perturbation
    first, second = label if len(label[0]) == 8 else label[:, 1:]
    found = reproducibility(halved)
    assert list(found.columns) == [c.name for c in REPRODUCIBILITY_COLUMNS]
    score = found.set_index(["group", "metric"])["value"]
    for name, code in (("down", -1), ("non_de", 0), ("up", 1)):
        for metric, function in (
            ("precision", precision_score),
            ("recall", recall_score),
            ("f1", f1_score),
        ):
            ways = [
                function(a.ravel() == code, b.ravel() == code)
                for a, b in ((first, second), (second, first))
            ]
            assert score[name, metric] == pytest.approx(np.mean(ways), rel=1e-12)
            assert 0.2 < score[name, metric] < 1
    f1 = [score[name, "f1"] for name in ("down", "non_de", "up")]
    assert score["", "macro_f1"] == pytest.approx(np.mean(f1))
    either, both = ((first != 0) | (second != 0)), ((first != 0) & (second != 0))
    there = either.any(axis=1)
    wanted = np.mean(both[there].sum(axis=1) / either[there].sum(axis=1))
    assert score["", "jaccard_de"] == pytest.approx(wanted)
    n = found.set_index("metric")["n_perturbations"]
    assert n["macro_f1"] == 8
    assert n["jaccard_de"] == there.sum()


def test_perturbations_without_halves_are_told(halved):
    assert set(reproducibility(halved)["n_without_halves"]) == {2}


def test_blocks_make_no_difference(halved, monkeypatch):
    whole = reproducibility(halved)
    monkeypatch.setattr(half_agreement, "_PAIRS", 170)
    assert reproducibility(halved).equals(whole)


def test_without_halves_there_is_none(example, tmp_path):
    ps.stats.rank_sum(example.screen, out=tmp_path, quiet=True)
    with pytest.raises(NotFoundError, match="no halves of the cells"):
        reproducibility(tmp_path)
