"""null_calibration.parquet: what a run says of controls against controls, and the page of it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import pertscale as ps
from pertscale.errors import InputError, NotFoundError
from pertscale.report import null_p_values
from pertscale.schema import NULL_CALIBRATION_COLUMNS
from pertscale.stats import null_calibration
from tests.support.screens import write_h5ad

HOW = {"tasks": ["within"], "methods": ["majority_vote"], "settings": ["full"], "seed": 0}
TITLE = "Controls against controls"


def screen_of(folder, controls: dict[str, int]):
    """A screen with some perturbations and a number of controls in each context."""
    rng = np.random.default_rng(0)
    labels, contexts, n_genes = [], [], 40
    for context, n in controls.items():
        mine = ["non-targeting"] * n + [f"G{i}" for i in range(8) for _ in range(30 + i)]
        labels += mine
        contexts += [context] * len(mine)
    labels = np.array(labels)
    perturbed = labels[:, None] == np.array([f"G{i}" for i in range(n_genes)])
    counts = rng.poisson(np.where(perturbed, 0.2, 4.0)) + 1
    obs = {"perturbation": labels, "cell_line": np.array(contexts)}
    obs["guide"] = np.array([f"{name}_{i % 3}" for i, name in enumerate(labels)])
    return write_h5ad(folder / "s.h5ad", counts, obs)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nulls")
    source = screen_of(folder, {"many $x$": 200, "few": 3})
    return ps.run_benchmark(source, out=folder / "run", quiet=True, **HOW)


def test_table_says_what_was_tested_and_what_was_not(finished):
    table = finished.null_calibration
    assert table.columns.to_list() == [column.name for column in NULL_CALIBRATION_COLUMNS]
    made = null_calibration(finished.path)
    pd.testing.assert_frame_equal(table, made, check_dtype=False)  # strings, as files have them
    tested = table[table["context"] == "many $x$"]
    assert tested["kind"].to_list() == ["cells"] * 3 + ["guide"]
    assert tested["n_tests"].to_list() == [40, 40, 40, 3] and (tested["reason"] == "").all()
    assert ((tested["share_p_0_05"] > 0.01) & (tested["share_p_0_05"] < 0.12)).all()
    few = table[table["context"] == "few"]
    assert few["n_tests"].to_list() == [0, 0] and few["reason"].str.contains("controls").all()
    assert "null_calibration.parquet" in finished.manifest["files"]


def test_page_has_a_table_and_a_figure(finished):
    page = finished.report.read_text()
    section = page[page.index(TITLE) : page.index("Knock-down of targets")]
    assert section.count("<figure>") == 1 and len(section) < 60_000
    assert "random cells" in section and "the cells of a guide" in section
    assert "no two groups of min_cells=2" in section
    assert len(null_p_values(finished).axes) == 1  # the other context has none


def test_without_replicates_there_is_none(finished, tmp_path):
    source = screen_of(tmp_path, {"many": 50})
    result = ps.run_benchmark(source, out=tmp_path / "run", replicates=0, quiet=True, **HOW)
    assert len(result.null_calibration) == 0 and TITLE not in result.report.read_text()
    with pytest.raises(NotFoundError, match="replicates="):
        null_p_values(result)


def test_few_controls_in_all_contexts(tmp_path):
    source = screen_of(tmp_path, {"few": 3})
    result = ps.run_benchmark(source, out=tmp_path / "run", quiet=True, **HOW)
    page = result.report.read_text()
    section = page[page.index(TITLE) : page.index("Knock-down of targets")]
    assert "There are too few controls" in section and "<figure>" not in section
    with pytest.raises(InputError, match="enough controls"):
        null_p_values(result)
