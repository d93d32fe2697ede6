"""Attacks on the metrics of whole screens: three simulated ones and two real ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import pertscale as ps
from pertscale.benchmark import audit, audit_screen, worst_attacks
from pertscale.benchmark.attacked_cells import CellSource
from pertscale.cli import main
from pertscale.errors import ArgumentError, InputError
from pertscale.evaluation import ATTACKS, METRICS, evaluate
from pertscale.evaluation.attacks.audit import MOST_GAIN
from pertscale.evaluation.attacks.registry import GAMED
from pertscale.schema import ATTACK_COLUMNS
from tests.support.helpers import real_data

#: Simulated screens: common, with few controls, with doubles.
SIMULATED = {
    "many": {"n_cells": 9000, "n_genes": 250, "n_perturbations": 90, "control_fraction": 0.1},
    "few_controls": {
        "n_cells": 5000, "n_genes": 200, "n_perturbations": 50, "control_fraction": 0.02,
    },
    "doubles": {
        "n_cells": 8000, "n_genes": 200, "n_perturbations": 40, "n_doubles": 30,
        "control_fraction": 0.1,
    },
}  # fmt: skip
REAL = {"papalexi": "papalexi/papalexi.h5ad", "schraivogel": "schraivogel/counts.csv.gz"}
#: Screens whose halves are audited, too, which takes long; benchmarks/attacks.py does all of them.
HALVED = {"few_controls", "papalexi"}
KNOWS = [name for name, attack in ATTACKS.items() if attack.knows]


@pytest.fixture(scope="module", params=[*SIMULATED, *REAL])
def audited(request, tmp_path_factory):
    """Name, and table of a screen."""
    name, folder = request.param, tmp_path_factory.mktemp(request.param)
    if name in REAL:
        source = real_data(REAL[name])
    else:
        source = folder / "screen.h5ad"
        ps.simulate_screen(source, **SIMULATED[name], umi_per_cell=4000, seed=1, quiet=True)
    store = ps.io.ingest(source, folder / "screen.zarr", quiet=True)
    return name, audit_screen(store, replicates=5 if name in HALVED else 0, quiet=True)


@pytest.mark.once
def test_no_attack_gains_in_a_headline_metric(audited):
    """But in those that the table names, with the reason."""
    name, table = audited
    mine = table[table["is_headline"] & ~table["attack"].isin(KNOWS)]
    keys = set(zip(mine["metric"], mine["operating_point"], strict=True))
    assert not keys & set(GAMED)
    assert {"l2", "pearson_delta", "rank_l1", "accuracy", "mcc", "auprc_de"} <= {m for m, _ in keys}
    assert set(mine["ceiling_is"]) == {"truth", *(["replicate"] if name in HALVED else [])}
    assert mine.loc[mine["verdict"] == "gains", ["attack", "metric", "gain"]].empty
    without_calls = mine[(mine["operating_point"] == "") & (mine["ceiling_is"] == "truth")]
    of_cells = without_calls["attack"].map(lambda name: ATTACKS[name].kind == "cells")
    without_calls = without_calls[~of_cells]  # of one split, and drawn
    assert without_calls["gain"].max() <= MOST_GAIN  # not by chance either
    gains = table[table["verdict"] == "gains"]
    is_shown = gains["metric"].map(lambda metric: METRICS[metric].is_headline)
    assert (gains.loc[is_shown, "note"] != "").all()


@pytest.mark.once
def test_label_only_scores_like_the_floor(audited):
    _, table = audited
    mine = table[table["attack"].isin(["label_only_control", "label_only_mean"])]
    assert mine.loc[mine["verdict"] == "gains", ["attack", "metric", "gain"]].empty
    assert mine["gain"].max() <= MOST_GAIN


@pytest.mark.once
def test_every_attack_is_there(audited):
    name, table = audited
    assert set(table["attack"]) == set(ATTACKS)
    copied = table[table["attack"] == "cells_copied"].groupby("ceiling_is")["n_splits"].max()
    assert copied.to_dict() == {"truth": 1} | ({"replicate": 2} if name in HALVED else {})


@pytest.mark.once
def test_guides_of_one_target_on_both_sides_are_found(audited):
    """Four guides each, which no name of a gene tells: GATA1-A to GATA1-D."""
    name, table = audited
    found = table[(table["attack"] == "most_similar_name") & (table["metric"] == "rank_l1")]
    found = found.set_index("ceiling_is")["gain"]
    assert (found["truth"] > 0.3) == (name == "schraivogel")


# --- a small screen -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tiny_store):
    """Store, and table of all its cells."""
    return tiny_store, audit_screen(tiny_store, replicates=0, quiet=True)


def test_the_table_is_written_and_the_same_again(small, tmp_path):
    store, table = small
    file = store.with_suffix(".labels") / "attacks.parquet"
    assert list(table.columns) == [column.name for column in ATTACK_COLUMNS]
    pd.testing.assert_frame_equal(pd.read_parquet(file), table)
    before = file.read_bytes()
    audit_screen(store, replicates=0, quiet=True)
    assert file.read_bytes() == before
    other = audit_screen(store, out=tmp_path / "o", replicates=0, quiet=True)
    assert (tmp_path / "o" / "attacks.parquet").read_bytes() == before
    pd.testing.assert_frame_equal(other, table)


def test_values_are_those_of_the_benchmark(small):
    store, table = small
    labels = ps.read_labels(store.with_suffix(".labels"))
    matrix = labels.matrix().compute()
    names = [str(name) for name in matrix["perturbation"].values]
    splits = audit._RULE.splits(names, ps.open_screen(store).target_groups)
    found = []
    for split in splits:
        truth = matrix.sel(perturbation=list(split.held_out)).values
        own = ps.evaluation.own_targets(split.held_out, list(matrix["gene"].values))
        scores = evaluate(
            truth, np.zeros_like(truth), perturbations=split.held_out, exclude=np.argwhere(own)
        )
        found.append(scores.query("level == 'overall' and metric == 'accuracy'")["value"].item())
    rows = table.query("attack == 'no_change' and metric == 'accuracy'")
    mine = rows.loc[rows["operating_point"] == "as_called", "value"].item()
    assert mine == pytest.approx(np.mean(found))


def test_halves_give_a_replicate_as_ceiling(small, tmp_path):
    store, whole = small
    both = audit_screen(store, out=tmp_path / "o", replicates=2, quiet=True)
    of_all = both[both["ceiling_is"] == "truth"].reset_index(drop=True)
    pd.testing.assert_frame_equal(of_all, whole)  # nothing else than without halves
    table = both[both["ceiling_is"] == "replicate"]
    assert set(table["attack"]) == set(whole["attack"])
    rows = {name: t.query("attack == 'mean'").set_index(["metric", "operating_point"])
            for name, t in (("half", table), ("whole", whole))}  # fmt: skip
    for key in (("pearson_delta", ""), ("rank_l1", "")):
        assert rows["whole"].loc[key, "ceiling"] == pytest.approx(1)
        assert rows["half"].loc[key, "ceiling"] < 1
    assert rows["half"].loc[("l2", ""), "ceiling"] > 0
    n = rows["whole"].loc[("l2", ""), "n_splits"]
    assert rows["half"].loc[("l2", ""), "n_splits"] == 4 * n  # both ways, twice
    moved = table.query("attack == 'cells_moved' and metric == 'l2'")
    assert moved["ceiling"].item() > 0  # predicted cells are compared with halves, too
    assert moved["n_splits"].item() == 2


def test_one_half_is_scored_against_the_other(small, tmp_path):
    store, _ = small
    audit_screen(store, out=tmp_path / "o", replicates=1, quiet=True)
    halves = ps.stats.read_halves(tmp_path / "o").compute()
    mean = halves["mean_log1p"].sel(replicate=0)
    made = audit._AuditedContext(
        ps.open_screen(store), "sim", "include",
        ps.stats.read_pseudobulk(tmp_path / "o").compute(),
        ps.read_labels(tmp_path / "o").matrix().compute(), halves,
    )  # fmt: skip
    split = made._splits()[0]
    (first, one), (second, two) = made._halved(split)
    assert first != second
    for audited, a, b in ((one, 0, 1), (two, 1, 0)):
        names = list(audited.known.held_out)
        own, other = (mean.sel(half=half, perturbation="control").values for half in (a, b))
        np.testing.assert_array_equal(audited.known.control, other)
        held_out = mean.sel(perturbation=names)
        np.testing.assert_array_equal(audited.truth, held_out.sel(half=b).values)
        known = held_out.sel(half=a).values - own
        np.testing.assert_allclose(audited.replicate - other, known, atol=1e-12)
        train = mean.sel(half=a, perturbation=list(audited.known.names)).values - own
        np.testing.assert_allclose(audited.known.change, train, atol=1e-12)
        label = halves["label"].sel(perturbation=names)
        np.testing.assert_array_equal(audited.classes.truth, label.isel(half=b).values)
        np.testing.assert_array_equal(audited.classes.replicate[0], label.isel(half=a).values)


def test_many_cells_are_of_some_perturbations(small, tmp_path, monkeypatch):
    store, _ = small
    screen = ps.open_screen(store)
    source = CellSource(
        screen=screen, context="sim", control=np.zeros(30), n_cells=dict.fromkeys("abc", 100)
    )
    assert source.affordable(tuple("abc")) == ("a", "b", "c")
    monkeypatch.setattr("pertscale.benchmark.attacked_cells._MOST_VALUES", 6000)
    assert source.affordable(tuple("abc")) == ("a", "b")
    monkeypatch.setattr("pertscale.benchmark.attacked_cells._MOST_VALUES", 1)
    assert source.affordable(tuple("abc")) == ("a",)
    table = audit_screen(store, out=tmp_path / "o", replicates=1, quiet=True)
    for _, rows in table.groupby("ceiling_is"):
        assert set(rows["attack"]) == set(ATTACKS)


def test_the_worst_attack_of_each_headline_metric(small):
    _, table = small
    worst = worst_attacks(table)
    headline = table[table["is_headline"]]
    assert len(worst) == len(headline[["metric", "operating_point"]].drop_duplicates())
    assert not set(worst["attack"]) & set(KNOWS)
    for row in worst.itertuples():
        same = headline[
            (headline["metric"] == row.metric)
            & (headline["operating_point"] == row.operating_point)
            & ~headline["attack"].isin(KNOWS)
        ]
        of_kind = same[same["verdict"] == row.verdict] if row.verdict == "gains" else same
        if row.verdict != "gains":
            assert not (same["verdict"] == "gains").any()
        np.testing.assert_equal(row.gain, of_kind["gain"].max())


def test_on_the_command_line(small, tmp_path, monkeypatch):
    store, table = small
    args = ["audit-metrics", str(store), "--out", str(tmp_path / "p"), "--replicates", "1"]
    run = CliRunner().invoke(main, [*args, "--quiet"])
    assert run.exit_code == 0, run.output
    assert run.stdout.splitlines()[0].split() == [
        "context", "ceiling_is", "metric", "operating_point", "floor", "ceiling", "attack", "gain",
        "verdict",
    ]  # fmt: skip
    assert run.stderr == ""
    monkeypatch.setattr("pertscale.evaluation.attacks.audit.GAMED", {})
    monkeypatch.setitem(METRICS, "spread_ratio", replace(METRICS["spread_ratio"], is_headline=True))
    unknown = CliRunner().invoke(main, ["audit-metrics", str(store), "--out", str(tmp_path / "o")])
    assert unknown.exit_code == 1
    assert "attacks: sim" in unknown.stderr
    none = CliRunner().invoke(main, ["audit-metrics", str(tmp_path / "none.zarr")])
    assert none.exit_code == 1
    assert len(none.stderr.strip().splitlines()) == 1
    assert table["verdict"].isin(["ok", "gains", "cannot tell"]).all()


def test_targets_that_count_are_said(small, tmp_path):
    store, _ = small
    table = audit_screen(store, out=tmp_path / "o", targets="include", replicates=0, quiet=True)
    assert set(table["targets"]) == {"include"}
    label = table[(table["attack"] == "label_only_control") & (table["metric"] == "rank_cosine")]
    assert label["value"].item() == 1.0
    with pytest.raises(ArgumentError, match="targets='all'"):
        audit_screen(store, targets="all", quiet=True)


def test_too_few_perturbations_are_refused(tmp_path):
    ps.simulate_screen(
        tmp_path / "s.h5ad", n_cells=100, n_genes=20, n_perturbations=1, control_fraction=0.5,
        quiet=True,
    )  # fmt: skip
    store = ps.io.ingest(tmp_path / "s.h5ad", tmp_path / "s.zarr", quiet=True)
    with pytest.raises(InputError, match=r"no context of .* can be audited: sim: "):
        audit_screen(store, quiet=True)
    assert not (tmp_path / "s.labels" / "attacks.parquet").exists()


def test_where_no_perturbation_has_halves_all_cells_are_scored(tmp_path):
    ps.simulate_screen(
        tmp_path / "s.h5ad", n_cells=120, n_genes=20, n_perturbations=12, control_fraction=0.3,
        seed=1, quiet=True,
    )  # fmt: skip
    store = ps.io.ingest(tmp_path / "s.h5ad", tmp_path / "s.zarr", quiet=True)
    table = audit_screen(store, replicates=1, quiet=True)
    halves = ps.stats.read_halves(tmp_path / "s.labels")["n_cells"].drop_sel(perturbation="control")
    assert int(halves.min()) == 0
    assert "truth" in set(table["ceiling_is"])
