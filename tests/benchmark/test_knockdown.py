"""targets.parquet, and min_knockdown=: who is left out of splits and scores, and what is told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import pertscale as ps
from pertscale.benchmark.knocked_down import without_knockdown
from pertscale.errors import ArgumentError
from pertscale.io.checksums import write_record
from pertscale.schema import TARGET_COLUMNS, VERDICTS
from pertscale.splits.rule import SplitRule
from tests.support.helpers import stable_hash
from tests.support.screens import write_h5ad

pytestmark = [pytest.mark.usefixtures("without_report"), pytest.mark.once]

N_GENES = 60
#: What each perturbation leaves of its targets, of which nothing is known if they are not read out.
#: Totals grow by 15 %, so that this is no change.
LEFT = {f"G{i}": 0.1 for i in range(12)} | {"G3": 1.15, "G7": 1.15, "G9": 3.0, "OUTSIDE": 1}
DOUBLES = ("G0+G1", "G0+G3", "G1+G2", "G2+G4", "G4+G5", "G3+G7")
#: Perturbations with a target that is not lowered.
FAILED = {"G3", "G7", "G9", "G0+G3", "G3+G7"}
QUICK = {
    "methods": ["majority_vote", "knn_1", "mean", "mean_perturbation", "additive", "linear"],
    "intervals": False,
    "seed": 0,
    "quiet": True,
}


def draw() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts; perturbations; contexts. Each perturbation shifts a module, and its own target."""
    random = np.random.default_rng(2)
    names = ["control", "control", "control", *LEFT, *DOUBLES]
    perturbation = np.repeat(np.tile(names, 2), 40).astype(object)
    context = np.repeat(["alpha", "beta"], len(perturbation) // 2)
    mean = np.exp(random.normal(1.0, 0.6, N_GENES))
    mean[:20] = 6.0  # of targets, so that 40 cells say much
    rate = random.gamma(4.0, 0.25, (len(perturbation), N_GENES)) * mean
    for i, name in enumerate(names[3:]):
        cells = perturbation == name
        rate[np.ix_(cells, 20 + (2 * i + np.arange(8)) % 40)] *= 2.0
        for target in name.split("+"):
            if target in LEFT and target != "OUTSIDE":
                rate[cells, int(target[1:])] *= LEFT[target]
    perturbation[-1] = "G11_alone"
    counts = random.poisson(rate).astype(np.float32)
    counts[:, 11] = 0  # its target is not expressed
    return counts, perturbation, context


def write(path: Path, keep: np.ndarray | slice = slice(None)) -> Path:
    counts, perturbation, context = draw()
    obs = {"perturbation": perturbation[keep], "cell_line": context[keep]}
    cells = [f"cell{i}" for i in np.arange(len(counts))[keep]]  # their halves follow their names
    source = write_h5ad(path.with_suffix(".h5ad"), counts[keep], obs, cells=cells)
    return Path(str(ps.io.ingest(source, path, quiet=True)))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("knockdown") / "screen.zarr")


@pytest.fixture(scope="module")
def usual(store: Path, without_report: None) -> ps.BenchmarkResult:
    return ps.run_benchmark(store, out=store.parent / "usual", **QUICK)


@pytest.fixture(scope="module")
def strict(store: Path, without_report: None) -> ps.BenchmarkResult:
    return ps.run_benchmark(store, out=store.parent / "strict", min_knockdown=0.3, **QUICK)


def test_the_table_has_a_row_for_each_target(usual):
    targets = usual.targets
    assert list(targets.columns) == [c.name for c in TARGET_COLUMNS]
    assert set(targets["verdict"]) <= set(VERDICTS)
    alpha = targets[targets["context"] == "alpha"]
    assert len(alpha) == len(LEFT) + 2 * len(DOUBLES)
    of = targets.set_index(["context", "perturbation", "target"])["verdict"]
    assert of["alpha", "G0", "G0"] == "knocked_down"
    assert of["alpha", "G3", "G3"] == "not"
    assert of["alpha", "G9", "G9"] == "activated"
    assert of["alpha", "G11", "G11"] == of["beta", "OUTSIDE", "OUTSIDE"] == "not_measured"
    assert list(of["beta", "G0+G3"]) == ["knocked_down", "not"]
    few = usual.labels.perturbations.query("not tested")
    assert len(few) == 1
    mine = targets[targets["perturbation"].isin(few["perturbation"])]
    assert list(mine["verdict"]) == ["not_measured"]  # of a gene that no control expresses
    assert mine[["residual", "p_value"]].isna().all(axis=None)


def test_those_whose_target_stays_are_left_out(usual, strict):
    for context in ("alpha", "beta"):
        for name, split in strict.splits[context].items():
            assert not FAILED & {*split.train, *split.held_out}, name
        (split,) = (s for n, s in usual.splits[context].items() if n == "holdout-seed0")
        assert {*split.train, *split.held_out} >= FAILED
        kept = {*strict.splits[context]["holdout-seed0"].train}
        kept |= {*strict.splits[context]["holdout-seed0"].held_out}
        assert kept >= {"G11", "OUTSIDE", "G0", "G0+G1"}  # not measured, so they stay
    pd.testing.assert_frame_equal(strict.targets, usual.targets)
    assert not set(strict.interactions["perturbation"]) & FAILED
    assert set(usual.interactions["perturbation"]) & FAILED


def test_each_has_a_row_with_the_reason(usual, strict):
    told = strict.drops[strict.drops["reason"].str.contains("min_knockdown")]
    assert {*zip(told["context"], told["name"], strict=True)} == {
        (context, name) for context in ("alpha", "beta") for name in FAILED
    }
    assert set(told["kind"]) == {"perturbation"}
    residual = strict.targets.query("context == 'beta' and perturbation == 'G3'")["residual"].iloc[
        0
    ]
    (reason,) = told.query("context == 'beta' and name == 'G3'")["reason"]
    assert reason == (
        f"G3 is at {100 * residual:.1f} % of the control's expression; min_knockdown=0.3 needs "
        "70.0 % or less"
    )
    (both,) = told.query("context == 'beta' and name == 'G3+G7'")["reason"]
    assert "G3 is at" in both
    assert "G7 is at" in both
    assert not usual.drops["reason"].str.contains("min_knockdown").any()
    rest = strict.drops[~strict.drops["reason"].str.contains("min_knockdown")]
    pd.testing.assert_frame_equal(rest.reset_index(drop=True), usual.drops)


@pytest.fixture(scope="module")
def without_them(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A screen that never had the cells of those that are left out."""
    _, perturbation, _ = draw()
    folder = tmp_path_factory.mktemp("without")
    return write(folder / "screen.zarr", ~np.isin(perturbation, list(FAILED)))


def test_scores_are_those_of_a_screen_without_their_cells(strict, without_them, tmp_path):
    """Of all tasks, with curated pairs, transfer and interactions."""
    reduced = ps.run_benchmark(without_them, out=tmp_path / "run", **QUICK)
    assert set(strict.scores["task"]) == {"within", "single", "double", "interactions", "transfer"}
    assert "curated" in set(strict.scores["setting"])
    pd.testing.assert_frame_equal(strict.scores, reduced.scores)
    pd.testing.assert_frame_equal(strict.interactions, reduced.interactions)
    assert strict.manifest["splits"] == reduced.manifest["splits"]


def test_what_other_contexts_do_is_that_of_a_screen_without_them(store, without_them, tmp_path):
    """Also of methods that copy the same perturbation there, or take its vector."""
    how = {**QUICK, "tasks": ["transfer"], "exclude_test_perturbations": False}
    strict = ps.run_benchmark(store, out=tmp_path / "strict", min_knockdown=0.3, **how)
    reduced = ps.run_benchmark(without_them, out=tmp_path / "reduced", **how)
    assert {"same_perturbation", "linear_other_screen"} <= set(strict.scores["method"])
    pd.testing.assert_frame_equal(strict.scores, reduced.scores)


def outputs(folder: Path) -> dict[str, str]:
    """Hashes of what a run is for, without what it keeps for later calls."""
    return {k: v for k, v in stable_hash(folder).items() if not k.startswith(".work/")}


def test_the_option_is_part_of_what_is_reused(store, usual, strict, tmp_path, capsys):
    assert strict.manifest["options"]["min_knockdown"] == 0.3
    assert "min_knockdown" not in usual.manifest["options"]
    before, other = outputs(usual.path), outputs(strict.path)
    ps.run_benchmark(store, out=usual.path, **QUICK)
    assert outputs(usual.path) == before
    how = {**QUICK, "quiet": False}
    changed = ps.run_benchmark(store, out=usual.path, min_knockdown=0.3, **how)
    assert outputs(changed.path) == other
    assert changed.timings.set_index("stage").loc["labels", "reused"]
    told = [line for line in capsys.readouterr().err.splitlines() if "leaves out" in line]
    assert len(told) == 2
    for part in (
        "alpha: min_knockdown=0.3 leaves out 5 of 19 perturbations (",
        "whose target keeps more than 70.0 % of its expression",
        "2 stay whose target is not measured",
        "1 activate their target",
    ):
        assert part in told[0]
    log = [json.loads(line) for line in (changed.path / "log.jsonl").read_text().splitlines()]
    (event,) = (e for e in log if e["event"] == "knockdown" and e["context"] == "beta")
    wanted = {"min_knockdown": 0.3, "n_left_out": 5, "n_not_measured": 2, "n_activated": 1}
    assert {key: event[key] for key in wanted} == wanted
    ps.run_benchmark(store, out=usual.path, **QUICK)
    assert outputs(usual.path) == before


def test_a_plan_lists_the_units_of_the_run(store, strict):
    plan = ps.plan_benchmark(store, out=strict.path, min_knockdown=0.3, **QUICK)
    assert plan.stages.set_index("stage").loc[["methods", "expression"], "n_tasks"].sum() == 0
    other = ps.plan_benchmark(store, out=strict.path, **QUICK)
    assert other.stages.set_index("stage").loc["methods", "n_tasks"] > 0


def test_of_an_activation_screen_nothing_is_left_and_why_is_told(store, tmp_path):
    """Where all go up: the reasons stand in the tables, and the run ends."""
    _, perturbation, _ = draw()
    up = write(tmp_path / "up.zarr", np.isin(perturbation, ["control", "G9", "G3"]))
    result = ps.run_benchmark(up, out=tmp_path / "run", min_knockdown=0.3, **QUICK)
    assert not len(result.scores)
    assert set(result.skipped["what"]) >= {"all methods"}
    assert set(result.drops["name"]) >= {"G9", "G3"}


def test_a_split_says_what_it_is_drawn_of(strict):
    split = strict.splits["alpha"]["holdout-seed0"]
    told = SplitRule(None, (0,), 0.25).in_words(split, min_cells=2, min_knockdown=0.3)
    assert told.startswith("drawn with test_fraction=0.25, min_cells=2, min_knockdown=0.3; ")
    assert "min_knockdown" not in SplitRule(None, (0,), 0.25).in_words(split, min_cells=2)


def test_all_measured_targets_have_to_be_down():
    found = pd.DataFrame(
        {
            "perturbation": ["A+B", "A+B", "A+C", "A+C", "C", "D"],
            "target": ["A", "B", "A", "C", "C", "D"],
            "residual": [0.2, 0.71, 0.1, np.nan, np.nan, 0.7],
        }
    )
    assert without_knockdown(found, 0.3) == {
        "A+B": "B is at 71.0 % of the control's expression; min_knockdown=0.3 needs 70.0 % or less"
    }


@pytest.mark.parametrize("wrong", [0.0, -0.1, 1.5, float("nan")])
def test_an_impossible_share_is_refused(store, tmp_path, wrong):
    with pytest.raises(ArgumentError, match=r"min_knockdown=.* such as 0.3"):
        ps.run_benchmark(store, out=tmp_path, min_knockdown=wrong, quiet=True)


def test_a_result_of_an_earlier_version_has_an_empty_table(usual, tmp_path):
    out = Path(shutil.copytree(usual.path, tmp_path / "out"))
    manifest = dict(usual.manifest)
    files = {k: v for k, v in manifest["files"].items() if k != "targets.parquet"}
    write_record(out / "manifest.json", {**manifest, "files": files})
    (out / "targets.parquet").unlink()
    found = ps.read_result(out).targets
    assert list(found.columns) == [c.name for c in TARGET_COLUMNS]
    assert not len(found)
