"""The numbers of the page on the whole benchmark: by stage and method, by cores, and of a study."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from schedule import largest_share, on_paper
from shapes import Shape
from summary import Run, Spread, select

#: Stages whose rows are tasks that run side by side; models are parts of one.
_UNITS = ("vectors", "method", "expression")
_PART = "model"
REST = "the rest"
#: Stages in the order of the table; others stand last.
_ORDER = ("labels", *_UNITS, _PART, "interactions", "report", REST)


def whole_table(sizes: dict[str, Sequence[Run]]) -> list[dict[str, Any]]:
    """Return a row for each stage and method, with what it took on each size; None where it is not.

    Seconds are those of all its tasks together, which run side by side, and peak memory is that of
    the process by its end; all are medians over the rounds. The last rows are what is left of the
    process.
    """
    taken = {size: _taken(runs) for size, runs in sizes.items()}
    names = dict.fromkeys(key for of_size in taken.values() for key in of_size)
    in_order = sorted(names, key=lambda key: [*_ORDER, key[0]].index(key[0]))  # a stable sort
    return [
        {"title": _title(*key), "cells": [of_size.get(key) for of_size in taken.values()]}
        for key in in_order
    ]


def _title(stage: str, name: str) -> str:
    words = {
        "vectors": "vectors of genes",
        "method": name,
        "expression": f"expression, {name}",
        _PART: f"of these {name}",
    }
    return words.get(stage, stage)


def _taken(runs: Sequence[Run]) -> dict[tuple[str, str], dict[str, Any]]:
    """Median over rounds of each stage and method, and of the rest of the process."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for run in runs:
        rows = run["said"]["rows"]
        for row in [*rows, _rest(run)]:
            found.setdefault((row["stage"], row["name"]), []).append(row)
    return {
        key: {
            "seconds": median(row["seconds"] for row in rows),
            "cpu": None if rows[0]["cpu"] is None else median(row["cpu"] for row in rows),
            "peak_gb": median(row["peak"] for row in rows) / 1e9,
        }
        for key, rows in found.items()
    }


def _rest(run: Run) -> dict[str, Any]:
    rows = run["said"]["rows"]
    alone = sum(row["seconds"] for row in rows if row["stage"] not in (*_UNITS, _PART))
    return {
        "stage": REST,
        "name": "",
        "seconds": run["wall"] - run["said"]["busy"] - alone,
        "cpu": run["cpu"] - sum(row["cpu"] or 0 for row in rows),
        "peak": run["peak_bytes"],
    }


def processes(runs: Sequence[Run]) -> dict[str, Any]:
    """Wall, CPU and peak of whole processes, and what comes after the labels over these."""
    return {
        **_spreads(runs),
        "n": len(runs),
        "over_labels": Spread.of([after_labels(run) / labels(run) for run in runs]),
    }


def labels(run: Run) -> float:
    """Seconds of the labels of a benchmark."""
    return sum(row["seconds"] for row in run["said"]["rows"] if row["stage"] == "labels")


def after_labels(run: Run) -> float:
    """Seconds of a benchmark from its labels to its report."""
    return run["said"]["stages"]["call"]["wall"] - labels(run)


def cores_tables(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return, for each screen, a row for each arrangement of workers and threads."""
    return [
        {"shape": str(Shape(**some[0]["shape"])), "rows": _cores_rows(some)}
        for some in _by(runs, "shape").values()
    ]


def _cores_rows(runs: Sequence[Run]) -> list[dict[str, Any]]:
    rows = []
    for workers, of_workers in _by(runs, "workers").items():
        for threads, some in _by(of_workers, "threads").items():
            first = select(runs, {"workers": min(workers, 1), "threads": 1})
            rows.append(
                {
                    "workers": workers,
                    "threads": threads,
                    **_spreads(some),
                    "labels": Spread.of([labels(run) for run in some]),
                    "after": Spread.of([after_labels(run) for run in some]),
                    "labels_speed_up": _ratio(first, some, labels),
                    "after_speed_up": _ratio(first, some, after_labels),
                }
            )
    return rows


def _ratio(first: Sequence[Run], some: Sequence[Run], seconds: Any) -> float | None:
    if not first:
        return None
    return median(map(seconds, first)) / median(map(seconds, some))


def study_tables(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return, for each study, its two processes, and the second one on paper, on more workers."""
    found = []
    for some in _by(runs, "shape").values():
        shape, of = Shape(**some[0]["shape"]), _by(some, "what")
        if "whole" not in of:
            continue
        first = of["whole"][0]
        said = first["said"]
        vectors, units, reports = (said[f"{what}_seconds"] for what in ("vector", "unit", "report"))
        alone = said["stages"]["call"]["wall"] - said["busy"]
        serial = alone - sum(reports)  # pages of several screens are tasks on a cluster
        found.append(
            {
                "shape": str(shape),
                "n_lines": len(shape.contexts),
                "processes": {what: _spreads(these) for what, these in of.items()},
                "n_vectors": len(vectors),
                "n_units": len(units),
                "seconds": sum(units) + sum(vectors),
                "serial": serial,
                "n_reports": len(reports),
                "reports": sum(reports),
                "largest": max(units + vectors),
                "largest_share": largest_share(units + vectors),
                "on_paper": on_paper([vectors, units, reports], serial),
            }
        )
    return found


def _spreads(runs: Sequence[Run]) -> dict[str, Spread]:
    """Wall, CPU, and the peak of the largest process."""
    peaks = [max([run["peak_bytes"], *run["said"].get("worker_peak_bytes", [])]) for run in runs]
    return {
        "wall": Spread.of([run["wall"] for run in runs]),
        "cpu": Spread.of([run["cpu"] for run in runs]),
        "peak_gb": Spread.of([peak / 1e9 for peak in peaks]),
    }


def _by(runs: Sequence[Run], name: str) -> dict[Any, list[Run]]:
    """Return the runs by a value of their key, in the order of their first ones."""
    found: dict[Any, list[Run]] = {}
    for run in runs:
        found.setdefault(run["key"][name], []).append(run)
    return found
