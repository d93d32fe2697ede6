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
    monkeypatch.syspath_prepend(str(BENCHMARKS / "peers"))
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield
    for name in set(sys.modules) - before:
        origin = getattr(sys.modules[name], "__file__", None)
        if origin and BENCHMARKS in Path(origin).parents:
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
    from shapes import GENOME_WIDE, resized

    assert resized(GENOME_WIDE, genes=None) == GENOME_WIDE
    words = resized(GENOME_WIDE, genes=2000, cells=None).arguments()
    assert dict(zip(words[::2], words[1::2], strict=True)) == {
        "--cells": "2000000",
        "--genes": "2000",
        "--perturbations": "2000",
        "--doubles": "8000",
    }


@pytest.mark.usefixtures("on_path")
def test_a_study_has_doubles_in_each_of_its_lines() -> None:
    from shapes import STUDY, resized

    smaller = resized(STUDY, cells=800, genes=None, perturbations=50)
    assert smaller.name == "study-800-8500-50"
    assert smaller.arguments()[4:] == [
        *("--perturbations", "40", "--doubles", "10"),
        *("--context", "line1", "--context", "line2", "--context", "line3", "--context", "line4"),
    ]


@pytest.mark.usefixtures("on_path")
def test_arrangements_use_up_to_all_cores() -> None:
    from cores import arrangements

    assert list(arrangements(1)) == [(0, 1), (1, 1)]
    assert list(arrangements(2)) == [(0, 1), (0, 2), (1, 1), (2, 1), (1, 2)]
    threads, workers = [(0, n) for n in (1, 2, 4, 6)], [(n, 1) for n in (1, 2, 4, 6)]
    assert list(arrangements(6)) == [*threads, *workers, (3, 2), (1, 6)]


@pytest.mark.usefixtures("on_path")
def test_a_schedule_on_paper() -> None:
    from schedule import largest_share, makespan, on_paper

    seconds = [2.0, 3.0, 2.0, 3.0, 2.0]
    # longest first: 3 and 3, then 2 to each, then the last 2; the other order would end at 8
    assert [makespan(seconds, n) for n in (1, 2, 5, 64)] == [12, 7, 3, 3]
    assert largest_share(seconds) == 0.25
    alone, two, many = on_paper([[1.0], seconds], 1.0, (1, 2, 64))  # one that the others wait for
    assert (alone.seconds, alone.speed_up, alone.efficiency) == (14, 1, 1)
    assert (two.seconds, two.speed_up, two.efficiency) == pytest.approx((9, 14 / 9, 7 / 9))
    assert many.speed_up == pytest.approx(14 / 5)


@pytest.mark.usefixtures("on_path")
def test_lines_are_cut_out_of_a_screen_and_labelled_before_their_benchmark(
    tmp_path: Path, without_report: None
) -> None:
    from cut_lines import cut
    from pertscale.benchmark.units import running
    from run_benchmark import _account, _label
    from unit_clock import UnitClock

    whole = ps.simulate_screen(
        tmp_path / "whole.h5ad",
        n_cells=800,
        n_genes=30,
        n_perturbations=8,
        contexts=("one", "two"),
        seed=1,
        quiet=True,
    )
    cut(whole.path, tmp_path)
    stores = [tmp_path / f"{line}.zarr" for line in ("one", "two")]
    for store in stores:
        ps.io.ingest(store.with_suffix(".h5ad"), store, quiet=True)
    screens = [ps.open_screen(store) for store in stores]
    assert [screen.contexts for screen in screens] == [("one",), ("two",)]
    assert sum(screen.n_cells for screen in screens) == 800

    out, clock, do_unit = tmp_path / "out", UnitClock(), running.do_unit
    _label([str(store) for store in stores], str(out), None)
    with clock():
        result = ps.run_benchmark(
            stores,
            out=out,
            tasks=["within", "single"],
            methods=["majority_vote", "knn_1", "no_change"],
            settings=["full"],
            seed=0,
            quiet=True,
        )
    assert running.do_unit is do_unit
    assert clock.vectors
    account = _account(result.timings, clock)
    assert account["labels_reused"]
    rows = {(row["stage"], row["name"]): row for row in account["rows"]}
    assert {("labels", ""), ("method", "knn_1"), ("expression", "single"), ("report", "")} < {*rows}
    assert rows["method", "knn_1"]["n"] == 2
    assert {stage for (stage, _), row in rows.items() if row["cpu"] is None} == {"model"}
    n_units = sum(row["n"] for (stage, _), row in rows.items() if stage in ("method", "expression"))
    assert len(account["unit_seconds"]) == n_units
    assert max(account["unit_seconds"]) <= account["busy"] < sum(account["unit_seconds"]) + 1


@pytest.mark.usefixtures("on_path")
def test_units_that_run_side_by_side_are_busy_once() -> None:
    from unit_clock import Times, UnitClock

    clock = UnitClock()
    clock.vectors = [Times(0.0, 2.0, 1.0)]
    clock.units = {
        "b": Times(1.0, 4.0, 1.0),
        "c": Times(1.5, 3.0, 1.0),
        "d": Times(7.0, 8.0, 1.0),
    }
    assert clock.busy() == 5.0


def benchmark(key: Run, labels: float, units: dict[str, float]) -> Run:
    """A whole benchmark whose units run one after the other, on one thread at full speed."""
    rows = [("labels", "", labels), *(("method", *unit) for unit in units.items())]
    call = labels + sum(units.values()) + 3.0
    run = process(key, call + 1.0, {"import": 1.0, "call": call})
    run["shape"] |= {"name": key.get("shape", "S"), "contexts": ["a", "b"]}
    run["said"] |= {
        "rows": [
            {"stage": stage, "name": name, "n": 1, "seconds": s, "cpu": 2 * s, "peak": 5 * 10**8}
            for stage, name, s in rows
        ],
        "unit_seconds": list(units.values()),
        "vector_seconds": [],
        "report_seconds": [0.5],
        "busy": sum(units.values()),
    }
    return run


def test_page_has_the_whole_benchmark_cores_and_a_study(tmp_path: Path) -> None:
    sizes = [
        benchmark({"size": "S", "round": 0}, 1.0, {"knn_1": 2.0}),
        benchmark({"size": "S", "round": 1}, 2.0, {"knn_1": 4.0}),
        benchmark({"size": "M", "round": 0}, 2.0, {"knn_1": 3.0, "knn_cv": 5.0}),
    ]
    cores = [
        benchmark({"workers": w, "threads": t, "shape": "cores", "round": 0}, 8.0 / t, {"knn_1": u})
        for w, t, u in ((0, 1, 9.0), (0, 2, 5.0))
    ]
    study = [
        process({"what": "labels", "shape": "study", "round": 0}, 9.0, {"call": 8.0}),
        benchmark({"what": "whole", "shape": "study", "round": 0}, 1.0, {"x": 6.0, "y": 2.0}),
    ]
    about = {"machine": {"cpu": "", "cores": 2, "memory_gb": 1, "system": ""}}
    about |= {"versions": {}, "peer_versions": {}}
    for topic, runs in (("benchmark", sizes), ("cores", cores), ("study", study)):
        (tmp_path / f"{topic}.json").write_text(json.dumps({**about, "runs": runs}))
    call("render.py", "--results", tmp_path, "--page", tmp_path / "README.md")
    page = (tmp_path / "README.md").read_text()
    assert "| | S: s | CPU, s | GB | M: s | CPU, s | GB |\n|---|---|---|---|---|---|---|\n" in page
    assert "| labels | 1.5 | 3.0 | 0.50 | 2.0 | 4.0 | 0.50 |\n" in page
    assert "| knn_cv | | | | 5.0 | 10.0 | 0.50 |\n" in page
    assert "| the rest | 4.0 | 8.0 | 1.00 | 4.0 | 8.0 | 1.00 |\n" in page
    assert "| **the process** | 8.5 (7.0–10.0) | 17.0 (14.0–20.0) | 1.00 | 14.0 |" in page
    assert "2 runs): 4.2 (3.5–5.0)\n" in page  # units and 3 s of the rest, over the labels
    assert "| 2 threads | 4.0 | 2.00 | 8.0 | 1.50 | 13.0 | 26.0 | 1.00 |\n" in page
    assert "the longest of\n6.0 s, which is 75.00 % of them" in page
    assert "| 2 | 10 | 1.2 | 0.60 |\n" in page  # 6 of 8 s of tasks, and 4 s alone
