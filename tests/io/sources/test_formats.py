"""A format is one module with a record: what a new one needs, and what is said without it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pertscale.errors import InputError
from pertscale.execution.buffers import Buffers
from pertscale.io import ingest, sources
from pertscale.io.sources import Block, CsrBlock, Source, SourceSpec, find_source, open_source
from pertscale.io.sources._arrays import dense_block
from pertscale.io.sources._base import SourceChoices, SourceFormat
from pertscale.screen import open_screen

COUNTS = np.random.RandomState(0).poisson(2.0, (30, 4)).astype(np.int32)
LABELS = np.array(["control", "KLF1", "STAT1"])[np.arange(30) % 3]


class ArchiveSource(Source):
    """A matrix with its names in a NumPy archive."""

    def __init__(self, spec: SourceSpec) -> None:
        super().__init__(spec)
        with np.load(spec.file) as file:
            self._arrays = dict(file)

    @property
    def n_cells(self) -> int:
        return len(self._arrays["X"])

    @property
    def n_genes(self) -> int:
        return self._arrays["X"].shape[1]

    def cell_names(self) -> np.ndarray:
        return self._arrays["cells"].astype(np.dtypes.StringDType())

    def cell_columns(self) -> list[str]:
        return ["perturbation"]

    def cell_column(self, name: str) -> pd.Series:
        return pd.Series(self._arrays[name])

    def genes(self) -> pd.DataFrame:
        return pd.DataFrame(index=pd.Index(self._arrays["genes"].astype(object)))

    def blocks(self, block_bytes: int) -> list[Block]:
        return [Block(0, self.n_cells, 0, self.n_cells)]

    def read(self, block: Block, buffers: Buffers | None = None) -> CsrBlock:
        return dense_block(self._arrays["X"], 0)


def find(path: Path, choices: SourceChoices) -> SourceSpec:
    choices.check_one_matrix(path)
    return SourceSpec(str(path), "archive", notes=("archive: found",))


ARCHIVE = SourceFormat(
    name="archive",
    doc="archives of NumPy",
    open=ArchiveSource,
    looks_like=lambda path: path.suffix == ".npz",
    find=find,
)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "screen.npz"
    cells, genes = [f"c{i}" for i in range(30)], ["A", "KLF1", "STAT1", "B"]
    np.savez(path, X=COUNTS, cells=cells, genes=genes, perturbation=LABELS)
    return path


def test_a_planted_format_is_found_opened_and_ingested(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="format that pertscale doesn't read") as refused:
        find_source(archive)
    assert "archives of NumPy" not in str(refused.value)
    monkeypatch.setattr(sources, "FORMATS", (*sources.FORMATS, ARCHIVE))
    with open_source(find_source(archive)) as source:
        assert isinstance(source, ArchiveSource)
    screen = open_screen(ingest(archive, tmp_path / "out.zarr", quiet=True))
    assert (screen.n_cells, screen.n_genes) == COUNTS.shape
    assert "archive: found" in screen.info["account"]
    (tmp_path / "a.rds").write_text("x")
    with pytest.raises(InputError, match="csv, tsv, archives of NumPy"):
        find_source(tmp_path / "a.rds")


def test_each_format_has_its_own_name_and_words() -> None:
    names = [form.name for form in sources.FORMATS]
    assert len(set(names)) == len(names)
    for form in sources.FORMATS:
        assert form.doc, form.name
        assert (form.looks_like is None) == (form.find is None), form.name
