"""A run that is killed at any moment: what it leaves is a whole result, or says that it is none.

What a kill leaves is the state of the disk between two changes of names. Instead of killing a run
at each of them, a run is watched: before every change the output folder is opened as by somebody
who comes after the kill.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import pertscale as ps
from pertscale.errors import PertscaleError
from pertscale.storage.atomic import write_bytes

#: What gives, takes and changes names; everything in storage/atomic.py comes down to these.
_CHANGES = ("replace", "rename", "link", "unlink", "rmdir", "mkdir")
QUICK: dict[str, Any] = {"settings": ["full"], "quiet": True}
FIRST = {"methods": ["majority_vote", "mean", "no_change", "additive"], "seed": 0, **QUICK}


@pytest.fixture(autouse=True)
def plain_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a page that reads all that the real one does, and draws nothing."""

    def write(result: ps.BenchmarkResult, screen: ps.Screen | None) -> None:
        write_bytes(result.report, repr(look(result)).encode())

    monkeypatch.setattr("pertscale.report.write_report", write)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("interrupted")
    found = []
    for seed, name in enumerate(("one", "two")):
        ps.simulate_screen(
            folder / f"{name}.h5ad",
            n_cells=400,
            n_genes=40,
            n_perturbations=8,
            n_doubles=3,
            control_fraction=0.2,
            seed=seed,
            quiet=True,
        )
        found.append(ps.io.ingest(folder / f"{name}.h5ad", folder / f"{name}.zarr", quiet=True))
    return found


def look(result: ps.BenchmarkResult) -> dict[str, Any]:
    """Read everything that a result has, and tell what it is a result of."""
    manifest, scores = result.manifest, result.scores
    for table in (result.coverage, result.skipped, result.interactions, result.drops):
        assert table is not None
    splits = {name for mine in result.splits.values() for name in mine}
    for unit in [*manifest["units"], *manifest["expression"]]:
        assert (result.path / unit["folder"] / "unit.json").exists()
    if not result.screens:
        assert result.labels.key == manifest["labels_key"]
        assert (result.path / "pseudobulk.zarr" / "zarr.json").exists()
    assert {u["split"] for u in manifest["units"]} <= splits
    assert {u["method"] for u in manifest["units"]} <= set(scores["method"])
    return {
        "methods": sorted(set(scores["method"])),
        "splits": sorted(splits),
        "fdr": manifest["options"]["fdr"],
        "scores": round(scores["value"].sum(), 6),
        "screens": [look(one) for one in result.screens.values()],
    }


@contextmanager
def watched(look_now: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Look before every change of names that is made inside the block."""
    seen: list[str] = []
    lock, looking = threading.Lock(), threading.local()

    def before(name: str, real: Any) -> Any:
        def change(*arguments: Any, **options: Any) -> Any:
            if not getattr(looking, "now", False):
                looking.now = True
                try:
                    with lock:
                        look_now()
                        seen.append(f"{name} {arguments[0]}")
                finally:
                    looking.now = False
            return real(*arguments, **options)

        return change

    with monkeypatch.context() as patch:
        for name in _CHANGES:
            patch.setattr(os, name, before(name, getattr(os, name)))
        yield seen


CHANGES = {
    "other methods": {"methods": ["majority_vote", "mean"]},
    "another seed": {"seed": 1, "methods": ["majority_vote", "mean"]},
    "other labels": {"fdr": 0.2},
    "other settings": {"settings": ["full_without_target"]},
}


@pytest.mark.once
@pytest.mark.parametrize("change", CHANGES)
def test_every_moment_of_a_changed_run(stores, tmp_path, monkeypatch, change):
    """The earlier result, no result, or the new one; never the one's manifest on the other."""
    out = tmp_path / "out"
    earlier = look(ps.run_benchmark(stores[0], out=out, **FIRST))
    found: list[Any] = []

    def look_now() -> None:
        try:
            result = ps.read_result(out)
        except PertscaleError as error:
            assert "make the same call" in str(error)
            found.append(None)
            return
        assert result.report.exists()
        assert len(result.timings)
        found.append(look(result))

    with watched(look_now, monkeypatch) as seen:
        result = ps.run_benchmark(stores[0], out=out, **FIRST | CHANGES[change])
    later = look(result)
    assert later != earlier
    assert len(seen) > 30
    assert [one for one in found if one is not None and one not in (earlier, later)] == []
    states = [one if one is None else one == later for one in found]
    # first the earlier one, then none, then the new one
    assert states == sorted(states, key=lambda s: (False, None, True).index(s))
    assert None in states


@pytest.mark.once
def test_every_moment_of_a_fresh_run_of_several(stores, tmp_path, monkeypatch):
    out = tmp_path / "out"
    found: list[list[str]] = []

    def look_now() -> None:
        whole = []
        for folder in (*sorted((out / "screens").glob("*")), out):
            try:
                result = ps.read_result(folder)
            except PertscaleError:
                continue
            look(result)
            assert result.report.exists()
            assert len(result.timings)
            whole.append(folder.name.split("-")[0])
        found.append(whole)

    few = {**QUICK, "methods": ["majority_vote", "mean"], "seed": 0}
    with watched(look_now, monkeypatch):
        ps.run_benchmark(stores, out=out, **few)
    assert sorted(found, key=len) == found
    assert {tuple(one) for one in found} <= {(), ("one",), ("one", "two"), ("one", "two", "out")}
    assert ["one", "two"] in found  # the whole comes last
    earlier = look(ps.read_result(out))
    states: list[bool] = []

    def look_again() -> None:
        try:
            states.append(look(ps.read_result(out)) == earlier)
        except PertscaleError:
            states.append(False)

    with watched(look_again, monkeypatch):
        ps.run_benchmark(stores, out=out, **few | {"seed": 3})
    assert sorted(states, reverse=True) == states  # once it is gone, it does not come back
    assert False in states
