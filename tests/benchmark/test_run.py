"""run_benchmark end to end on a small screen: what it writes, reuses, and goes on with."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import xarray as xr
from distributed import Client, LocalCluster
from sklearn.metrics import balanced_accuracy_score, f1_score, matthews_corrcoef

import pertscale as ps
from pertscale.baselines.registry import DEFAULT_METHODS
from pertscale.benchmark.units import class_scores, label_matrix, running
from pertscale.benchmark.units.class_unit import ClassUnit
from pertscale.errors import ArgumentError, InputError, NotFoundError
from pertscale.evaluation import at_operating_point
from pertscale.schema import SCORE_COLUMNS
from tests.support.helpers import stable_hash
from tests.support.processes import run_script
from tests.support.screens import write_h5ad

pytestmark = [pytest.mark.usefixtures("without_report"), pytest.mark.once]

#: Methods that classify the small screen; the additive one predicts no single.
HALVED = {"replicate", "majority_vote_halves", "all_non_de_halves"}
IN_CLASSES = set(DEFAULT_METHODS) - {"additive"}


@pytest.fixture(scope="module")
def finished(example, without_report, tmp_path_factory):
    out = tmp_path_factory.mktemp("benchmark") / "run"
    return ps.run_benchmark(example.screen, out=out, quiet=True, seed=0)


#: Classes within a context, by methods that take no time.
QUICK = {
    "tasks": ["within"],
    "methods": ["majority_vote", "knn_1", "knn_10", "random", "oracle"],
    "seed": 0,
}


@pytest.fixture(scope="module")
def within(example, without_report, tmp_path_factory):
    out = tmp_path_factory.mktemp("benchmark") / "within"
    return ps.run_benchmark(example.screen, out=out, **QUICK, quiet=True)


def test_scores_have_the_declared_columns(finished):
    scores = finished.scores
    assert list(scores.columns) == [c.name for c in SCORE_COLUMNS]
    within = scores[scores["task"] == "within"]
    assert set(within["setting"]) == {"full", "full_without_target", "curated", "confident"}
    assert set(within["context"]) == {"alpha", "beta"}
    on_gaps = {"knn_1_labelled", "knn_10_labelled"}
    assert set(within.loc[within["setting"] == "curated", "method"]) == IN_CLASSES | HALVED
    assert set(within.loc[within["setting"] == "full", "method"]) == HALVED | IN_CLASSES - on_gaps
    assert set(scores["metric"]) <= set(ps.evaluation.METRICS)
    lacking = within[within["metric"] == "n_without_vector"]
    voting = {"knn_1", "knn_10", "knn_cv", *on_gaps}
    assert set(lacking["method"]) == {*voting, "logistic", "logistic_pairs"}
    assert set(within.loc[within["metric"] == "share_without_vote", "method"]) == voting
    assert (lacking["n"] == 3).mean() > 0.5  # perturbations, not pairs


def test_scores_are_those_of_the_kept_predictions(finished):
    """Recomputed with scikit-learn from the label table, the split file and the predictions."""
    split = finished.splits["alpha"]["holdout-seed0"]
    truth = finished.labels.matrix("alpha").sel(perturbation=list(split.test)).values.ravel()
    overall = at_operating_point(finished.scores).query(
        "task == 'within' and context == 'alpha' and level == 'overall'"
    )
    for method in ("majority_vote", "knn_cv", "knn_10", "random"):
        kept = finished.predictions(
            context="alpha", labels="full", split="holdout-seed0", method=method
        )
        assert list(kept["perturbation"].values) == list(split.test)
        predicted = kept["label"].values.ravel()
        mine = overall[overall["method"] == method]
        full = mine[mine["setting"] == "full"].set_index("metric")["value"]
        assert full["accuracy"] == pytest.approx((truth == predicted).mean())
        assert full["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(truth, predicted))
        assert full["mcc"] == pytest.approx(matthews_corrcoef(truth, predicted))
        expected = f1_score(truth, predicted, average="macro", labels=[-1, 0, 1], zero_division=0)
        assert full["macro_f1"] == pytest.approx(expected)


def test_targets_are_left_out_where_the_setting_says_so(finished):
    split = finished.splits["alpha"]["holdout-seed0"]
    n = (
        finished.scores.query("context == 'alpha' and level == 'overall' and method == 'oracle'")
        .groupby("setting")["n"]
        .first()
    )
    assert n["full"] == len(split.test) * len(finished.labels.genes)
    assert n["full_without_target"] == n["full"] - len(split.test)


def test_rows_of_single_perturbations_are_apart_in_the_file(finished):
    with pq.ParquetFile(finished.path / "scores.parquet") as file:
        groups = [file.read_row_group(i, ["level"])["level"] for i in range(file.num_row_groups)]
    *single, last = [set(group.to_pylist()) for group in groups]
    assert single
    assert all(levels == {"perturbation"} for levels in single)
    assert last == {"overall", "class"}
    scores, of_perturbations = finished.scores, finished.perturbation_scores()
    assert len(finished.means) + len(of_perturbations) == len(scores)
    for file in finished.path.glob("predictions/**/scores.parquet"):  # so they are of units
        single = (pd.read_parquet(file)["level"] == "perturbation").to_numpy()
        assert (single == np.sort(single)).all()
    errors = finished.perturbation_scores(task="single", metric="l2", method="mean")
    assert len(errors)
    assert (errors[["task", "metric", "method"]] == ["single", "l2", "mean"]).all(axis=None)


def test_oracle_is_right_and_nothing_else_is(finished):
    accuracy = finished.scores.query("level == 'overall' and metric == 'accuracy'")
    oracle = accuracy["method"] == "oracle"
    assert (accuracy.loc[oracle, "value"] == 1).all()
    assert (accuracy.loc[~oracle, "value"] < 1).all()


def test_no_test_perturbation_is_in_training(finished):
    for splits in finished.splits.values():
        for split in splits.values():
            assert not set(split.train) & set(split.test)
            assert len(split.test) == 3


def test_everything_is_there(finished):
    names = {p.name for p in finished.path.iterdir() if not p.name.startswith(".")}
    assert names == {
        "manifest.json",
        "labels",
        "pseudobulk.zarr",
        "splits",
        "predictions",
        "scores.parquet",
        "estimates.parquet",
        "comparisons.parquet",
        "ranks.parquet",
        "calibration.parquet",
        "strata.parquet",
        "reproducibility.parquet",
        "halves.zarr",
        "drops.parquet",
        "targets.parquet",
        "null_calibration.parquet",
        "null_tests.zarr",
        "skipped.parquet",
        "timings.parquet",
        "report.html",
        "interactions.parquet",
        "coverage.parquet",
        "log.jsonl",
    }
    manifest = json.loads((finished.path / "manifest.json").read_text())
    assert manifest["options"]["seeds"] == [0]
    assert manifest["versions"]["pertscale"] == ps.__version__
    untested = finished.drops.query("kind == 'perturbation'")
    assert list(untested["name"]) == ["G_alone"]
    assert "majority_vote" in repr(finished)
    assert "<table" in finished._repr_html_()
    assert ps.read_result(finished.path).scores.equals(finished.scores)


def test_again_computes_nothing(example, finished, tmp_path, monkeypatch):
    before = stable_hash(finished.path)
    for module, name in ((class_scores, "scored_both"), (ClassUnit, "run")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("computed again"))
    again = ps.run_benchmark(example.screen, out=finished.path, quiet=True, seed=0)
    assert again.timings.query("stage != 'report'")["reused"].all()
    assert stable_hash(finished.path) == before


def test_one_option_changed(example, tmp_path, monkeypatch):
    """Another seed: the labels stay; another embedding: only the neighbours are run again."""
    random = np.random.default_rng(0)
    one, other = (
        ps.Embedding(name, list(example.screen.genes), random.normal(size=(700, 5)), {})
        for name in ("one", "other")
    )
    names = ["majority_vote", "knn_10", "logistic"]
    how = {
        "out": tmp_path,
        "tasks": ["within"],
        "settings": ["full"],
        "methods": names,
        "seed": 0,
        "quiet": True,
    }
    ps.run_benchmark(example.screen, embedding=one, **how)
    ran: list[str] = []
    real = ClassUnit.run

    def recording(unit, out):
        ran.append(unit.method)
        return real(unit, out)

    monkeypatch.setattr(ClassUnit, "run", recording)
    ps.run_benchmark(example.screen, embedding=other, **how)
    assert set(ran) == {"knn_10", "logistic"}
    ran.clear()
    changed = ps.run_benchmark(example.screen, embedding=other, **{**how, "seed": 5})
    assert set(ran) == {*names, "majority_vote_halves", "replicate"}
    assert changed.timings.set_index("stage").loc["labels", "reused"]
    assert set(changed.scores["split"]) == {"holdout-seed5"}
    assert not list(tmp_path.rglob("*seed0*"))


def test_seeds_methods_settings(example, tmp_path):
    result = ps.run_benchmark(
        example.screen,
        out=tmp_path,
        seed=[1, 2],
        methods=["majority_vote"],
        settings=["full"],
        quiet=True,
    )
    assert set(result.scores["seed"]) == {1, 2}
    assert set(result.scores["method"]) == {"majority_vote", "majority_vote_halves", "replicate"}
    assert set(result.scores["setting"]) == {"full", "full_overlap"}
    for wrong, message in (
        ({"methods": ["knn_cw"]}, "did you mean 'knn_cv'"),
        ({"settings": ["ful"]}, "did you mean 'full'"),
    ):
        with pytest.raises(ArgumentError, match=message):
            ps.run_benchmark(example.screen, out=tmp_path, quiet=True, **wrong)


def test_splits_of_genes(tmp_path):
    """Doubles with one gene held out and one trained on are in no part, and told."""
    singles = [f"G{i}" for i in range(8)]
    doubles = [f"G{i}+G{i + 1}" for i in range(7)]
    names = [n for n in ["control", *singles, *doubles] for _ in range(6)]
    counts = np.random.default_rng(0).poisson(3, (len(names), 20)).astype(np.float32)
    source = write_h5ad(tmp_path / "s.h5ad", counts, {"perturbation": np.array(names)})
    how = {
        "methods": ["majority_vote"],
        "settings": ["full"],
        "tasks": ["within"],
        "seed": 0,
        "quiet": True,
    }
    usual = ps.run_benchmark(source, out=tmp_path / "usual", **how)
    (row,) = usual.manifest["genes_seen"]
    assert row["n_seen"] > 0
    line = f"{row['n_seen']} of {row['n']} held-out perturbations"
    assert any(line in text and "gene_disjoint=True" in text for text in usual.findings)
    assert not (usual.coverage["what"] == "split").any()
    apart = ps.run_benchmark(source, out=tmp_path / "apart", gene_disjoint=True, **how)
    (row,) = apart.manifest["genes_seen"]
    assert row["n_seen"] == 0
    assert not any("perturbed in training" in text for text in apart.findings)
    assert apart.manifest["options"]["gene_disjoint"] is True
    ((split,),) = (mine.values() for mine in apart.splits.values())
    (told,) = apart.coverage.query("what == 'split'").to_dict("records")
    left = set(told["perturbations_missing"].split(","))
    assert left == {*singles, *doubles} - {*split.train, *split.test}
    assert told["n_perturbations"] - told["n_perturbations_predicted"] == len(left) > 0
    with pytest.raises(ArgumentError, match="pass one of both"):
        ps.run_benchmark(source, out=tmp_path / "x", gene_disjoint=True, split=split, **how)


def test_a_split_from_outside(example, tmp_path):
    file = tmp_path / "split.json"
    test = ["G2", "G5", "G_never_seen"]
    file.write_text(json.dumps({"train": ["G0", "G1", "G3", "G4+ctrl", "ctrl"], "test": test}))
    result = ps.run_benchmark(
        example.screen,
        out=tmp_path / "run",
        split=file,
        methods=["majority_vote"],
        settings=["full"],
        quiet=True,
    )
    (split,) = result.splits["alpha"].values()
    assert (split.train, split.test) == (("G0", "G1", "G3", "G4"), ("G2", "G5"))
    assert set(result.scores.query("level == 'perturbation'")["group"]) == {"G2", "G5"}


def test_the_validation_part_is_scored_as_the_test_part_is(example, tmp_path):
    """And nothing is fitted on it: for classes as for expression."""
    test, val = ("G2", "G5"), ("G6", "G1")
    train = ("G0", "G3", "G4", "G7")
    parts = [ps.Split("s", train, test, val), ps.Split("s", train, (*test, *val))]
    scores = []
    for i, split in enumerate(parts):
        result = ps.run_benchmark(
            example.screen,
            out=tmp_path / f"run{i}",
            split=split,
            tasks=("within", "single"),
            methods=("majority_vote", "mean"),
            settings=("full",),
            quiet=True,
        )
        scores.append(result.scores)
    rows = scores[0][scores[0]["level"] == "perturbation"]
    for _, mine in rows.groupby(["context", "task", "method"]):
        assert set(mine["group"]) == {*test, *val}
    pd.testing.assert_frame_equal(*scores)


def test_on_a_cluster_with_another_working_directory(example, within, tmp_path, monkeypatch):
    """The same bytes from two worker processes, with relative paths."""
    monkeypatch.chdir(Path(example.screen.path).parent)
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        client.run(os.chdir, "/")
        out = Path(os.path.relpath(tmp_path / "run"))
        page = tmp_path / "performance.html"
        ps.run_benchmark(
            Path(example.screen.path).name, out=out, performance_report=page, **QUICK, quiet=True
        )
    assert stable_hash(tmp_path / "run") == stable_hash(within.path)
    text = page.read_text()
    assert "Task Stream" in text
    assert '<script src="http' not in text  # it needs nothing from elsewhere


def test_units_of_a_large_screen_run_on_the_cluster(example, tmp_path, monkeypatch):
    few = {
        "methods": ["majority_vote", "knn_1"],
        "tasks": ["within"],
        "settings": ["full"],
        "seed": 0,
        "quiet": True,
    }
    here = ps.run_benchmark(example.screen, out=tmp_path / "here", **few)
    monkeypatch.setattr(running, "LOCAL_PAIRS", 0)
    monkeypatch.setattr(label_matrix, "HELD_BYTES", 0)
    with (
        LocalCluster(n_workers=1, processes=False, dashboard_address=None) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        there = ps.run_benchmark(example.screen, out=tmp_path / "there", client=client, **few)
        done = client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.task_prefixes)
    # our tasks only: one that handed work to the cluster would wait for it with a thread it needs
    assert set(done) == {"screen", "rank-sum", "labels", "vectors", "methods", "same"}
    assert there.scores.equals(here.scores)


def test_many_pairs_block_by_block_give_the_same(example, tmp_path, monkeypatch):
    """Few are held in memory, without graphs; their predictions are in other chunks on disk."""
    asked = {
        "tasks": ["within", "single", "transfer"],
        "methods": ["majority_vote", "knn_1", "logistic", "logistic_pairs", "oracle", "mean"],
        "seed": 0,
        "quiet": True,
    }
    held = ps.run_benchmark(example.screen, out=tmp_path / "held", **asked)
    monkeypatch.setattr(label_matrix, "HELD_BYTES", 0)
    blocks = ps.run_benchmark(example.screen, out=tmp_path / "blocks", **asked)
    chunked = ("prediction.zarr/", "unit.json", "manifest.json")
    one, other = (
        {name: found for name, found in hashes.items() if not any(part in name for part in chunked)}
        for hashes in (stable_hash(held.path), stable_hash(blocks.path))
    )
    assert one == other
    folders = sorted(path.parent for path in held.path.glob("predictions/**/unit.json"))
    assert folders
    for folder in folders:
        predictions = [
            xr.open_zarr(
                result.path / folder.relative_to(held.path) / "prediction.zarr", consolidated=False
            ).load()
            for result in (held, blocks)
        ]
        xr.testing.assert_identical(*predictions)


def test_the_report_on_performance_needs_a_cluster(example, finished, tmp_path):
    with pytest.raises(ArgumentError, match="make a Client first"):
        ps.run_benchmark(
            example.screen,
            out=finished.path,
            performance_report=tmp_path / "p.html",
            quiet=True,
            seed=0,
        )


def test_log_and_timings_tell_of_tasks(finished):
    log = [json.loads(line) for line in (finished.path / "log.jsonl").read_text().splitlines()]
    first = [entry for entry in log if entry["run"] == log[0]["run"]]
    assert [first[0]["event"], first[-1]["event"]] == ["start", "end"]
    tiles = [e for e in first if e["event"] == "task" and e["stage"] == "rank-sum"]
    rows = finished.timings.query("level == 'task' and stage == 'rank-sum'")
    assert list(rows["unit"]) == [e["unit"] for e in tiles]
    assert (rows["bytes_read"] > 0).all()
    assert (rows["peak_bytes"] > 10**8).all()
    assert (rows["worker"].str.endswith(f":{os.getpid()}")).all()
    skipped = [(e["what"], e["reason"]) for e in first if e["event"] == "skipped"]
    assert skipped == list(zip(finished.skipped["what"], finished.skipped["reason"], strict=True))


KILLED = """
import json, os, signal, sys
from pertscale.benchmark.units.class_unit import ClassUnit
import pertscale as ps

real, left = ClassUnit.run, [int(sys.argv[3])]

def dying(*arguments):
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    return real(*arguments)

ClassUnit.run = dying
ps.run_benchmark(sys.argv[1], out=sys.argv[2], **json.loads(sys.argv[4]), quiet=True)
"""


def n_units(out):
    """Count the units that are in place; those that were being written begin with a dot."""
    return len(list(out.glob("predictions/*/*/*/[!.]*/unit.json")))


def test_killed_while_scoring(example, within, tmp_path, monkeypatch):
    """SIGKILL, then the same call: the same bytes, and only what was missing is done."""
    out = tmp_path / "run"
    done = [0]  # units after each kill
    for after in (0, 5, 12):
        dead = run_script(KILLED, example.screen.path, out, after, json.dumps(QUICK))
        assert dead.returncode == -signal.SIGKILL, dead.stderr
        assert not (out / "manifest.json").exists()
        done.append(n_units(out))
        assert done[-1] >= done[-2]
    ran: list[str] = []
    real = ClassUnit.run
    monkeypatch.setattr(
        ClassUnit, "run", lambda unit, out: (ran.append(unit.title), real(unit, out))[1]
    )
    ps.run_benchmark(example.screen, out=out, **QUICK, quiet=True)
    assert len(ran) == n_units(out) - done[-1] > 0
    assert stable_hash(out) == stable_hash(within.path)


def test_a_run_with_other_labels_that_fails_leaves_no_result(example, tmp_path, monkeypatch):
    """A folder never says of its labels what was found with others."""
    how = {
        "out": tmp_path,
        "tasks": ["within"],
        "methods": ["majority_vote"],
        "seed": 0,
        "quiet": True,
    }
    ps.run_benchmark(example.screen, **how)

    def fail(*_):
        raise RuntimeError("in the middle")

    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr(ClassUnit, "run", fail)
        ps.run_benchmark(example.screen, fdr=0.2, **how)
    with pytest.raises(NotFoundError, match="no finished benchmark"):
        ps.read_result(tmp_path)
    left = tmp_path / "predictions" / "alpha" / ".unit.0123456789ab.tmp"  # of a killed process
    left.mkdir(parents=True)
    again = ps.run_benchmark(example.screen, fdr=0.2, **how)
    assert again.manifest["options"]["fdr"] == 0.2
    assert not left.exists()
    assert again.labels.contexts == ("alpha", "beta")
    ps.stats.rank_sum(example.screen, out=tmp_path, quiet=True)  # `pertscale labels`, beside it
    with pytest.raises(InputError, match="another run has replaced them"):
        _ = ps.read_result(tmp_path).pseudobulk


def test_a_file_is_ingested_into_the_output_folder(example, tmp_path):
    result = ps.run_benchmark(
        example.source,
        out=tmp_path,
        methods=["majority_vote"],
        settings=["full"],
        quiet=True,
        seed=0,
    )
    assert (tmp_path / "screen.zarr").is_dir()
    assert result.labels.contexts == ("alpha", "beta")


def test_a_file_that_has_changed_is_ingested_again(tmp_path):
    random = np.random.default_rng(1)
    found = []
    for n_cells in (300, 300, 400):
        if not found or n_cells != found[-1].n_cells:
            names = random.choice(["control", "A", "B", "C", "D"], n_cells)
            write_h5ad(
                tmp_path / "s.h5ad", random.poisson(2.0, (n_cells, 30)), {"perturbation": names}
            )
        result = ps.run_benchmark(
            tmp_path / "s.h5ad",
            out=tmp_path / "run",
            tasks=["within"],
            methods=["majority_vote"],
            settings=["full"],
            quiet=True,
            seed=0,
        )
        found.append(ps.open_screen(tmp_path / "run" / "screen.zarr"))
        ingest = result.timings.query("stage == 'ingest'")
        assert bool(ingest["reused"].iloc[0]) == (len(found) == 2)
        assert found[-1].n_cells == n_cells


def test_nothing_is_made_for_a_store_that_is_not_there(tmp_path):
    with pytest.raises(NotFoundError):
        ps.run_benchmark(tmp_path / "no.zarr", quiet=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_what_could_not_run_is_said(tmp_path):
    """Two perturbations without any effect: no split, no curation, and rows that say so."""
    random = np.random.default_rng(0)
    source = write_h5ad(
        tmp_path / "flat.h5ad",
        random.poisson(2.0, (300, 30)),
        {"perturbation": random.choice(["control", "A", "B", "C", "D"], 300)},
    )
    store = ps.io.ingest(source, tmp_path / "flat.zarr", quiet=True)
    result = ps.run_benchmark(store, quiet=True, seed=0)
    skipped = result.skipped.set_index("what")["reason"]
    assert "no DE gene among 4 perturbations" in skipped["classes"]
    assert result.findings[0].startswith("flat: no DE gene among 4 perturbations, ")
    assert isinstance(result.summary(), pd.DataFrame)
