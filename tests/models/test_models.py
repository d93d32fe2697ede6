"""Models in processes of their own: what they see, what they give back, how they end."""

from __future__ import annotations

import ast
import json
import os
import select
import subprocess
import sys
import tomllib
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import pertscale as ps
from pertscale.cli import main
from pertscale.errors import ArgumentError, CorruptFileError, InputError, NotFoundError
from pertscale.errors import UnknownNameError as Unknown
from pertscale.guide_names import target_group
from pertscale.io import ingest
from pertscale.models import (
    ModelSpec,
    check_predictions,
    predictions_of,
    read_config,
    run_model,
    run_models,
    write_task,
)
from pertscale.models import process as run_module
from pertscale.models import task as task_module
from pertscale.splits import Split, doubles_split
from pertscale.splits.rule import SplitRule
from pertscale.storage.atomic import read_json
from tests.support import fake_model
from tests.support.helpers import ROOT
from tests.support.screens import write_h5ad

FAKE = Path(fake_model.__file__)
COMMAND = (sys.executable, str(FAKE), "{task}", "{out}")
SINGLES = [f"G{i}" for i in range(8)]
DOUBLES = [f"G{i}+G{i + 1}" for i in range(7)]
SPLIT = Split("mine", tuple(SINGLES), tuple(DOUBLES[:3]), tuple(DOUBLES[3:5]))


@pytest.fixture(scope="module")
def screen(tmp_path_factory):
    """One context with singles and doubles, labels in several spellings, batches."""
    folder = tmp_path_factory.mktemp("models")
    random = np.random.default_rng(0)
    labels = ["non-targeting", *SINGLES, *(d.replace("+", "|") for d in DOUBLES)]
    label = random.choice(labels, 600)
    counts = random.poisson(np.exp(random.normal(0, 1, 60)), (600, 60)).astype(np.uint16)
    obs = {"perturbation": label, "gem_group": random.choice(["1", "2"], 600)}
    source = write_h5ad(folder / "s.h5ad", counts, obs)
    return ps.open_screen(ingest(source, folder / "s.zarr", quiet=True))


@pytest.fixture(scope="module")
def task(screen, tmp_path_factory):
    return write_task(screen, SPLIT, tmp_path_factory.mktemp("task") / "task", seed=3)


def spec_of(how, **more):
    return ModelSpec("fake", (*COMMAND, how), **more)


# --- the task ---------------------------------------------------------------------------------


def test_held_out_cells_are_not_in_the_task(screen, task):
    data = anndata.read_h5ad(task / "data.h5ad")
    obs = screen.obs
    seen = obs["perturbation"].isin(["control", *SPLIT.train])
    held_out = obs.index[obs["perturbation"].isin(SPLIT.test)]
    assert len(held_out) > 50
    assert not set(data.obs_names) & set(held_out)
    assert list(data.obs_names) == list(obs.index[seen])
    np.testing.assert_array_equal(
        data.X.toarray(), screen.to_xarray()["expression"].values[seen.to_numpy()]
    )
    assert data.X.dtype == np.float32
    assert list(data.var_names) == list(data.var["gene_name"]) == list(screen.genes)
    with h5py.File(task / "data.h5ad") as file:
        for text in ("obs/cell", "obs/condition/categories", "var/gene", "var/gene_name"):
            assert file[text].attrs["encoding-type"] == "string-array"  # which AnnData 0.9 reads
    assert set(data.obs["condition"]) == {"ctrl", *(f"{s}+ctrl" for s in SINGLES)}
    assert list(data.obs["control"]) == list((data.obs["condition"] == "ctrl").astype(int))
    assert set(data.obs["cell_type"]) == set(screen.contexts)
    assert set(data.obs["batch"]) == {"1", "2"}
    text = (task / "data.h5ad").read_bytes()
    assert not any(name.encode() in text for name in SPLIT.test)


def test_task_says_what_is_asked_for(screen, task):
    assert sorted(p.name for p in task.iterdir()) == ["data.h5ad", "request.json", "split.json"]
    assert read_json(task / "split.json") == {"train": SINGLES, "val": []}
    request = read_json(task / "request.json")
    assert request["conditions"] == DOUBLES[:5]
    assert request["genes"] == list(screen.genes)
    assert request["scale"] == "log1p_1e4"
    assert request["seed"] == 3
    assert request["spelling"]["G1"] == "G1+ctrl"
    assert request["spelling"]["G0+G1"] == "G0+G1"


def test_task_does_not_depend_on_blocks(screen, task, tmp_path, monkeypatch):
    monkeypatch.setattr(task_module, "CHUNK_ROWS", 64)
    monkeypatch.setattr(task_module, "_PIECE_ROWS", 7)
    write_task(screen, SPLIT, tmp_path / "again", seed=3)
    for file in task.iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()


def test_some_genes_keep_their_scale(screen, task, tmp_path):
    write_task(screen, SPLIT, tmp_path / "few", genes=["G7", "G2"])
    few = anndata.read_h5ad(tmp_path / "few" / "data.h5ad")
    whole = anndata.read_h5ad(task / "data.h5ad")
    np.testing.assert_array_equal(few.X.toarray(), whole[:, ["G7", "G2"]].X.toarray())
    assert read_json(tmp_path / "few" / "request.json")["genes"] == ["G7", "G2"]


def test_log_values_are_taken_as_they_are(log_example, tmp_path):
    split = Split("s", ("G1", "G2"), ("G3",))
    screen = log_example.screen
    data = anndata.read_h5ad(
        write_task(screen, split, tmp_path / "t", context="alpha") / "data.h5ad"
    )
    rows = screen.obs.index.get_indexer(data.obs_names)
    np.testing.assert_array_equal(data.X.toarray(), screen.to_xarray()["expression"].values[rows])
    with pytest.raises(ArgumentError, match="2 contexts"):
        write_task(screen, split, tmp_path / "t")


@pytest.mark.parametrize(
    ("split", "how", "error", "message"),
    [
        (Split("s", ("G1",), ("G99",)), {}, Unknown, "1 perturbations of split 's'"),
        (SPLIT, {"context": "K562"}, Unknown, "no context 'K562'"),
        (SPLIT, {"genes": ["G1", "TP53"]}, Unknown, "'TP53'"),
        (SPLIT, {"genes": ["G1", "G1"]}, ArgumentError, "each once"),
    ],
)
def test_tasks_that_cannot_be(screen, tmp_path, split, how, error, message):
    with pytest.raises(error, match=message):
        write_task(screen, split, tmp_path / "task", **how)
    assert not list(tmp_path.iterdir())


# --- what comes back --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "status", "message"),
    [
        ("right", "complete", ""),
        ("column", "complete", ""),
        ("some_conditions", "partial", "1 conditions missing: G0+G1"),
        ("empty_condition", "partial", "1 conditions missing: G0+G1"),
        ("some_genes", "partial", "1 genes missing: G0"),
        ("wrong_genes", "wrong", "'G0x'; name them as request.json does; did you mean 'G0'?"),
        (
            "wrong_condition",
            "wrong",
            "'G0+G1+ctrl'; name them as request.json does; did you mean 'G0+G1'?",
        ),
        ("twice", "wrong", "condition 'G0+G1' is there twice"),
        ("nan", "wrong", "10 of 300 values can't be: nan of gene 'G3' in 'G0+G1' is not finite"),
        ("small_negatives", "complete", ""),
        ("change", "wrong", "5 of 5 conditions are no expression: in 'G0+G1' values below 0"),
        ("zero", "wrong", "5 of 5 conditions are no expression"),
        ("counts", "wrong", "is not below 15"),
        ("log2", "wrong", "expm1 adds up to"),
        ("text", "wrong", "column 'G0' holds no numbers"),
        ("numbers", "wrong", "rows have no names, the first is 0"),
    ],
)
def test_check(task, tmp_path, how, status, message):
    genes, profile = fake_model.control_profile(task / "data.h5ad")
    names = pd.Index(DOUBLES[:5], name="condition")
    table = pd.DataFrame(np.tile(profile, (5, 1)), index=names, columns=genes)
    fake_model.changed(table, how).to_parquet(tmp_path / "predictions.parquet")
    found = check_predictions(task, tmp_path)
    assert found.status == status
    assert message in found.reason
    if how in ("right", "column"):
        pd.testing.assert_frame_equal(found.predictions, table, check_names=False)
    assert (found.predictions is None) == (status == "wrong")


# --- how a run ends ---------------------------------------------------------------------------


def test_right_answer(task, tmp_path):
    run = run_model(spec_of("right"), task, tmp_path / "fake")
    assert (run.status, run.reason) == ("complete", "")
    assert run.seconds > 0
    files = ["meta.json", "model.log", "predictions.parquet", "run.json"]
    assert sorted(p.name for p in (tmp_path / "fake").iterdir()) == files
    found = pd.read_parquet(run.path).set_index("condition")
    assert list(found.index) == DOUBLES[:5]
    assert (tmp_path / "fake" / "model.log").read_text() == "done\n"
    assert read_json(tmp_path / "fake" / "run.json")["status"] == "complete"


def test_what_a_model_says_of_itself_may_be_nonsense(task, tmp_path):
    assert run_model(spec_of("deep_meta"), task, tmp_path / "fake").status == "complete"
    assert not (tmp_path / "fake" / "meta.json").exists()


@pytest.mark.parametrize(
    ("how", "status", "message"),
    [
        ("crash", "failed", "exit code 1. model.log ends: no GPU was found"),
        ("kill", "killed", "killed by SIGKILL; perhaps memory ran out. model.log is empty"),
        ("garbage", "wrong", "predictions.parquet is not a Parquet file"),
        ("nothing", "wrong", "wrote no predictions.parquet"),
    ],
)
def test_bad_ends(task, tmp_path, how, status, message):
    run = run_model(spec_of(how), task, tmp_path / "fake")
    assert run.status == status
    assert message in run.reason
    assert run.path is None
    assert not (tmp_path / "fake" / "predictions.parquet").exists()
    assert read_json(tmp_path / "fake" / "run.json")["reason"] == run.reason


def test_a_program_that_is_not_there(task, tmp_path):
    spec = ModelSpec("none", ("no-such-program", "{task}", "{out}"))
    run = run_model(spec, task, tmp_path / "none")
    assert run.status == "failed"
    assert "can't start 'no-such-program': No such file" in run.reason


@pytest.fixture
def hanging(tmp_path, monkeypatch):
    """What tells of a model that hangs, and its child: events, however busy the machine is."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    monkeypatch.setenv("FAKE_MODEL_PIPE", str(pipe))
    file = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    yield Hanging(file)
    os.close(file)


@dataclass
class Hanging:
    """The reading end of the pipe that the model and its child hold."""

    file: int

    def wait_until_started(self, process):
        """Wait until both run, or fail when the process that should start them has ended."""
        end = os.pidfd_open(process.pid)  # can be read once the process has ended
        ready, _, _ = select.select([self.file, end], [], [])
        os.close(end)
        assert self.file in ready
        assert os.read(self.file, 8) == b"started\n"

    def wait_until_ended(self):
        """Wait until both have ended; neither did so by itself."""
        select.select([self.file], [], [])
        assert os.read(self.file, 8) == b""


def test_timeout_ends_the_whole_group(task, tmp_path, monkeypatch, hanging):
    monkeypatch.setattr(run_module, "GRACE_SECONDS", 0.3)

    def wait(process, timeout):
        assert timeout == 60
        hanging.wait_until_started(process)
        return original(process, 0.1)

    original = run_module._wait
    monkeypatch.setattr(run_module, "_wait", wait)
    run = run_model(spec_of("hang", timeout=60), task, tmp_path / "fake")
    assert run.status == "timeout"
    assert "not finished after 60 s" in run.reason
    hanging.wait_until_ended()


def test_interruption_ends_the_whole_group(task, tmp_path, monkeypatch, hanging):
    monkeypatch.setattr(run_module, "GRACE_SECONDS", 0.3)
    started = []

    def interrupted(process, timeout):
        started.append(process)
        hanging.wait_until_started(process)
        raise KeyboardInterrupt

    monkeypatch.setattr(run_module, "_wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_model(spec_of("hang"), task, tmp_path / "fake")
    assert started[0].poll() is not None
    hanging.wait_until_ended()
    assert not (tmp_path / "fake" / "run.json").exists()


@pytest.mark.once
def test_no_model_outlives_pertscale(task, tmp_path, hanging):
    code = (
        "import sys; from pertscale.models import ModelSpec, run_model\n"
        "run_model(ModelSpec('fake', tuple(sys.argv[3:])), *sys.argv[1:3])"
    )
    driver = subprocess.Popen(
        [sys.executable, "-c", code, task, tmp_path / "fake", *COMMAND, "hang"], cwd=ROOT
    )
    try:
        hanging.wait_until_started(driver)
    finally:
        driver.kill()
        driver.wait()
    hanging.wait_until_ended()


def test_memory_is_that_of_the_model(task, tmp_path):
    held = np.ones(40_000_000)  # 320 MB, of which a child of this process would seem to need all
    spec = ModelSpec("small", (sys.executable, "-S", "-c", "", "{task}", "{out}"))
    run = run_model(spec, task, tmp_path / "small")
    assert held.nbytes > 2 * run.peak_memory_bytes > 0


def test_submit_environment_and_threads(task, tmp_path):
    code = "import subprocess, sys; print('queued'); sys.exit(subprocess.call(sys.argv[1:]))"
    show = "import os; print(os.environ['OMP_NUM_THREADS'], os.environ['MKL_NUM_THREADS'])"
    spec = ModelSpec(
        "shown",
        (sys.executable, "-c", show, "{task}", "{out}"),
        submit=(sys.executable, "-u", "-c", code),
        environment={"OMP_NUM_THREADS": "7"},
    )
    run_model(spec, task, tmp_path / "shown")
    threads = read_json(task / "request.json")["threads"]
    assert (tmp_path / "shown" / "model.log").read_text() == f"queued\n7 {threads}\n"


# --- models.toml ------------------------------------------------------------------------------


def write_config(folder, **hows):
    """Write a models.toml with one fake model per name."""
    text = "".join(
        f"[models.{name}]\ncommand = {json.dumps([*COMMAND, how])}\n" for name, how in hows.items()
    )
    (folder / "models.toml").write_text(text)
    return folder / "models.toml"


def test_config(tmp_path):
    (tmp_path / "model.py").touch()
    (tmp_path / "models.toml").write_text(
        '[models.a]\ncommand = ["env/bin/python", "model.py", "--in={task}", "{out}"]\n'
        'timeout = "1.5h"\nsubmit = ["srun"]\nenvironment = { K = "V" }\ntasks = ["double"]\n'
        '[models."b 2"]\ncommand = ["python", "x.py", "{task}", "{out}"]\ntimeout = 30\n'
    )
    a, b = read_config(tmp_path / "models.toml").values()
    here = str(tmp_path)
    assert a.command == (f"{here}/env/bin/python", f"{here}/model.py", "--in={task}", "{out}")
    assert (a.timeout, a.submit, a.environment, a.tasks) == (
        5400,
        ("srun",),
        {"K": "V"},
        ("double",),
    )
    assert b == ModelSpec("b 2", ("python", "x.py", "{task}", "{out}"), timeout=30)
    before = a.hash
    assert replace(a, timeout=1, submit=()).hash == before
    (tmp_path / "model.py").write_text("print()")
    assert a.hash != before


GOOD = 'command = ["m", "{task}", "{out}"]\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no model in"),
        ("[model.a]\n", "has 'model', known are models; did you mean 'models'?"),
        ("[models]\na = 1\n", "has to be a table"),
        ("[models.a]\n", "command in .* has to be a list of texts, found None"),
        ('[models.a]\ncommand = "m {task} {out}"\n', "has to be a list of texts"),
        ('[models.a]\ncommand = ["m", "{task}"]\n', "lacks {out}"),
        (f"[models.a]\n{GOOD}time_out = 3\n", "did you mean 'timeout'?"),
        (f"[models.a]\n{GOOD}timeout = 'soon'\n", "found 'soon'"),
        (f"[models.a]\n{GOOD}timeout = -1\n", "found -1"),
        (f"[models.a]\n{GOOD}timeout = true\n", "found True"),
        (f"[models.a]\n{GOOD}tasks = ['singles']\n", "did you mean 'single'?"),
        (f"[models.a]\n{GOOD}environment = {{ K = 1 }}\n", "a table of texts"),
        (f"[models.'a/b']\n{GOOD}", "can't be that of a folder"),
    ],
)
def test_config_errors(tmp_path, text, message):
    (tmp_path / "models.toml").write_text(text)
    with pytest.raises(InputError, match=message) as error:
        read_config(tmp_path / "models.toml")
    assert str(tmp_path) in str(error.value)


def test_no_config(tmp_path):
    with pytest.raises(NotFoundError, match="should be a file of models"):
        read_config(tmp_path / "models.toml")
    (tmp_path / "models.toml").write_text("[models.a")
    with pytest.raises(CorruptFileError, match="not TOML"):
        read_config(tmp_path / "models.toml")


# --- several models -----------------------------------------------------------------------------


def calls(path):
    return path.read_text().split() if path.exists() else []


def test_runs_are_resumed(screen, tmp_path, monkeypatch):
    made = tmp_path / "calls"
    monkeypatch.setenv("FAKE_MODEL_CALLS", str(made))
    config = write_config(tmp_path, good="right", bad="crash")

    def run(**how):
        made.unlink(missing_ok=True)
        return run_models(config, screen, out=tmp_path / "out", quiet=True, **how), calls(made)

    found, called = run(tasks=["double"], seeds=(0,))
    assert called == ["right", "crash"]
    assert list(found["model"]) == ["good", "bad"]
    assert list(found["status"]) == ["complete", "failed"]
    folder = Path(found["path"][0]).parent.parent
    assert folder.parts[-2:] == ("double", "doubles-seed0")
    assert (folder / ".task" / "request.json").exists()
    again, called = run(tasks=["double"], seeds=(0,))
    assert called == ["crash"]
    pd.testing.assert_frame_equal(again.iloc[:1], found.iloc[:1])
    write_config(tmp_path, good="right", bad="column")
    _, called = run(tasks=["double"], seeds=(0,))
    assert called == ["column"]
    assert not (folder / ".task").exists()  # nobody needs it any more
    _, called = run(tasks=["double"], seeds=(0,))
    assert called == []
    _, called = run(tasks=["double"], seeds=(0, 1))
    assert called == ["right", "column"]


def test_splits_are_those_of_a_benchmark(screen, tmp_path):
    config = write_config(tmp_path, bad="crash")
    found = run_models(config, screen, out=tmp_path / "out", seeds=(1,), quiet=True)
    names = list(screen.perturbations)
    single = SplitRule(None, (1,), 0.25).splits(names, target_group(names, set(screen.genes)))[0]
    wanted = {"single": single, "double": doubles_split(names, seed=1)}
    assert list(found["task"]) == ["single", "double"]
    for task, split in zip(found["task"], found["split"], strict=True):
        assert split == wanted[task].name
        folder = next((tmp_path / "out").iterdir()) / task / split / ".task"
        kept = set(SINGLES) if task == "single" else set(names)
        asked = [n for n in (*wanted[task].test, *wanted[task].val) if n in kept]
        assert read_json(folder / "request.json")["conditions"] == asked
        train = [n for n in wanted[task].train if n in kept]
        assert read_json(folder / "split.json")["train"] == train


def test_options_of_a_benchmark_decide_who_is_held_out(screen, tmp_path):
    config = write_config(tmp_path, bad="crash")
    how = {"out": tmp_path / "out", "tasks": ["single"], "seeds": (0,), "quiet": True}
    few = run_models(config, screen, **how)
    half = run_models(config, screen, test_fraction=0.5, **how)
    assert half["split"].tolist() == few["split"].tolist()
    assert half["split_hash"][0] != few["split_hash"][0]
    assert half["split_drawn"][0].startswith("drawn with test_fraction=0.5, min_cells=2; ")
    fewest = int(screen.groups["stop"].sub(screen.groups["start"]).min())
    some = run_models(config, screen, min_cells=fewest + 1, **how)
    assert some["split_hash"][0] != few["split_hash"][0]
    for wrong in ({"test_fraction": 1.0}, {"min_cells": 1}):
        with pytest.raises(ArgumentError, match=next(iter(wrong))):
            run_models(config, screen, **how, **wrong)


@pytest.mark.usefixtures("without_report")
def test_predictions_for_others_than_a_benchmark_holds_out_are_refused(screen, tmp_path):
    """The name of a split is the same; both are told, and how each was drawn."""
    config = write_config(tmp_path, good="right")
    how = {"tasks": ["single"], "quiet": True}
    runs = run_models(config, screen, out=tmp_path / "models", seeds=(0,), test_fraction=0.5, **how)
    benchmark = partial(
        ps.run_benchmark,
        screen,
        out=tmp_path / "run",
        methods=["mean"],
        seed=0,
        predictions=predictions_of(runs),
        **how,
    )
    with pytest.raises(InputError, match="has the hash") as error:
        benchmark()
    assert runs["split_hash"][0] in str(error.value)
    for drawn in ("test_fraction=0.5, min_cells=2", "test_fraction=0.25, min_cells=2"):
        assert f"(drawn with {drawn}; " in str(error.value)
    result = benchmark(test_fraction=0.5)
    assert "good" in set(result.scores["method"])
    assert runs["split_hash"][0] in {s.hash for s in result.splits[screen.contexts[0]].values()}


def test_what_cannot_be_split_is_told(example, tmp_path):
    config = write_config(tmp_path, good="right")
    how = {"out": tmp_path / "out", "quiet": True, "tasks": ["double"], "seeds": (0,)}
    found = run_models(config, example.screen, context="beta", **how)
    assert list(found["status"]) == ["skipped"]
    assert "0 doubles" in found["reason"][0]
    assert not (tmp_path / "out").exists()
    with pytest.raises(Unknown, match="no context 'K562'"):
        run_models(config, example.screen, context="K562", **how)
    with pytest.raises(ArgumentError, match="'triple'"):
        run_models(config, example.screen, out=tmp_path / "out", tasks=["triple"])


def test_names_of_a_split_that_the_screen_lacks_are_told(screen, tmp_path, capsys):
    config = write_config(tmp_path, bad="crash")
    split = Split("theirs", train=("G0", "G1", "G2", "LOST1"), test=("G3", "LOST2"), kind="file")
    how = {"out": tmp_path / "out", "tasks": ["single"]}
    found = run_models(config, screen, split=split, **how)
    assert found["left_out"].tolist() == ["LOST1,LOST2"]
    told = capsys.readouterr().err
    assert "split 'theirs': 2 of its 6 names are no perturbation of the screen" in told
    assert "column left_out has all" in told
    assert "perturbations are in no part of split 'theirs'; nothing is trained" in told
    other = Split("other", train=("G0", "LOST1", "LOST3"), test=("LOST2",), kind="file")
    with pytest.raises(InputError, match="3 of its 4 names") as error:
        run_models(config, screen, split=other, **how)
    assert "aliases=" not in str(error.value)  # which run_models does not have
    found = run_models(config, screen, seeds=(0,), **how)
    assert found["left_out"].tolist() == [""]


def test_command_line(screen, tmp_path):
    config = write_config(tmp_path, good="right")
    out = tmp_path / "out"
    arguments = ["models", "run", str(config), "--store", screen.path, "--out", str(out)]
    done = CliRunner().invoke(main, [*arguments, "--task", "single", "--seed", "2", "--quiet"])
    assert done.exit_code == 0, done.output
    assert "holdout-seed2 complete" in done.output
    assert len(list(out.rglob("predictions.parquet"))) == 1
    write_config(tmp_path, bad="crash")
    done = CliRunner().invoke(main, [*arguments, "--task", "single", "--quiet"])
    assert done.exit_code == 1
    assert "no GPU was found" in done.output
    done = CliRunner().invoke(main, ["models", "run", "no.toml", *arguments[3:]])
    assert done.exit_code == 1
    assert "a file of models" in done.output


# --- examples -----------------------------------------------------------------------------------

EXAMPLES = ROOT / "examples" / "models"


def test_example_config():
    specs = read_config(EXAMPLES / "models.toml")
    names = tomllib.loads((EXAMPLES / "models.toml").read_text())["models"]
    assert list(specs) == list(names)
    for spec in specs.values():
        assert any(Path(argument).exists() for argument in spec.command[1:])


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda p: p.name)
def test_examples_stand_alone(path):
    tree = ast.parse(path.read_text())
    modules = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [a.name for a in node.names]
            if isinstance(node, ast.Import)
            else [node.module]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert "pertscale" not in modules
    assert path.stem not in modules  # a script's own name hides the package from it
    assert "pip install" in ast.get_docstring(tree)
    assert "Licence" in ast.get_docstring(tree)
