"""Changed files are read right, or refused; see the package's docstring."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import dask
import pytest

from tests.fuzz.harness import FAULTS, FINE, Base, make_bases, run_case
from tests.fuzz.results import RESULTS
from tests.fuzz.screens import SCREENS
from tests.fuzz.tables import TABLES

READERS = (*SCREENS, *TABLES, *RESULTS)


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> list[Base]:
    with dask.config.set(scheduler="synchronous"):
        return make_bases(READERS, tmp_path_factory.mktemp("bases"))


@pytest.mark.once
def test_fuzz(bases, tmp_path: Path, pytestconfig: pytest.Config, capsys: pytest.CaptureFixture):
    """A fault keeps its files and says how to repeat it."""
    first, number = pytestconfig.getoption("fuzz_seed"), pytestconfig.getoption("fuzz")
    counts: Counter[tuple[str, str]] = Counter()
    faults = []
    with dask.config.set(scheduler="synchronous"):
        for seed in range(first, first + number):
            found = run_case(seed, bases, tmp_path)
            counts[found.reader, found.kind] += 1
            if found.kind in FAULTS:
                faults.append(found)
                with capsys.disabled():
                    print(f"\n{found}\n    {tmp_path / f'case-{seed}'}", flush=True)
            elif found.kind == "unjudged" and pytestconfig.getoption("verbose"):
                with capsys.disabled():
                    print(f"\n{found}", flush=True)
            if (seed - first) % 500 == 499:
                with capsys.disabled():
                    print(f"\n{seed - first + 1:,} of {number:,}: {_totals(counts)}", flush=True)
    with capsys.disabled():
        print(f"\n{_table(counts)}")
    repeat = "python -m pytest tests/fuzz --fuzz 1 --fuzz-seed"
    assert not faults, "\n".join(f"{fault}\n    {repeat} {fault.seed}" for fault in faults)


def _totals(counts: Counter[tuple[str, str]]) -> str:
    found = {kind: sum(n for (_, k), n in counts.items() if k == kind) for kind in FINE + FAULTS}
    return ", ".join(f"{n:,} {kind}" for kind, n in found.items() if n)


def _table(counts: Counter[tuple[str, str]]) -> str:
    kinds = [kind for kind in FINE + FAULTS if any(k == kind for _, k in counts)]
    lines = [f"{'':<22}" + "".join(f"{kind:>10}" for kind in kinds)]
    for reader in READERS:
        numbers = "".join(f"{counts[reader.name, kind]:>10}" for kind in kinds)
        lines.append(f"{reader.name:<22}{numbers}")
    return "\n".join([*lines, _totals(counts)])
