"""From raw runs to the numbers of the page: medians, spreads, ratios of pairs, exponents."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from against_peers import PEERS, PREPARATION

Run = dict[str, Any]
#: Stages inside of a peer's process that are not the peer's work: compiling, finding out how many
#: perturbations fit into the budget, cutting them out.
NOT_COUNTED = ("warm", "one", "three", "select")


@dataclass(frozen=True)
class Spread:
    """Median, smallest and largest of a few values."""

    middle: float
    low: float
    high: float

    @staticmethod
    def of(values: Sequence[float]) -> Spread:
        """Summarise at least one value."""
        return Spread(median(values), min(values), max(values))

    def text(self, digits: int = 1, unit: str = "") -> str:
        """Format as ``median (low-high)``."""
        middle = f"{self.middle:.{digits}f}{unit}"
        if self.high - self.low < 10**-digits:
            return middle
        return f"{middle} ({self.low:.{digits}f}–{self.high:.{digits}f})"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One tool on one screen, from whole processes. Ratios are to pertscale in the same round."""

    tool: str
    wall: Spread
    cpu: Spread
    peak_gb: Spread
    stages: str
    tested: str
    extrapolated: bool = False
    over_labels: Spread | None = None
    over_all: Spread | None = None


def read(folder: Path, topic: str) -> dict[str, Any]:
    """Return the results of a topic; without runs where there are none."""
    path = folder / f"{topic}.json"
    if not path.exists():
        return {"runs": []}
    content = json.loads(path.read_text())
    content["runs"] = [run for run in content["runs"] if not run.get("failed")]
    return content


def select(runs: Sequence[Run], key: Run) -> list[Run]:
    """Return the runs whose key has these values, and that were not skipped."""
    return [
        run
        for run in runs
        if all(run["key"].get(k) == v for k, v in key.items()) and "skipped" not in run
    ]


def seconds(run: Run, kind: str) -> float:
    """Wall or CPU seconds of a whole process, extrapolated to all perturbations.

    What was spent on compiling and on choosing perturbations is taken off.
    """
    stages = run["said"].get("stages", {})
    taken = run[kind] - sum(stages[name][kind] for name in NOT_COUNTED if name in stages)
    if is_partial(run):
        tested, left = run["said"]["tested"], run["said"]["perturbations"] - run["said"]["tested"]
        test, one = stages["test"][kind], stages["one"][kind]
        # the slope between one perturbation and those tested; the first call may also be slower
        # than later ones, which makes the estimate too low rather than too high
        each = (test - one) / (tested - 1) if test > one else test / tested
        taken += each * left
    return taken


def is_partial(run: Run) -> bool:
    """Whether only the first perturbations were tested."""
    said = run["said"]
    return "tested" in said and said["tested"] < said["perturbations"]


def stage_text(runs: Sequence[Run]) -> str:
    """Median wall seconds of each stage, as measured (not extrapolated)."""
    names = dict.fromkeys(name for run in runs for name in run["said"].get("stages", {}))
    parts = []
    for name in names:
        values = [r["said"]["stages"][name]["wall"] for r in runs if name in r["said"]["stages"]]
        parts.append(f"{name} {median(values):.1f}")
    return ", ".join(parts)


def peer_rows(runs: Sequence[Run]) -> list[Row]:
    """Rows of the comparison on one screen: pertscale's first, then the peers'."""
    ingests = select(runs, {"tool": "pertscale", "what": "ingest"})
    labels = select(runs, {"tool": "pertscale", "what": "labels"})
    rows = []
    for tool, some in (("pertscale ingest", ingests), ("pertscale labels", labels)):
        if some:
            rows.append(_row(tool, some))
    if not labels or not ingests:
        return rows
    ingest = median(seconds(run, "wall") for run in ingests)
    preparation = select(runs, {"tool": PREPARATION})
    if preparation:
        rows.append(_row("preparation of the CSC file", preparation))
    for name, peer in PEERS.items():
        tests = select(runs, {"tool": name, "what": "test"})
        if tests:
            rows.append(
                _peer_row(name, tests, labels, ingest, preparation if peer.from_csc else [])
            )
    return rows


def _row(tool: str, runs: Sequence[Run]) -> Row:
    return Row(
        tool=tool,
        wall=Spread.of([seconds(run, "wall") for run in runs]),
        cpu=Spread.of([seconds(run, "cpu") for run in runs]),
        peak_gb=Spread.of([run["peak_bytes"] / 1e9 for run in runs]),
        stages=stage_text(runs),
        tested="",
    )


def _peer_row(
    name: str, tests: Sequence[Run], labels: Sequence[Run], ingest: float, preparation: list[Run]
) -> Row:
    ours = {run["key"]["round"]: run for run in labels if run["key"]["with"] == name}
    pairs = [(run, ours[run["key"]["round"]]) for run in tests if run["key"]["round"] in ours]
    prepared = sum(seconds(run, "wall") for run in preparation)
    walls = [(seconds(theirs, "wall"), seconds(mine, "wall")) for theirs, mine in pairs]
    partial = any(is_partial(run) for run in tests)
    tested = sorted({f"{run['said']['tested']:,}" for run in tests})
    over_labels = [theirs / mine for theirs, mine in walls]
    over_all = [(theirs + prepared) / (mine + ingest) for theirs, mine in walls]
    n_all = tests[0]["said"]["perturbations"]
    return replace(
        _row(name, tests),
        tested=f"{', '.join(tested)} of {n_all:,}" if partial else "all",
        extrapolated=partial,
        over_labels=Spread.of(over_labels) if walls else None,
        over_all=Spread.of(over_all) if walls else None,
    )


def skipped(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Tools that were not run, and why."""
    return sorted({(run["key"]["tool"], run["skipped"]) for run in runs if "skipped" in run})


def sweep_points(runs: Sequence[Run], sweep: str, what: str) -> list[dict[str, Any]]:
    """Value, wall, CPU and peak of each point of a sweep, in rising order of the value."""
    points: dict[float, list[Run]] = {}
    for run in select(runs, {"sweep": sweep, "what": what}):
        points.setdefault(run["shape"][sweep], []).append(run)
    return [
        {
            "value": value,
            "wall": Spread.of([run["wall"] for run in some]),
            "cpu": Spread.of([run["cpu"] for run in some]),
            "call": Spread.of([run["said"]["stages"]["call"]["wall"] for run in some]),
            "peak_gb": Spread.of([run["peak_bytes"] / 1e9 for run in some]),
        }
        for value, some in sorted(points.items())
    ]


def exponent(points: Sequence[dict[str, Any]], what: str) -> float:
    """Slope of log(`what`) over log(value) by least squares; NaN below two points."""
    if len(points) < 2:
        return math.nan
    x = [math.log(point["value"]) for point in points]
    y = [math.log(point[what].middle) for point in points]
    x_mean, y_mean = sum(x) / len(x), sum(y) / len(y)
    over = sum((a - x_mean) * (b - y_mean) for a, b in zip(x, y, strict=True))
    return over / sum((a - x_mean) ** 2 for a in x)
