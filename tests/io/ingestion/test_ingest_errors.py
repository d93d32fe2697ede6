"""Input that can't be used: the message names file and place, and nothing half-written stays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from pertscale.errors import (
    AmbiguousInputError,
    ArgumentError,
    CorruptFileError,
    InputError,
    NotFoundError,
    PertscaleError,
    UnknownNameError,
)
from pertscale.io import check, ingest
from pertscale.io.store.layout import is_store
from pertscale.screen import open_screen
from tests.support import screens
from tests.support.screens import GENES, check_store, draw, draw_obs, expected

COUNTS, OBS = draw(), draw_obs()
LOGS = np.log1p(COUNTS / np.maximum(COUNTS.sum(axis=1, keepdims=True), 1) * 1e4).astype(np.float32)
KEPT = next(i for i in range(8, 157) if OBS["perturbation"].iloc[i] != "unassigned")
PLACE = rf"screen.h5ad \(X\): cell 'AAC{KEPT:03d}-1' \(row {KEPT}\), gene 'GENE9': "


def write(
    folder: Path, matrix: object = None, obs: pd.DataFrame = OBS, *, kind: str = "h5ad csr"
) -> Path:
    return screens.WRITERS[kind](folder, COUNTS if matrix is None else matrix, obs)


def assert_refused(
    source: object, folder: Path, error: type[PertscaleError], message: str, **options: object
) -> None:
    """Ingest fails, and leaves nothing but the sources."""
    store = folder / "out.zarr"
    before = sorted(path.name for path in folder.iterdir())
    with pytest.raises(error, match=message):
        ingest(source, store, quiet=True, **options)
    assert sorted(path.name for path in folder.iterdir()) == before
    assert not is_store(store)
    with pytest.raises(NotFoundError):
        open_screen(store)


def assert_works(source: object, folder: Path, **options: object) -> None:
    check_store(ingest(source, folder / "out.zarr", quiet=True, **options), expected(COUNTS, OBS))


# --- values ---------------------------------------------------------------------------------------

BAD_VALUES = {
    "negative": (-1.0, "the value is -1.0"),
    "fractional": (1.5, "fractional values|1.5 is not an integer.*scale='log1p_1e4'"),
    "nan": (np.nan, "the value is nan"),
    "infinite": (np.inf, "the value is inf"),
    "too large": (65_536.0, r"65536.0 is above 65,535.*dtype='uint32'"),
}


@pytest.mark.parametrize("declared", [None, "counts"])
@pytest.mark.parametrize("form", [sp.csr_matrix, sp.csc_matrix, np.asarray])
@pytest.mark.parametrize("kind", BAD_VALUES)
def test_bad_values_are_named_with_their_place(
    tmp_path: Path, kind: str, form: Callable, declared: str | None
) -> None:
    value, reason = BAD_VALUES[kind]
    counts = COUNTS.astype(np.float32)
    counts[KEPT, 9] = value
    source = screens.h5ad(form)(tmp_path, counts, OBS)
    proved_at_once = kind == "fractional" and declared is None
    place = r"screen.h5ad \(X\): " if proved_at_once else PLACE
    assert_refused(source, tmp_path, InputError, place + f".*({reason})", scale=declared)
    screens.h5ad(form)(tmp_path, COUNTS, OBS)
    assert_works(source, tmp_path, scale=declared)


def test_bad_values_behind_the_sample_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pertscale.io.ingestion.scale._SAMPLE_BYTES", 5_000)
    counts = COUNTS.astype(np.float32)
    counts[40, 9] = 1.5
    obs = OBS.assign(perturbation=OBS["perturbation"].replace("unassigned", "KLF1"))
    source = write(tmp_path, counts, obs)
    assert check(source).scale == "counts"
    assert_refused(source, tmp_path, InputError, r"AAC040-1.*GENE9.*1.5 is not an integer")


@pytest.mark.parametrize("form", [sp.csr_matrix, sp.csc_matrix])
def test_duplicate_entries(tmp_path: Path, form: Callable) -> None:
    """For compressed columns the two may be in different blocks, and meet in the second pass."""
    source = screens.h5ad(form)(tmp_path, COUNTS, OBS)
    with h5py.File(source, "r+") as file:
        group = file["X"]
        matrix = form(COUNTS)
        major = KEPT if form is sp.csr_matrix else 9
        first = matrix.indptr[major]
        indices = matrix.indices.copy()
        indices[first + 1] = indices[first]
        group["indices"][:] = indices
    assert_refused(source, tmp_path, InputError, r"screen.h5ad \(X\): cell .* gene .* stored twice")


def test_duplicates_in_different_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pertscale.io.ingestion.work_folder._MAX_BLOCK_BYTES", 2_000)
    folder = write(tmp_path, kind="mtx plain gz")
    lines = ["%%MatrixMarket matrix coordinate integer general"]
    genes, cells = np.nonzero(COUNTS.T)
    entries = [*zip(genes, cells, strict=True), (genes[0], cells[0])]
    lines += [f"{len(GENES)} {len(OBS)} {len(entries)}"]
    lines += [f"{g + 1} {c + 1} {COUNTS[c, g]}" for g, c in entries]
    (folder / "matrix.mtx.gz").unlink()
    (folder / "matrix.mtx").write_text("\n".join(lines) + "\n")
    obs = OBS.assign(perturbation=OBS["perturbation"].replace("unassigned", "KLF1"))
    obs.assign(cell_line="alpha").to_csv(folder / "metadata.csv")
    place = rf"matrix.mtx \(X\): cell '{OBS.index[cells[0]]}' \(row {cells[0]}\), gene 'GENE0'"
    assert_refused(folder, tmp_path, InputError, place + " is stored twice")


def test_the_declared_scale_is_checked(tmp_path: Path) -> None:
    source = write(tmp_path)
    assert_refused(source, tmp_path, InputError, "all values are integers", scale="log1p_1e4")
    large = np.log1p(COUNTS.astype(np.float32))
    large[KEPT, 9] = 15
    write(tmp_path, large)
    message = PLACE + "the value 15.0 is not below 15.*pass scale='counts'"
    assert_refused(source, tmp_path, InputError, message, scale="log1p_1e4")
    (tmp_path / "log").mkdir()
    values = np.log1p(COUNTS.astype(np.float32))
    logged = write(tmp_path / "log", values)
    assert_refused(logged, tmp_path / "log", InputError, "is not an integer", scale="counts")
    assert_refused(logged, tmp_path / "log", ArgumentError, "not one of", scale="log")


def test_totals_other_than_ten_thousand_are_refused(tmp_path: Path) -> None:
    counts = COUNTS + 1.0
    values = np.log1p(1e6 * counts / counts.sum(axis=1, keepdims=True))
    assert_refused(
        write(tmp_path, values),
        tmp_path,
        InputError,
        "normalised to 1,000,000 per cell.*write numpy",
    )


def test_files_on_different_scales(tmp_path: Path) -> None:
    for name, matrix in (("a", COUNTS), ("b", LOGS)):
        (tmp_path / name).mkdir()
        write(tmp_path / name, matrix)
    files = [tmp_path / name / "screen.h5ad" for name in "ab"]
    assert_refused(files, tmp_path, InputError, "different scales.*counts.*log1p_1e4")


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(0, 5), (5, 0)])
def test_empty_matrices(tmp_path: Path, shape: tuple[int, int]) -> None:
    data = screens.anndata_of(sp.csr_matrix(COUNTS), OBS)[: shape[0], : shape[1]].copy()
    data.write_h5ad(tmp_path / "screen.h5ad")
    assert_refused(tmp_path / "screen.h5ad", tmp_path, InputError, "screen.h5ad .* is empty")


@pytest.mark.parametrize("name", ["screen.h5ad", "screen.csv", "screen.csv.gz", "matrix.mtx"])
def test_empty_files(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises((InputError, CorruptFileError), match=name):
        ingest(tmp_path / name, tmp_path / "out.zarr", quiet=True)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("declared", [None, "counts"])
def test_nothing_but_zeros(tmp_path: Path, declared: str | None) -> None:
    source = write(tmp_path, np.zeros_like(COUNTS))
    message = r"screen.h5ad.*(no value other than zero|all values are zero)"
    assert_refused(source, tmp_path, InputError, message, scale=declared)


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_truncated_h5ad(tmp_path: Path, kept: float) -> None:
    source = write(tmp_path)
    whole = source.read_bytes()
    source.write_bytes(whole[: int(len(whole) * kept)])
    assert_refused(source, tmp_path, CorruptFileError, "screen.h5ad")
    source.write_bytes(whole)
    assert_works(source, tmp_path)


def test_truncated_gzip(tmp_path: Path) -> None:
    source = write(tmp_path, kind="csv.gz")
    whole = source.read_bytes()
    source.write_bytes(whole[: len(whole) // 2])
    assert_refused(source, tmp_path, CorruptFileError, r"screen.csv.gz")
    source.write_bytes(whole)
    assert_works(source, tmp_path)


def test_a_damaged_chunk_that_only_reading_finds(tmp_path: Path) -> None:
    data = screens.anndata_of(sp.csr_matrix(COUNTS), OBS)
    data.write_h5ad(tmp_path / "screen.h5ad", compression="gzip")
    source = tmp_path / "screen.h5ad"
    with h5py.File(source) as file:
        chunk = file["X/data"].id.get_chunk_info(file["X/data"].id.get_num_chunks() - 1)
    well = source.read_bytes()
    whole = bytearray(well)
    middle = chunk.byte_offset + chunk.size // 2
    whole[middle : middle + 40] = bytes(40)
    source.write_bytes(whole)
    with pytest.raises(CorruptFileError, match=r"screen.h5ad, 'X'/data, rows"):
        ingest(source, tmp_path / "out.zarr", scale="counts", quiet=True)
    assert not (tmp_path / "out.zarr").exists()
    # it may be the storage: what was read is kept, as far as the file stays the same
    source.write_bytes(well)
    ingest(source, tmp_path / "out.zarr", scale="counts", quiet=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.zarr", "screen.h5ad"]


def test_missing_files(tmp_path: Path) -> None:
    assert_refused(tmp_path / "none.h5ad", tmp_path, NotFoundError, r"none.h5ad")
    assert_refused(str(tmp_path / "*.h5ad"), tmp_path, NotFoundError, "no file matches")
    assert_refused([], tmp_path, ArgumentError, "no source")


# --- labels ---------------------------------------------------------------------------------------


def test_no_control_cells(tmp_path: Path) -> None:
    labels = OBS["perturbation"]
    source = write(tmp_path, obs=OBS.assign(perturbation=labels.replace("non-targeting", "KLF9")))
    assert_refused(source, tmp_path, InputError, "screen.h5ad.*control")
    again = {"non-targeting": "KLF9", "GENE3": "NT"}  # only without a context
    lost = labels.replace(again).mask(OBS["cell_line"].notna() & (labels == "GENE3"), "KLF9")
    lost.iloc[11] = "NT"
    source = write(tmp_path, obs=OBS.assign(perturbation=lost))
    message = "screen.h5ad.*no control cells in context 'alpha', 'beta'"
    assert_refused(source, tmp_path, InputError, message)
    source = write(tmp_path)
    assert_works(source, tmp_path)


def test_nothing_but_control_cells(tmp_path: Path) -> None:
    source = write(tmp_path, obs=OBS.assign(perturbation="control"))
    assert_refused(source, tmp_path, InputError, "screen.h5ad.*perturbation")


def test_two_columns_that_differ(tmp_path: Path) -> None:
    turned = OBS["perturbation"].to_numpy()[::-1]
    source = write(tmp_path, obs=OBS.assign(target_gene=turned))
    assert_refused(source, tmp_path, AmbiguousInputError, "perturbation.*target_gene")
    assert_works(source, tmp_path, perturbation="perturbation")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"layer": "none"}, UnknownNameError, "no matrix 'none'"),
        ({"context": "none"}, UnknownNameError, "context='none'"),
        ({"dtype": "int8"}, ArgumentError, "dtype='int8'"),
        ({"memory": "much"}, ArgumentError, "memory='much'"),
        ({"genes": "all"}, ArgumentError, "genes='all'"),
    ],
)
def test_options_that_do_not_fit(
    tmp_path: Path, options: dict[str, str], error: type[PertscaleError], message: str
) -> None:
    assert_refused(write(tmp_path), tmp_path, error, message, **options)


def test_check_writes_nothing(tmp_path: Path) -> None:
    source = write(tmp_path, kind="csv.gz")
    account = check(source)
    assert account.n_kept == len(expected(COUNTS, OBS).rows)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cells.tsv", "screen.csv.gz"]


def test_totals_are_for_counts(tmp_path: Path) -> None:
    source = write(tmp_path, LOGS)
    message = "totals= is for raw counts"
    assert_refused(source, tmp_path, ArgumentError, message, totals="gem_group")
