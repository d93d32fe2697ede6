"""Compares two files of p-values, written by the scripts beside this one."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np


def main() -> None:
    """Run: OURS THEIRS; print the differences relative to the larger of the two."""
    ours, theirs = (dict(np.load(path)) for path in sys.argv[1:3])
    a, b = ours["p"], _aligned(theirs, ours)
    both = np.isfinite(a) & np.isfinite(b)
    a, b = a[both], b[both]
    largest = np.maximum(a, b)
    relative = np.divide(np.abs(a - b), largest, out=np.zeros_like(a), where=largest > 0)
    said = {
        "pairs": int(both.size),
        "pairs_compared": int(both.sum()),
        "max_relative": float(relative.max(initial=0.0)),
        "share_equal": float(np.mean(a == b)),  # to the last bit
        "share_above_1e-9": float(np.mean(relative > 1e-9)),
        "smallest_p": float(largest.min(initial=1.0)),
    }
    print(json.dumps(said))


def _aligned(theirs: dict[str, Any], ours: dict[str, Any]) -> np.ndarray:
    rows = {name: i for i, name in enumerate(theirs["perturbations"])}
    columns = {name: i for i, name in enumerate(theirs["genes"])}
    index = np.ix_(
        [rows[name] for name in ours["perturbations"]], [columns[name] for name in ours["genes"]]
    )
    return theirs["p"][index]


if __name__ == "__main__":
    main()
