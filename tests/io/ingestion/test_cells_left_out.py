"""Cells that ingest leaves out though they have a label: without any count, or without controls."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy.stats import mannwhitneyu

from pertscale.errors import InputError
from pertscale.io import check, ingest
from pertscale.io.ingestion import write as writing
from pertscale.io.ingestion.work_folder import IngestTasks
from pertscale.screen import open_screen
from pertscale.stats import rank_sum
from tests.support.helpers import tree_hash

LABELS = ["ctrl"] * 80 + ["A"] * 40 + ["B"] * 38 + ["C"] * 2
COUNTS = np.random.default_rng(0).poisson(3, (160, 60)).astype(np.float32) + 1


def write(folder: Path, counts: np.ndarray, labels: list[str], **columns: object) -> Path:
    names = [f"c{i}" for i in range(len(labels))]
    obs = pd.DataFrame({"perturbation": labels, **columns}, index=names)
    var = pd.DataFrame(index=[f"G{i}" for i in range(counts.shape[1])])
    path = folder / "screen.h5ad"
    ad.AnnData(sp.csr_matrix(counts), obs=obs, var=var).write_h5ad(path)
    return path


def emptied(rows: list[int]) -> np.ndarray:
    counts = COUNTS.copy()
    counts[rows] = 0
    return counts


def test_cells_without_any_count_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    empty = [3, 90, 158, 159]
    source = write(tmp_path, emptied(empty), LABELS)
    assert "4 of 160 cells that were looked at have no count" in str(check(source))
    screen = open_screen(ingest(source, tmp_path / "s.zarr"))
    assert screen.n_cells == 156
    assert screen.perturbations == ("A", "B")
    drops = screen.drops.sort_values("row")
    assert drops["row"].tolist() == empty
    assert drops["name"].tolist() == ["c3", "c90", "c158", "c159"]
    assert drops["label"].tolist() == ["ctrl", "A", "C", "C"]
    assert set(drops["reason"]) == {"no count in any gene"}
    told = capsys.readouterr().err
    assert "warning: left out: 4 of 160 cells (2.5 %)" in told
    assert "nothing is left of 1 perturbations ('C')" in told
    account = screen.info["account"]
    assert "kept: 156 cells, 60 genes; left out: 4 cells" in account
    assert any("4 of 160 cells (2.5 %)" in line for line in account)
    (tmp_path / "clean").mkdir()
    kept = [i for i in range(160) if i not in empty]
    clean = write(tmp_path / "clean", COUNTS[kept], [LABELS[i] for i in kept])
    alone = rank_sum(ingest(clean, tmp_path / "c.zarr", quiet=True), quiet=True).to_pandas()
    both = rank_sum(tmp_path / "s.zarr", quiet=True).to_pandas()
    pd.testing.assert_frame_equal(both, alone)  # as if they had never been there


def test_a_file_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    source = write(tmp_path, emptied(list(range(120, 160))), LABELS)
    message = r"40 of 160 cells \(25%\).* rows 120 to the last one .*cut off.* write it again"
    with pytest.raises(InputError, match=message):
        ingest(source, tmp_path / "s.zarr", quiet=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["screen.h5ad"]
    file = ad.read_h5ad(source)  # what the message says: without them, if they are empty indeed
    file[file.X.sum(axis=1).A1 > 0].write_h5ad(source)
    assert open_screen(ingest(source, tmp_path / "s.zarr", quiet=True)).n_cells == 120


def test_cells_of_a_panel_that_have_a_total_are_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """A few genes were read out: a quarter of the cells has none of them."""
    empty = list(range(2, 160, 4))
    totals = np.full(160, 9_000.0)
    totals[6] = 0
    source = write(tmp_path, emptied(empty), LABELS, n_counts=totals)
    with pytest.raises(InputError, match=r"\(25%\).* panel of genes only, pass totals='n_counts'"):
        ingest(source, tmp_path / "s.zarr", quiet=True)
    assert "of a panel of genes, totals= names the column" in str(check(source))
    screen = open_screen(ingest(source, tmp_path / "s.zarr", totals="n_counts"))  # as it says
    assert screen.n_cells == 159
    assert screen.drops["row"].tolist() == [6]
    kept = "kept: 39 of 159 cells (25 %) that have no count in any gene, but a total in column"
    assert any(kept in line for line in screen.info["account"])
    assert kept in capsys.readouterr().err
    found = rank_sum(screen, quiet=True).to_pandas().set_index(["perturbation", "gene"])
    with_zeros = np.delete(np.arange(160), 6)
    label = np.array(LABELS)[with_zeros]
    fractions = emptied(empty)[with_zeros, 0] / 9_000
    wanted = mannwhitneyu(fractions[label == "A"], fractions[label == "ctrl"], method="asymptotic")
    assert found.loc[("A", "G0"), "p_value"] == pytest.approx(wanted.pvalue, rel=1e-6)


def test_a_file_of_a_panel_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    totals = np.full(160, 9_000.0)
    source = write(tmp_path, emptied(list(range(120, 160))), LABELS, n_counts=totals)
    with pytest.raises(InputError, match=r"rows 120 to the last one .*cut off") as error:
        ingest(source, tmp_path / "s.zarr", totals="n_counts", quiet=True)
    assert "pass totals=" not in str(error.value)  # which was passed


def test_an_interrupted_call_knows_which_cells_are_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path, emptied([3, 90]), LABELS)
    whole = tree_hash(ingest(source, tmp_path / "whole.zarr", quiet=True))

    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(writing, "_write_tables", fail)
    with pytest.raises(KeyboardInterrupt):
        ingest(source, tmp_path / "s.zarr", quiet=True)
    monkeypatch.undo()
    written: list[bool] = []
    ask = IngestTasks.is_written
    monkeypatch.setattr(
        IngestTasks, "is_written", lambda work: (written.append(ask(work)), ask(work))[1]
    )
    assert tree_hash(ingest(source, tmp_path / "s.zarr", quiet=True)) == whole
    assert written == [True]  # nothing of the matrix was written again


def test_a_context_without_controls_is_left_out(tmp_path: Path) -> None:
    lines = ["K562"] * 130 + ["RPE1"] * 30
    labels = ["ctrl"] * 60 + ["A"] * 40 + ["B"] * 30 + ["A"] * 20 + ["C"] * 10
    source = write(tmp_path, COUNTS, labels, cell_line=lines)
    sentence = "left out: context 'RPE1', 30 cells of 2 perturbations, which has no control cells"
    assert sentence in str(check(source))
    screen = open_screen(ingest(source, tmp_path / "s.zarr", quiet=True))
    assert screen.contexts == ("K562",)
    assert screen.perturbations == ("A", "B")
    drops = screen.drops
    assert drops["row"].tolist() == list(range(130, 160))
    assert set(drops["context"]) == {"RPE1"}
    assert set(drops["reason"]) == {"context 'RPE1' has no control cells"}
    assert sum(sentence in line for line in screen.info["account"]) == 1
    source = write(tmp_path, COUNTS, ["ctrl" if n == "C" else n for n in labels], cell_line=lines)
    ingest(source, tmp_path / "s.zarr", overwrite=True, quiet=True)
    assert open_screen(tmp_path / "s.zarr").contexts == ("K562", "RPE1")


def test_a_context_whose_controls_are_empty_is_left_out(tmp_path: Path) -> None:
    lines = ["K562"] * 150 + ["RPE1"] * 10
    labels = ["ctrl"] * 60 + ["A"] * 90 + ["ctrl"] * 4 + ["A"] * 6
    source = write(tmp_path, emptied([150, 151, 152, 153]), labels, cell_line=lines)
    screen = open_screen(ingest(source, tmp_path / "s.zarr", quiet=True))
    assert screen.contexts == ("K562",)
    counted = screen.drops["reason"].value_counts().to_dict()
    assert counted == {"no count in any gene": 4, "context 'RPE1' has no control cells": 6}
