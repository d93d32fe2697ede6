"""What is done again, and what is not, when a version, a setting or a metric changes."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from zarr.storage import MemoryStore

import pertscale as ps
from pertscale.baselines import EXPRESSION_MODELS, METHODS
from pertscale.benchmark.forecast.timing import _Drawn
from pertscale.benchmark.units import base
from pertscale.benchmark.units.class_unit import ClassUnit
from pertscale.benchmark.units.expression_unit import ExpressionUnit
from pertscale.evaluation.metrics import METRICS
from pertscale.io.checksums import FILES, write_record
from pertscale.results.unit_files import read_unit
from pertscale.versions import SCORES_VERSION
from tests.benchmark.test_damaged_output import contents

FILE = Path(__file__).parents[1] / "golden" / "scores_by_version.json"
QUICK = {
    "tasks": ["within", "single"],
    "methods": ["majority_vote", "mean"],
    "settings": ["full"],
    "seed": 0,
}
#: Hashes of the scores of a small world, by version and metric; see below.
GOLDEN = {int(version): hashes for version, hashes in json.loads(FILE.read_text()).items()}


@pytest.fixture(scope="module")
def first(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished benchmark, without its report."""
    out = tmp_path_factory.mktemp("versions") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pertscale.report.write_report", lambda *_: None)
        ps.run_benchmark(tiny_store, out=out, quiet=True, **QUICK)
    return out


@pytest.fixture
def out(first: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(first, tmp_path / "out"))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Titles of the units that are predicted, and of those that are scored."""
    called: dict[str, list[str]] = {"predict": [], "score": []}
    for kind in (ClassUnit, ExpressionUnit):
        for name, titles in called.items():
            real = getattr(kind, name)

            def recorded(unit, *arguments, _real=real, _titles=titles, **named):
                _titles.append(unit.title)
                return _real(unit, *arguments, **named)

            monkeypatch.setattr(kind, name, recorded)
    monkeypatch.setattr("pertscale.report.write_report", lambda *_: None)
    return called


def scores(result: ps.BenchmarkResult) -> pd.DataFrame:
    return result.scores.reset_index(drop=True)


def predictions(out: Path) -> dict[str, bytes]:
    files = out.glob("predictions/**/prediction.zarr/**/*")
    return {str(file): file.read_bytes() for file in files if file.is_file()}


def test_another_setting_scores_what_was_predicted(tiny_store, out, calls, tmp_path):
    settings = ["full", "full_without_target"]
    options = {**QUICK, "settings": settings, "quiet": True}
    again = ps.run_benchmark(tiny_store, out=out, **options)
    assert calls["predict"] == []
    assert {title.rpartition(" / ")[2] for title in calls["score"]} == {"majority_vote", "mean"}
    fresh = ps.run_benchmark(tiny_store, out=tmp_path / "fresh", **options)
    pd.testing.assert_frame_equal(scores(again), scores(fresh))
    assert contents(out / "predictions") == contents(tmp_path / "fresh" / "predictions")


def test_targets_included_score_what_was_predicted(tiny_store, out, calls):
    ps.run_benchmark(tiny_store, out=out, targets="include", quiet=True, **QUICK)
    assert calls["predict"] == []
    assert [title.split(" / ")[1] for title in calls["score"]] == ["single"]


def test_new_scores_are_of_the_predictions_that_are_there(tiny_store, out, calls, monkeypatch):
    before = predictions(out)
    monkeypatch.setattr(base, "SCORES_VERSION", SCORES_VERSION + 1)
    again = ps.run_benchmark(tiny_store, out=out, quiet=True, **QUICK)
    assert calls["predict"] == []
    on_halves = ("replicate", "majority_vote_halves")
    units = [unit for unit in again.manifest["units"] if unit["method"] not in on_halves]
    assert len(calls["score"]) == len(units) + len(again.manifest["expression"])
    assert predictions(out) == before
    calls["score"].clear()
    ps.run_benchmark(tiny_store, out=out, quiet=True, **QUICK)
    assert calls == {"predict": [], "score": []}


@pytest.mark.parametrize(("registry", "name"), [(METHODS, "majority_vote")])
def test_a_corrected_method_is_fitted_again(tiny_store, out, calls, monkeypatch, registry, name):
    monkeypatch.setitem(registry, name, replace(registry[name], version=2))
    ps.run_benchmark(tiny_store, out=out, quiet=True, **QUICK)
    again = {title.rpartition(" / ")[2].removesuffix("_halves") for title in calls["predict"]}
    assert again == {name}


def test_a_corrected_model_of_expression_is_fitted_again(tiny_store, out, calls, monkeypatch):
    corrected = replace(EXPRESSION_MODELS["mean"], version=2)
    monkeypatch.setitem(EXPRESSION_MODELS, "mean", corrected)
    ps.run_benchmark(tiny_store, out=out, quiet=True, **QUICK)
    assert len(calls["predict"]) == 2  # its profiles, and the classes that follow from them
    assert all("majority_vote" not in title for title in calls["predict"])


def test_results_of_an_earlier_version_are_made_anew_and_it_is_said(tiny_store, out, calls, capsys):
    records = list(out.rglob("unit.json"))
    for file in records:
        record = read_unit(file.parent)
        write_record(file, {"key": "of before", "params": {}, FILES: record[FILES]})
    ps.run_benchmark(tiny_store, out=out, **QUICK)
    told = capsys.readouterr()
    n = len(records)
    assert f"{n} of {n} predictions in" in told.out + told.err
    assert "earlier version of pertscale" in told.out + told.err
    assert len(calls["predict"]) == n
    ps.run_benchmark(tiny_store, out=out, **QUICK)
    again = capsys.readouterr()
    assert "earlier version" not in again.out + again.err


def test_a_metric_that_is_added_scores_what_was_predicted(tiny_store, out, calls, monkeypatch):
    monkeypatch.setitem(METRICS, "new", replace(METRICS["rmse"], name="new"))
    ps.run_benchmark(tiny_store, out=out, quiet=True, **QUICK)
    assert calls["predict"] == []
    assert len(calls["score"]) == 3


def test_another_embedding_fits_a_users_regressor_again(tiny_store, tmp_path, calls):
    """Its classes follow from its profiles, and these from the vectors."""
    screen = ps.open_screen(tiny_store)
    names = tuple(dict.fromkeys((*screen.genes, *(g for t in screen.targets.values() for g in t))))
    one, other = (
        ps.Embedding(name, names, np.random.default_rng(seed).normal(size=(len(names), 4)))
        for seed, name in enumerate(("one", "other"))
    )
    options = {**QUICK, "models": {"ridge": Ridge()}, "methods": ["mean"], "quiet": True}
    ps.run_benchmark(tiny_store, out=tmp_path / "out", embedding=one, **options)
    for titles in calls.values():
        titles.clear()
    ps.run_benchmark(tiny_store, out=tmp_path / "out", embedding=other, **options)
    kinds = [title.split(" / ", 1)[1] for title in calls["predict"]]
    assert sorted(kinds) == ["full / holdout-seed0 / ridge", "single / holdout-seed0"]


def scores_of_a_small_world() -> dict[str, str]:
    """Return a hash of the scores of each metric, of two methods and two models on drawn data."""
    drawn = _Drawn.of(24, 80, 5)
    models = {name: EXPRESSION_MODELS[name] for name in ("no_change", "mean")}
    units = [drawn.class_unit("knn_1"), drawn.class_unit("majority_vote")]
    hashes: dict[str, Any] = {}
    for unit in (*units, drawn.expression_unit(models)):
        store = MemoryStore()
        table = unit.score(store, unit.predict(store).params).table.drop(columns="params")
        for row in table.itertuples(index=False):
            values = [f"{v:.6g}" if isinstance(v, float) else str(v) for v in row]
            hashes.setdefault(row.metric, hashlib.sha256()).update("|".join(values).encode())
    return {metric: hashes[metric].hexdigest()[:16] for metric in sorted(hashes)}


def test_other_scores_have_another_version():
    """Raise ``SCORES_VERSION`` where this fails on purpose, and add its hashes to the file.

    Without that, results that are there would keep the scores of before.
    """
    assert scores_of_a_small_world() == GOLDEN[SCORES_VERSION]
