"""What an error message of ingest advises is done here, and works."""

from __future__ import annotations

import re
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from pertscale.errors import PertscaleError
from pertscale.io import ingest
from pertscale.screen import open_screen

COUNTS = np.random.default_rng(0).poisson(9, (80, 40)).astype(np.float32)
LABELS = ["NT"] * 40 + ["A"] * 40


def write(
    folder: Path,
    values: np.ndarray,
    labels: list[str],
    column: str = "perturbation",
    **more: object,
) -> Path:
    obs = pd.DataFrame({column: labels, **more}, index=[f"c{i}" for i in range(len(labels))])
    var = pd.DataFrame(index=[f"G{i}" for i in range(values.shape[1])])
    ad.AnnData(sp.csr_matrix(values), obs=obs, var=var).write_h5ad(folder / "s.h5ad")
    return folder / "s.h5ad"


def refusal(source: Path, **options: object) -> str:
    """Return the message of what ingest refuses."""
    with pytest.raises(PertscaleError) as refused:
        ingest(source, source.with_suffix(".zarr"), overwrite=True, quiet=True, **options)
    return str(refused.value)


def accepted(source: Path, **options: object) -> tuple[str, ...]:
    """Return the perturbations of what ingest takes."""
    store = ingest(source, source.with_suffix(".zarr"), overwrite=True, quiet=True, **options)
    return open_screen(store).perturbations


def arguments(message: str) -> dict[str, str]:
    """Return the arguments that a message says to pass."""
    advice = message[message.index("pass ") :]
    return dict(re.findall(r"(\w+)='([^']*)'", advice))


@pytest.mark.parametrize(("scale", "factor"), [(None, 0.97), ("counts", 0.3), ("log1p_1e4", 0.97)])
def test_corrected_counts(tmp_path: Path, scale: str | None, factor: float) -> None:
    corrected = COUNTS * np.float32(factor)
    message = refusal(write(tmp_path, corrected, LABELS), scale=scale)
    assert f"pass scale='{scale}'" not in message  # what was done already
    assert "rounded with numpy.rint, or their log1p per 10,000" in message
    assert accepted(write(tmp_path, np.rint(corrected), LABELS)) == ("A",)
    shares = corrected / corrected.sum(axis=1, keepdims=True)
    assert accepted(write(tmp_path, np.log1p(shares * 1e4), LABELS)) == ("A",)


@pytest.mark.parametrize("place", [0, 70], ids=["in the sample", "declared"])
def test_missing_values(tmp_path: Path, place: int) -> None:
    values = COUNTS.copy()
    values[place, 3] = np.nan
    source = write(tmp_path, values, LABELS)
    message = refusal(source, scale="counts" if place else None)
    assert "cell 'c" in message
    assert "numpy.nan_to_num" in message
    assert "scaled" not in message  # that makes no NaN
    assert accepted(write(tmp_path, np.nan_to_num(values), LABELS)) == ("A",)


def test_a_control_that_is_only_suggested(tmp_path: Path) -> None:
    labels = ["vehicle"] * 40 + ["drugA"] * 40
    source = write(tmp_path, COUNTS, labels, "condition")
    message = refusal(source)
    assert arguments(message) == {"control": "vehicle"}
    assert accepted(source, **arguments(message)) == ("drugA",)


def test_a_column_that_only_says_that_something_was_done(tmp_path: Path) -> None:
    source = write(tmp_path, COUNTS, ["vehicle"] * 40 + ["stimulated"] * 40, "condition")
    message = refusal(source)
    assert arguments(message) == {"perturbation": "condition", "control": "vehicle"}
    assert accepted(source, **arguments(message)) == ("stimulated",)
    message = refusal(source, control="vehicle")
    assert "only says that something was done ('stimulated')" in message
    assert accepted(source, control="vehicle", **arguments(message)) == ("stimulated",)


def test_roles_that_are_swapped(tmp_path: Path) -> None:
    source = write(tmp_path, COUNTS, ["ctrl"] * 40 + ["A"] * 40)
    message = refusal(source, control="A")
    assert "leaves no perturbation in 'perturbation', since 'ctrl' read as control" in message
    assert "leave control= out" in message
    assert accepted(source) == ("A",)


def test_controls_beside_cells_without_a_guide(tmp_path: Path) -> None:
    labels = ["NT"] * 40 + ["unassigned"] * 40
    source = write(tmp_path, COUNTS, labels, treated_with=["NT"] * 40 + ["A"] * 40)
    message = refusal(source, control="NT")
    assert "where there is 'unassigned'" in message
    assert "name the column of the perturbations with perturbation=" in message
    assert accepted(source, control="NT", perturbation="treated_with") == ("A",)


def test_a_label_that_is_not_there(tmp_path: Path) -> None:
    source = write(tmp_path, COUNTS, LABELS)
    message = refusal(source, control="NTC")
    assert "control='NTC' is not a label in 'perturbation'" in message
    assert "did you mean 'NT'?" in message
    assert accepted(source, control="NT") == ("A",)
