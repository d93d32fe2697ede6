"""What several test modules share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = Path(__file__).resolve().parent / "golden"


def real_data(name: str) -> Path:
    """Return the path of a real data set, or skip the test where the data are not at hand."""
    folder = Path(os.environ.get("PERTSCALE_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / name).exists():
        pytest.skip(f"real data {name!r} not found in {folder}; set PERTSCALE_DATA")
    return folder / name


def shared_golden(name: str) -> Path:
    """Return the path of a golden file with published values, which the project does not carry."""
    folder = Path(os.environ.get("PERTSCALE_GOLDEN", ROOT.parent / "shared" / "spec" / "golden"))
    if not (folder / name).exists():
        pytest.skip(f"golden file {name!r} not found in {folder}; set PERTSCALE_GOLDEN")
    return folder / name
