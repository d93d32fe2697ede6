"""Transfer between contexts of one store and of several, from one call."""

from __future__ import annotations

import json

import anndata
import numpy as np
import pandas as pd
import pytest

import pertscale as ps
from pertscale.baselines.registry import CEILINGS, EXPRESSION_FLOORS, ON_HALVES
from pertscale.errors import ArgumentError
from pertscale.evaluation import at_operating_point
from pertscale.report import write_report
from tests.support.helpers import real_data

#: What is scored on halves of the cells.
HALVED = {*CEILINGS, *(f"{name}{ON_HALVES}" for name in EXPRESSION_FLOORS)}

pytestmark = [pytest.mark.usefixtures("without_report"), pytest.mark.once]

HOW = {
    "tasks": ["single", "transfer"],
    "methods": ["majority_vote", "knn_10", "no_change", "mean_perturbation", "linear"],
    "settings": ["full", "curated"],
    "exclude_test_perturbations": False,
    "seed": 0,
    "quiet": True,
}
SPLIT = "holdout-seed0"


def _subset(example, context, path, *, names=None, drop=()):
    """Write one context of the example as a file of its own, with other names of its genes."""
    mine = example.context == context
    data = anndata.read_h5ad(example.source)[mine].copy()
    data = data[:, ~data.var_names.isin(drop)].copy()
    if names is not None:
        data.var_names = [names.get(g, g) for g in data.var_names]
    data.write_h5ad(path)
    return ps.io.ingest(path, path.with_suffix(".zarr"), quiet=True)


@pytest.fixture(scope="module")
def stores(example, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    return [_subset(example, c, folder / f"{c}.h5ad") for c in ("alpha", "beta")]


def small(folder, name, names, *, kind=""):
    """Ingest a screen of some perturbations, with what was done to its cells."""
    labels = ["ctrl"] * 30 + [n for n in names for _ in range(12)]
    counts = np.random.default_rng(0).poisson(3, (len(labels), 40)).astype("f4")
    counts[30:, ::3] *= 4
    obs = pd.DataFrame({"gene": labels, "cell_line": name, "perturbation_type": kind})
    obs.index = [f"c{i}" for i in range(len(labels))]
    genes = pd.DataFrame(index=[f"G{i}" for i in range(40)])
    source = folder / f"{name}.h5ad"
    anndata.AnnData(counts, obs=obs, var=genes).write_h5ad(source)
    return ps.io.ingest(source, folder / f"{name}.zarr", quiet=True)


def test_what_transfer_lacks_is_named_and_what_makes_no_sense_is_not_done(tmp_path, capsys):
    all_names = [f"G{i}" for i in range(10)]
    stores = [
        small(tmp_path, "A", all_names, kind="CRISPRi"),
        small(tmp_path, "B", all_names[2:], kind="CRISPRi"),
        small(tmp_path, "C", all_names, kind="CRISPRa"),
        small(tmp_path, "D", [f"G{i}" for i in range(20, 30)]),
    ]
    result = ps.run_benchmark(
        stores,
        out=tmp_path / "run",
        tasks=["transfer"],
        methods=["majority_vote"],
        settings=["full"],
        seed=0,
    )
    rows = result.coverage.query("what == 'transfer'").set_index(["context", "name"])
    row = rows.loc[("A", "B")]
    assert (row["n_perturbations"], row["n_perturbations_predicted"]) == (10, 8)
    assert row["perturbations_missing"] == "G0,G1"
    row = rows.loc[("B", "A")]
    assert (row["perturbations_missing"], row["not_in_screen"]) == ("", "G0,G1")
    assert rows.loc[("D", "A"), "n_perturbations_predicted"] == 0
    scored = result.scores.query("task == 'transfer'")
    assert set(zip(scored["context"], scored["train_contexts"], strict=True)) == {
        ("A", "B"),
        ("B", "A"),
    }
    skipped = result.skipped.set_index(["context", "what"])["reason"]
    assert "CRISPRa, those of A CRISPRi" in skipped["A", "transfer from C"]
    assert "none of its 10 perturbations is one of the 10 of D" in skipped["D", "transfer from A"]
    assert "none of its 10 perturbations is one of" in capsys.readouterr().err


@pytest.fixture(scope="module")
def together(example, tmp_path_factory):
    out = tmp_path_factory.mktemp("together") / "run"
    return ps.run_benchmark(example.screen, out=out, **HOW)


@pytest.fixture(scope="module")
def apart(stores, tmp_path_factory):
    out = tmp_path_factory.mktemp("apart") / "run"
    return ps.run_benchmark(stores, out=out, **HOW)


def _scores(result):
    rows = result.scores.query("task == 'transfer'")
    keys = [c for c in rows if c not in ("value", "n", "params")]
    return rows.set_index(keys)["value"].sort_index()


def test_one_store_or_several_give_the_same_scores(together, apart):
    one, several = _scores(together), _scores(apart)
    pd.testing.assert_series_equal(one, several)
    assert [name.split("-")[0] for name in apart.screens] == ["alpha", "beta"]
    assert all(len(result.labels.contexts) == 1 for result in apart.screens.values())
    write_report(apart, None)
    page = apart.report.read_text()
    assert "screens/" in page
    assert "Transfer</h2>" in page


def test_units_of_all_stores_are_one_map(apart):
    """Of several, so that no worker waits for the last unit of each store."""
    events = [json.loads(line) for line in (apart.path / "log.jsonl").read_text().splitlines()]
    tasks = [e["stage"] for e in events if e["event"] == "task" and e["stage"] != "rank-sum"]
    units = [stage for stage in tasks if stage in ("vectors", "methods")]
    assert units == sorted(units, reverse=True)  # all vectors, then all methods
    folders = [apart.path, *sorted((apart.path / "screens").iterdir())]
    assert units.count("methods") == sum(
        len(list((folder / "predictions").glob("**/unit.json"))) for folder in folders
    )


def test_the_same_call_computes_nothing_again(apart, stores):
    again = ps.run_benchmark(stores, out=apart.path, **HOW)
    assert again.timings.query("stage != 'report'")["reused"].all()


def test_copied_labels_are_those_of_the_other_context(together):
    split = together.splits["alpha"][SPLIT]
    kept = together.predictions(
        context="alpha",
        labels="full",
        split=SPLIT,
        method="same_perturbation",
        train_contexts="beta",
    )
    there = together.labels.matrix("beta")
    for name in split.test:
        mine = kept["label"].sel(perturbation=name).values
        np.testing.assert_array_equal(mine, there.sel(perturbation=name).values)


def test_copied_effects_are_the_other_contexts_on_the_own_control(together):
    dataset = together.expression(
        context="alpha", task="transfer", split=SPLIT, train_contexts="beta"
    )
    profiles = together.pseudobulk["mean_log1p"]
    alpha, beta = (
        profiles.isel(perturbation=profiles["context"].values == c) for c in ("alpha", "beta")
    )
    copied = dataset["prediction"].sel(model="same_perturbation")
    for name in copied["perturbation"].values:
        effect = beta.sel(perturbation=name) - beta.sel(perturbation="control")
        expected = (alpha.sel(perturbation="control") + effect).values
        np.testing.assert_allclose(copied.sel(perturbation=name).values, expected, atol=1e-5)
    names = [n for n in beta["perturbation"].values if n != "control"]
    mean = (beta.sel(perturbation=names) - beta.sel(perturbation="control")).mean("perturbation")
    expected = (alpha.sel(perturbation="control") + mean).values
    mine = dataset["prediction"].sel(model="mean_perturbation").values
    np.testing.assert_allclose(mine, np.broadcast_to(expected, mine.shape), atol=1e-5)


def test_held_out_perturbations_are_unseen_by_default(example, tmp_path):
    result = ps.run_benchmark(
        example.screen,
        out=tmp_path,
        tasks=["transfer"],
        methods=["majority_vote"],
        settings=["full"],
        quiet=True,
        seed=0,
    )
    assert "exclude_test_perturbations=False" in " ".join(result.skipped["reason"])
    assert "same_perturbation" not in set(result.scores["method"])
    # majority vote of beta without what alpha holds out, recomputed
    held_out = set(result.splits["alpha"][SPLIT].test)
    everyone = list(result.labels.matrix("beta")["perturbation"].values)
    train = [n for n in everyone if n not in held_out]
    assert len(train) == len(everyone) - len(held_out)
    votes = result.labels.matrix("beta").sel(perturbation=train).values
    counts = np.stack([(votes == c).sum(axis=0) for c in (1, -1, 0)])
    expected = np.array([1, -1, 0])[counts.argmax(axis=0)]
    kept = result.predictions(
        context="alpha", labels="full", split=SPLIT, method="majority_vote", train_contexts="beta"
    )
    np.testing.assert_array_equal(kept["label"].values, np.tile(expected, (len(held_out), 1)))


def test_genes_are_reconciled_and_accounted_for(example, stores, tmp_path):
    ids = {f"G{i}": f"ENSG{i:011d}" for i in range(20, 60)}
    names = {g: f"{i}.7" for g, i in ids.items()} | {"G5": "OTHER5"}
    table = tmp_path / "aliases.csv"
    rows = [f"{i},{g}" for g, i in ids.items()] + ["OTHER5,G5"]
    table.write_text("alias,name\n" + "\n".join(rows) + "\n")
    other = _subset(example, "beta", tmp_path / "other.h5ad", names=names, drop=["G100", "G101"])
    result = ps.run_benchmark(
        [stores[0], other],
        out=tmp_path / "run",
        tasks=["transfer"],
        methods=["majority_vote"],
        aliases=table,
        settings=["full"],
        exclude_test_perturbations=False,
        quiet=True,
        seed=0,
    )
    rows = result.coverage.query("what == 'transfer'").set_index("context")
    assert rows.loc["alpha", "n_genes_predicted"] == 698
    assert set(rows.loc["alpha", "genes_missing"].split(",")) == {"G100", "G101"}
    assert "41 genes of the source: alias" in rows.loc["alpha", "note"]
    # G5 is a perturbation too: it is held out, or copied, under its own name
    assert "G5" not in rows.loc["alpha", "not_in_screen"].split(",")
    kept = result.predictions(
        context="alpha", labels="full", split=SPLIT, method="majority_vote", train_contexts="beta"
    )
    assert (kept["label"].sel(gene=["G100", "G101"]) == 0).all()


def test_a_file_does_not_choose_the_genes_that_it_is_scored_on(example, tmp_path):
    """It has one gene, and all of that is right: the overlap is that of the contexts."""
    how = {
        "tasks": ["transfer"],
        "methods": ["majority_vote"],
        "settings": ["full"],
        "seed": 0,
        "quiet": True,
    }
    labels = ps.run_benchmark(example.screen, out=tmp_path / "run", **how).labels.to_pandas()
    mine = labels.query("context == 'alpha' and gene == 'G3' and label.notna()")
    mine = mine[["perturbation", "gene", "context", "label"]].astype(str)
    mine.to_csv(tmp_path / "one.csv", index=False)
    file = ps.read_predictions(tmp_path / "one.csv", codes="pertscale")
    result = ps.run_benchmark(
        example.screen, out=tmp_path / "run", predictions={"one": file}, **how
    )
    rows = result.scores.query("method == 'one' and level == 'overall' and metric == 'accuracy'")
    assert set(rows["context"]) == {"alpha"}
    found = rows.set_index("setting")["value"]
    assert found["full_overlap"] == found["full"] < 1
    reasons = result.skipped.query("context == 'beta'").set_index("what")["reason"]
    assert "files are for context 'alpha'" in reasons[f"one (transfer, {SPLIT})"]


def test_a_file_without_what_is_held_out_is_not_scored(example, tmp_path):
    how = {
        "tasks": ["transfer"],
        "methods": ["mean_perturbation"],
        "settings": ["full"],
        "seed": 0,
        "quiet": True,
    }
    result = ps.run_benchmark(example.screen, out=tmp_path / "run", **how)
    train = result.splits["alpha"][SPLIT].train[0]
    table = pd.DataFrame(0.1, index=[train], columns=list(example.screen.genes))
    table.rename_axis("condition").reset_index().to_parquet(tmp_path / "p.parquet")
    file = ps.read_predictions(tmp_path / "p.parquet", scale="delta", context="alpha")
    result = ps.run_benchmark(
        example.screen, out=tmp_path / "run", predictions={"none": file}, **how
    )
    assert "none" not in set(result.scores["method"])
    reasons = result.skipped.query("context == 'alpha'").set_index("what")["reason"]
    assert "none of the held-out perturbations" in reasons[f"none (transfer, {SPLIT})"]


def test_contexts_of_one_name_are_told_apart_by_their_stores(example, stores, tmp_path):
    twin = _subset(example, "alpha", tmp_path / "twin.h5ad", drop=["G3"])
    result = ps.run_benchmark(
        [stores[0], twin],
        out=tmp_path / "run",
        tasks=["transfer"],
        methods=["majority_vote"],
        settings=["full"],
        quiet=True,
        seed=0,
    )
    contexts = set(result.transfer_summary()["context"])
    assert len(contexts) == 2
    assert all(c.endswith(":alpha") for c in contexts)


def test_what_several_stores_need(stores, tmp_path):
    with pytest.raises(ArgumentError, match="pass out="):
        ps.run_benchmark(stores, quiet=True)
    with pytest.raises(ArgumentError, match="was given twice"):
        ps.run_benchmark([stores[0], stores[0]], out=tmp_path, quiet=True)
    with pytest.raises(ArgumentError, match="no store was given"):
        ps.run_benchmark([], out=tmp_path, quiet=True)


def _has_table_4(summary, contexts, *, file_for, targets=None):
    """Every target: each source alone, averaged, pooled; three classes; what is imported."""
    for target in targets or contexts:
        mine = summary[(summary["context"] == target) & (summary["setting"] == "full")]
        others = sorted(c for c in contexts if c != target)
        sources = set(mine["train_contexts"]) - {"file"}
        assert sources == {*others, "|".join(others), ",".join(c for c in contexts if c != target)}
        assert ("file" in set(mine["train_contexts"])) == (target in file_for)
        assert mine["recall_non_de"].notna().all()
        for name in ("up", "down"):  # a class that the target's truth lacks has no recall
            assert mine[f"recall_{name}"].isna().nunique() == 1


def test_four_simulated_lines_a_store_each_and_predicted_cells(tmp_path):
    lines = ("K562", "RPE1", "HepG2", "Jurkat")
    ps.simulate_screen(
        tmp_path / "s.h5ad",
        n_cells=9_000,
        n_genes=150,
        n_perturbations=16,
        contexts=lines,
        quiet=True,
    )
    data = anndata.read_h5ad(tmp_path / "s.h5ad")
    column = next(c for c in data.obs if set(data.obs[c].astype(str)) == set(lines))
    stores = []
    for line in lines:
        path = tmp_path / f"{line}.h5ad"
        data[data.obs[column] == line].copy().write_h5ad(path)
        stores.append(ps.io.ingest(path, path.with_suffix(".zarr"), quiet=True))
    imported = ps.read_predictions(tmp_path / "RPE1.h5ad")
    result = ps.run_benchmark(
        stores,
        out=tmp_path / "run",
        tasks=["transfer"],
        quiet=True,
        settings=["full"],
        methods=["majority_vote", "linear"],
        predictions={"STATE": imported},
        exclude_test_perturbations=False,
        seed=0,
    )
    summary = result.transfer_summary()
    _has_table_4(summary, lines, file_for=("RPE1",))
    summary = at_operating_point(summary)
    state = summary.query("method == 'STATE' and setting == 'full'")
    assert state["accuracy"].tolist() == [1.0]  # the observed cells as a prediction
    errors = result.scores.query("metric == 'l2' and level == 'overall' and context == 'RPE1'")
    errors = errors[errors["setting"] == "top_expressed"]
    pairwise = errors[errors["train_contexts"] == "K562"].set_index("method")["value"]
    models = {"linear", "same_perturbation", "linear_other_screen", "STATE"}
    assert set(pairwise.index) == models | set(HALVED)
    assert pairwise["STATE"] < 1e-3 < pairwise["same_perturbation"]


def test_the_four_contexts_of_a_real_screen(tmp_path):
    source = real_data("norman_mcfaline") / "devel.h5ad"
    store = ps.io.ingest(source, tmp_path / "devel.zarr", quiet=True)
    contexts = ps.open_screen(store).contexts
    assert len(contexts) == 4
    data = anndata.read_h5ad(source)
    data[data.obs["cell_type"] == contexts[-1]].copy().write_h5ad(tmp_path / "state.h5ad")
    result = ps.run_benchmark(
        store,
        out=tmp_path / "run",
        tasks=["transfer"],
        settings=["full"],
        quiet=True,
        methods=["majority_vote"],
        predictions={"STATE": tmp_path / "state.h5ad"},
        seed=0,
    )
    summary = result.transfer_summary()
    # no gene is DE in the glioma lines, and to k562 nothing is transferred
    assert not len(summary)
    skipped = result.skipped[result.skipped["what"].str.startswith("transfer from")]
    assert set(skipped["context"]) == set(contexts)
    to_k562 = skipped[skipped["context"] == "k562"]
    assert set(to_k562["what"]) == {f"transfer from {c}" for c in contexts if c != "k562"}
    assert to_k562["reason"].str.contains("are CRISPRi, those of k562 CRISPRa").all()
    assert set(skipped[skipped["context"] != "k562"]["what"]) == {"transfer from k562"}
