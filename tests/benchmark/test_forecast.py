"""The plan before a run: equal to what the run then does, nothing written, what can't fit refused.

How well times are estimated is measured, not tested.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections import namedtuple
from functools import partial

import dask
import pytest
from distributed import Client, LocalCluster

import pertscale as ps
from pertscale.benchmark.forecast import plan as estimate
from pertscale.diagnostics.events import TaskDone, recording
from pertscale.errors import ArgumentError, MemoryBudgetError, NotFoundError, StorageError
from pertscale.schema import REPLICATES
from pertscale.splits.rule import SplitRule
from pertscale.stats import rank_sum, rank_sum_share
from tests.support.commands import run_command
from tests.support.helpers import tree_hash

pytestmark = [pytest.mark.usefixtures("without_report"), pytest.mark.once]

#: Enough for all kinds of units, and quick.
METHODS = ["majority_vote", "knn_1", "mean", "additive"]
OPTIONS = {
    "methods": METHODS,
    "settings": ["full", "full_without_target"],
    "seed": 0,
    "quiet": True,
}
#: Tiles small enough that the example has a dozen.
SMALL = {**OPTIONS, "memory": "12MB"}
_rates = {}
_Usage = namedtuple("_Usage", "total used free")


@pytest.fixture(autouse=True)
def _probe_once(monkeypatch):
    """Rates are measured once for all plans of this process; workers measure their own."""
    measure = estimate._call

    def remembered(client, function, *arguments):
        key = function, arguments
        if client is not None or key not in _rates:
            _rates[key] = measure(client, function, *arguments)
        return _rates[key]

    monkeypatch.setattr(estimate, "_call", remembered)


@pytest.fixture
def one_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.fixture(scope="module")
def finished(example, without_report, tmp_path_factory):
    """Output of a finished run."""
    folder = tmp_path_factory.mktemp("finished")
    ps.run_benchmark(example.screen, out=folder, **OPTIONS)
    return folder


def tasks_of(stage, call):
    """Call something; return the tasks of a stage that ran."""
    found = []
    with recording(found.append):
        call()
    return [one for one in found if isinstance(one, TaskDone) and one.stage == stage]


def stage(plan, name):
    return plan.stages.set_index("stage").loc[name]


def usage(free):
    return lambda path: _Usage(10**12, 10**12 - free, free)


# --- what is planned is what is done ----------------------------------------------------------


@pytest.mark.parametrize("memory", ["12MB", "20MB", "auto"])
def test_tiles_and_bytes_are_those_of_the_run(example, tmp_path, one_thread, memory):
    plan = ps.plan_benchmark(example.screen, out=tmp_path / "o", **{**OPTIONS, "memory": memory})
    done = tasks_of(
        "rank-sum",
        lambda: rank_sum(
            example.screen, out=tmp_path / "o", replicates=REPLICATES, memory=memory, quiet=True
        ),
    )
    assert plan.n_tiles == len(done) > 0
    assert stage(plan, "labels")["bytes_read"] == sum(task.bytes_read for task in done)


def test_tiles_of_two_threads(example, tmp_path):
    with dask.config.set(num_workers=2):
        plan = ps.plan_benchmark(example.screen, out=tmp_path / "o", **SMALL)
        done = tasks_of(
            "rank-sum",
            lambda: rank_sum(
                example.screen, out=tmp_path / "o", replicates=REPLICATES, memory="12MB", quiet=True
            ),
        )
    assert plan.n_tiles == len(done)
    assert plan.n_threads == 2
    # which thread comes first decides how often controls are read again, never less often
    assert stage(plan, "labels")["bytes_read"] <= sum(task.bytes_read for task in done)


def test_units_are_those_of_the_run(example, finished):
    plan = ps.plan_benchmark(example.screen, out=finished / "elsewhere", **OPTIONS)
    timings = ps.read_result(finished).timings
    stages = timings.loc[timings["level"] == "stage", "stage"]
    assert stage(plan, "methods")["n_tasks"] == (stages == "method").sum() > 0
    assert stage(plan, "expression")["n_tasks"] == (stages == "expression").sum() > 0
    # what fails when it is fitted can't be foretold
    assert {"double"} < set(plan.skipped["what"]) <= set(ps.read_result(finished).skipped["what"])


def test_output_is_about_what_was_foretold(example, finished):
    plan = ps.plan_benchmark(example.screen, out=finished / "elsewhere", **OPTIONS)
    names = ("labels", "pseudobulk.zarr", "predictions")
    size = sum(f.stat().st_size for n in names for f in (finished / n).rglob("*") if f.is_file())
    assert 0.2 * size < plan.output_bytes < 5 * size


def test_numbers_of_the_screen(example, tmp_path):
    plan = ps.plan_benchmark(example.screen, out=tmp_path / "o", **OPTIONS)
    assert (plan.n_cells, plan.n_genes) == example.screen.shape
    assert plan.contexts == example.screen.contexts
    assert plan.n_perturbations == (~example.screen.groups["is_control"]).sum()
    assert plan.seconds > 0
    assert 0 < plan.peak_bytes < plan.memory_limit
    assert "tiles: " in repr(plan)
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.n_tiles = 0


def test_nothing_is_written(example, tmp_path):
    shutil.copytree(example.screen.path, tmp_path / "s.zarr")
    shutil.copy(example.source, tmp_path / "s.h5ad")
    before = tree_hash(tmp_path), sorted(tmp_path.rglob("*"))
    ps.plan_benchmark(tmp_path / "s.zarr", **OPTIONS)
    ps.plan_benchmark(tmp_path / "s.h5ad", **OPTIONS)
    ps.plan_benchmark([tmp_path / "s.zarr", tmp_path / "s.h5ad"], out=tmp_path / "o", **OPTIONS)
    assert (tree_hash(tmp_path), sorted(tmp_path.rglob("*"))) == before


# --- what is done already -----------------------------------------------------------------------


def test_after_everything_nothing_is_left(example, finished):
    before = tree_hash(finished)
    plan = ps.plan_benchmark(example.screen, out=finished, **OPTIONS)
    assert (plan.n_tasks, plan.seconds, plan.disk_bytes, plan.bytes_read) == (0, 0, 0, 0)
    assert "nothing is left" in repr(plan)
    assert tree_hash(finished) == before


def test_another_option_leaves_what_depends_on_it(example, finished):
    more = ps.plan_benchmark(
        example.screen, out=finished, **{**OPTIONS, "methods": [*METHODS, "knn_10"]}
    )
    assert stage(more, "labels")["n_tasks"] == 0
    assert stage(more, "methods")["n_tasks"] == len(example.screen.contexts) * (
        1 + len(example.screen.contexts) - 1  # within, and from the other one
    )
    other = ps.plan_benchmark(example.screen, out=finished, test="scanpy", **OPTIONS)
    assert stage(other, "labels")["n_tasks"] > 0
    assert stage(other, "methods")["n_done"] == 0


def test_after_the_labels_the_rest_is_left(example, tmp_path):
    rank_sum(example.screen, out=tmp_path, replicates=REPLICATES, quiet=True)
    plan = ps.plan_benchmark(example.screen, out=tmp_path, **OPTIONS)
    assert stage(plan, "labels")["n_tasks"] == 0
    assert plan.n_tiles == plan.n_tiles_done
    assert stage(plan, "methods")["n_tasks"] > 0
    assert not (tmp_path / ".work").exists()


def test_tiles_of_a_kept_plan_count(example, tmp_path, one_thread):
    whole = ps.plan_benchmark(example.screen, out=tmp_path, **SMALL)
    how = {"out": tmp_path, "replicates": REPLICATES, "memory": "12MB", "quiet": True}
    n = rank_sum_share(example.screen, share="1/3", **how)
    plan = ps.plan_benchmark(example.screen, out=tmp_path, **SMALL)
    assert 0 < n == plan.n_tiles_done < plan.n_tiles == whole.n_tiles
    done = tasks_of(
        "rank-sum",
        lambda: rank_sum(example.screen, **how),
    )
    assert len(done) == plan.n_tiles - n
    assert stage(plan, "labels")["bytes_read"] == sum(task.bytes_read for task in done)


# --- what can't fit -------------------------------------------------------------------------------


def test_too_little_memory_is_refused_with_what_would_do(example, tmp_path):
    with pytest.raises(MemoryBudgetError, match="pass memory=") as refused:
        ps.plan_benchmark(example.screen, out=tmp_path / "o", **{**OPTIONS, "memory": "2MB"})
    enough = re.search(r"pass memory='(\d+MB)'", str(refused.value)).group(1)
    plan = ps.plan_benchmark(example.screen, out=tmp_path / "o", **{**OPTIONS, "memory": enough})
    assert plan.tile_bytes * plan.n_threads <= plan.memory_budget
    rank_sum(example.screen, out=tmp_path / "o", replicates=REPLICATES, memory=enough, quiet=True)


def test_too_small_a_disk_is_refused_with_both_numbers(example, tmp_path, monkeypatch):
    needed = ps.plan_benchmark(example.screen, out=tmp_path / "o", **OPTIONS).disk_bytes
    monkeypatch.setattr(shutil, "disk_usage", usage(needed - 1))
    with pytest.raises(StorageError, match=r"needs about .*pass out="):
        ps.plan_benchmark(example.screen, out=tmp_path / "o", **OPTIONS)
    monkeypatch.setattr(shutil, "disk_usage", usage(needed))
    plan = ps.plan_benchmark(example.screen, out=tmp_path / "o", **OPTIONS)
    assert plan.free_bytes == plan.disk_bytes


def test_wrong_options_are_those_of_the_run(example, tmp_path):
    with pytest.raises(ArgumentError, match="did you mean 'majority_vote'"):
        ps.plan_benchmark(example.screen, out=tmp_path, methods=["majority"])
    with pytest.raises(NotFoundError, match="no store or file"):
        ps.plan_benchmark(tmp_path / "none.zarr")


# --- files, several screens, workers ------------------------------------------------------------


def test_a_file_that_is_no_store(example, tmp_path):
    plan = ps.plan_benchmark(example.source, out=tmp_path / "o", **OPTIONS)
    store = ps.plan_benchmark(example.screen, out=tmp_path / "o", **OPTIONS)
    assert plan.stages["stage"].iloc[0] == "ingest"
    assert stage(plan, "ingest")["bytes_read"] == example.source.stat().st_size
    assert plan.n_cells == store.n_cells
    assert plan.contexts == store.contexts
    assert stage(plan, "methods")["n_tasks"] == stage(store, "methods")["n_tasks"]
    done = []
    with recording(done.append):
        ps.run_benchmark(example.source, out=tmp_path / "o", **OPTIONS)
    assert stage(plan, "ingest")["n_tasks"] == sum(
        isinstance(one, TaskDone) and one.stage in ("read", "write") for one in done
    )
    after = ps.plan_benchmark(example.source, out=tmp_path / "o", **OPTIONS)
    assert (after.n_tasks, after.seconds) == (0, 0)


def test_several_stores(example, log_example, tmp_path):
    few = {"methods": ["majority_vote"], "settings": ["full"], "seed": 0, "quiet": True}
    both = [example.screen, log_example.screen]
    plan = ps.plan_benchmark(both, out=tmp_path / "o", **few)
    assert list(plan.screens["screen"]) == ["example.zarr", "log.zarr"]
    assert plan.n_cells == 2 * example.screen.n_cells
    result = ps.run_benchmark(both, out=tmp_path / "o", **few)
    timings = result.timings
    n = ((timings["level"] == "stage") & (timings["stage"] == "method")).sum()
    assert stage(plan, "methods")["n_tasks"] == n
    assert ps.plan_benchmark(both, out=tmp_path / "o", **few).n_tasks == 0


def test_workers_with_a_limit(example, tmp_path):
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=2, memory_limit="1GB", dashboard_address=None
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        plan = ps.plan_benchmark(example.screen, out=tmp_path / "o", client=client, **OPTIONS)
        assert (plan.n_workers, plan.n_threads, plan.memory_limit) == (1, 2, 10**9)
        assert plan.memory_budget == 500_000_000
        with pytest.raises(MemoryBudgetError, match="memory_limit='2875MB'"):
            ps.plan_benchmark(
                example.screen, out=tmp_path / "o", client=client, **{**OPTIONS, "memory": "2GB"}
            )
        done = tasks_of(
            "rank-sum",
            lambda: rank_sum(
                example.screen, out=tmp_path / "o", replicates=REPLICATES, client=client, quiet=True
            ),
        )
        assert plan.n_tiles == len(done)


# --- how it is shown ------------------------------------------------------------------------------


def test_html_is_escaped(example, tmp_path):
    name = tmp_path / "<b>x.zarr"
    shutil.copytree(example.screen.path, name)
    shown = ps.plan_benchmark(name, **OPTIONS)._repr_html_()
    assert "<b>x" not in shown
    assert "&lt;b&gt;x.zarr" in shown


def test_command(example, tmp_path):
    plan = partial(run_command, "plan", example.screen.path, "--out", "o", "--quiet", cwd=tmp_path)
    told = plan("--method", "knn_1", "--setting", "full")
    assert told.returncode == 0, told.stderr
    assert "tiles: " in told.stdout
    refused = plan("--memory", "2MB")
    assert refused.returncode == 1
    assert "pass --memory" in refused.stderr
    assert list(tmp_path.iterdir()) == []


# --- how many splits ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "seeds", "drawn"),
    [
        (12, None, [0, 1, 2, 3, 4]),  # 3 held out
        (156, None, [0, 1, 2, 3, 4]),  # 39
        (157, None, [0]),  # 40
        (12, (7,), [7]),
        (400, (1, 2), [1, 2]),
    ],
)
def test_few_held_out_perturbations_are_drawn_five_times(n, seeds, drawn):
    names = [f"P{i}" for i in range(n)]
    how = SplitRule(None, seeds, 0.25)
    splits = how.splits(names, {name: name for name in names})
    assert [split.seed for split in splits] == drawn
    assert how.as_dict()["seeds"] == (None if seeds is None else list(seeds))


def test_no_split_is_drawn_twice():
    """Of two perturbations, one held out, there are two splits only."""
    splits = SplitRule(None, None, 0.25).splits(["A", "B"], {"A": "A", "B": "B"})
    assert sorted(split.test for split in splits) == [("A",), ("B",)]
    assert splits[0].seed == 0
    doubles = SplitRule(None, None, 0.25).of_doubles(
        ["A", "B", "C", "A+B", "B+C"],
        {"A": ("A",), "B": ("B",), "C": ("C",), "A+B": ("A", "B"), "B+C": ("B", "C")},
    )
    assert len({split.test for split in doubles}) == len(doubles) == 2


def test_the_run_tells_how_many_splits_there_are_and_why(example, tmp_path, capsys):
    only = {"methods": ["majority_vote"], "settings": ["full"], "tasks": ["within"]}
    planned = ps.plan_benchmark(example.screen, out=tmp_path, **only, quiet=True)
    result = ps.run_benchmark(example.screen, out=tmp_path, **only)
    assert set(result.scores["seed"]) == {0, 1, 2, 3, 4}
    assert (
        stage(planned, "methods")["n_tasks"] == 2 * 5 * 3
    )  # the vote, the replicate, and the vote on halves
    said = capsys.readouterr().err
    assert re.search(r"beta: 5 splits, as only 3 of \d+ perturbations are held out in each", said)
    told = result.manifest["drawn_splits"]
    assert [row["context"] for row in told] == ["alpha", "beta"]
    assert {row["n_splits"] for row in told} == {5}
    assert {row["reason"] for row in told} == {"fewer than 40 are held out"}
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert sum(entry["event"] == "splits" for entry in log) == 2
