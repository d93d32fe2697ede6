"""The benchmark's harness, at a toy size and without other tools; the page from known numbers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pertscale as ps
from tests.support.helpers import ROOT

BENCHMARKS = ROOT / "benchmarks"
Run = dict[str, Any]


@pytest.fixture
def on_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make the harness's modules importable, as they are to its scripts."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield
    for name in set(sys.modules) - before:
        origin = getattr(sys.modules[name], "__file__", None)
        if origin and Path(origin).parent == BENCHMARKS:
            del sys.modules[name]


def call(script: str, *arguments: object) -> str:
    command = [sys.executable, str(BENCHMARKS / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.once
def test_harness_measures_resumes_and_renders(tmp_path: Path) -> None:
    results = tmp_path / "results"
    options = ("--only", "peers", "--size", "toy", "--peers", "none", "--repeats", 1)
    folders = ("--work", tmp_path / "work", "--results", results)
    assert "labels 0" in call("run.py", *options, *folders)
    content = json.loads((results / "peers-toy.json").read_text())
    by_what = {run["key"]["what"]: run for run in content["runs"]}
    assert set(by_what) == {"ingest", "labels"}
    stages = by_what["labels"]["said"]["stages"]
    assert {"import", "call", "rank-sum", "labels"} <= set(stages)
    assert 0 < stages["rank-sum"]["wall"] <= stages["call"]["wall"] < by_what["labels"]["wall"]
    assert by_what["labels"]["peak_bytes"] > 50e6
    assert str(tmp_path) not in json.dumps(content)
    call("render.py", "--results", results, "--page", tmp_path / "README.md")
    assert "600 cells x 200 genes x 8 perturbations" in (tmp_path / "README.md").read_text()
    assert (tmp_path / "figures" / "peers.svg").stat().st_size > 1000
    before = (results / "peers-toy.json").read_bytes()
    again = call("run.py", *options, *folders)
    assert "labels 0" not in again  # finished: not measured again
    assert (results / "peers-toy.json").read_bytes() == before


def process(key: Run, wall: float, stages: dict[str, float], **said: int) -> Run:
    """A run as the harness writes it; CPU is twice the wall time."""
    both = {name: {"wall": s, "cpu": 2 * s} for name, s in stages.items()}
    return {
        "key": key,
        "commit": "0",
        "wall": wall,
        "cpu": 2 * wall,
        "peak_bytes": 10**9,
        "exit_code": 0,
        "said": {"stages": both, **said},
        "shape": {
            "name": "S",
            "cells": 1000 * (key.get("value") or 1),
            "genes": 5,
            "perturbations": 40,
            "umi_per_cell": None,
        },
    }


def peer_runs() -> list[Run]:
    runs = [process({"tool": "pertscale", "what": "ingest", "round": 0}, 4.0, {"call": 3.0})]
    for turn, wall in ((0, 2.0), (1, 4.0)):
        ours = {"tool": "pertscale", "what": "labels", "round": turn, "with": "pdex"}
        theirs = {"tool": "pdex", "what": "test", "round": turn}
        stages = {"warm": 5.0, "load": 1.0, "one": 1.2, "three": 1.3, "select": 1.0, "test": 3.0}
        runs.append(process(ours, wall, {"call": wall}))
        runs.append(process(theirs, 12.0, stages, tested=10, perturbations=40))
    return [*runs, {"key": {"tool": "illico", "round": 0}, "commit": "0", "skipped": "too large"}]


@pytest.mark.usefixtures("on_path")
def test_partial_runs_are_extrapolated_and_compared_in_pairs() -> None:
    from summary import peer_rows, skipped

    rows = {row.tool: row for row in peer_rows(peer_runs())}
    pdex = rows["pdex"]
    # 12 s less 8.5 s that do not count; 9 further perturbations took 1.8 s, and 30 are left
    assert (pdex.wall.middle, pdex.cpu.middle) == pytest.approx((9.5, 19.0))
    assert pdex.extrapolated
    assert pdex.tested == "10 of 40"
    assert pdex.over_labels is not None
    assert (pdex.over_labels.low, pdex.over_labels.high) == pytest.approx((9.5 / 4, 9.5 / 2))
    assert pdex.over_all is not None
    assert pdex.over_all.middle == pytest.approx((9.5 / 6 + 9.5 / 8) / 2)
    assert not rows["pertscale labels"].extrapolated
    assert skipped(peer_runs()) == [("illico", "too large")]


@pytest.mark.usefixtures("on_path")
def test_exponent_of_a_power() -> None:
    from summary import exponent, sweep_points

    runs = [
        process(
            {"sweep": "cells", "what": "labels", "round": turn, "value": n},
            0.1 * n**1.5,
            {"call": 0.2 * n},
        )
        for n in (1, 2, 8)
        for turn in (0, 1)
    ]
    points = sweep_points(runs, "cells", "labels")
    assert [point["value"] for point in points] == [1000, 2000, 8000]
    assert exponent(points, "wall") == pytest.approx(1.5)
    assert exponent(points, "call") == pytest.approx(1.0)


def test_page_without_results_says_so(tmp_path: Path) -> None:
    call("render.py", "--results", tmp_path, "--page", tmp_path / "README.md")
    assert "No results yet" in (tmp_path / "README.md").read_text()


@pytest.mark.usefixtures("on_path")
def test_page_has_simulated_screens_beside_real_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import realism
    from record import Record

    taken = iter([{"left": 0.25, "busiest": 10.0}, {"left": float("nan"), "busiest": 20.0}])
    monkeypatch.setattr(realism, "figures", lambda *_: next(taken))
    monkeypatch.setattr(realism, "N_CELLS", 1_000)
    real = ps.simulate_screen(tmp_path / "real" / "x.h5ad", n_cells=1_000, quiet=True).path

    class Session:
        work = tmp_path

        def record(self, topic: str) -> Record:
            return Record(tmp_path, topic, peers=None, again=False)

    realism.compare_realism(Session(), [real])
    realism.compare_realism(Session(), [real])  # nothing is left to do
    call("render.py", "--results", tmp_path, "--page", tmp_path / "README.md")
    page = (tmp_path / "README.md").read_text()
    table = "| | real | simulated |\n|---|---|---|\n| cells | 1,000 | 1,000 |\n| left | 0.25 |  |"
    assert table in page
    assert "| busiest | 10 | 20 |" in page


@pytest.mark.usefixtures("on_path")
def test_shapes_beyond_the_genes_perturb_pairs() -> None:
    from shapes import genome_wide

    words = genome_wide(2000).arguments()
    assert dict(zip(words[::2], words[1::2], strict=True)) == {
        "--cells": "2000000",
        "--genes": "2000",
        "--perturbations": "2000",
        "--doubles": "8000",
    }
