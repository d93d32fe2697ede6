"""Several files as one screen: what is opened how often."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest

from pertscale.io import check
from pertscale.io.ingestion import inputs
from pertscale.io.ingestion.inputs import SourceSet
from pertscale.io.sources import Source, SourceSpec, open_source
from tests.support import screens


class Reads:
    """Counts what is asked of the sources that a SourceSet opens."""

    def __init__(self) -> None:
        self.opened: Counter[str] = Counter()
        self.listed: Counter[str] = Counter()
        self.loaded: Counter[tuple[str, str]] = Counter()

    @contextmanager
    def open(self, spec: SourceSpec) -> Iterator[Source]:
        """Open a source that counts."""
        self.opened[spec.path] += 1
        with open_source(spec) as source:
            columns, column = source.cell_columns, source.cell_column

            def cell_columns() -> list[str]:
                self.listed[spec.path] += 1
                return columns()

            def cell_column(name: str) -> pd.Series:
                self.loaded[spec.path, name] += 1
                return column(name)

            source.cell_columns, source.cell_column = cell_columns, cell_column  # type: ignore[method-assign]
            yield source


@pytest.fixture
def lanes(tmp_path: Path) -> list[Path]:
    """Three files of one screen, with a column that plays no role."""
    counts, obs = screens.draw(), screens.draw_obs().assign(viability=0.5)
    paths = []
    for i, name in enumerate(("lane1", "lane2", "lane3")):
        folder = tmp_path / name
        folder.mkdir()
        written = screens.WRITERS["h5ad csr"](folder, counts[i::3], obs.iloc[i::3])
        paths.append(written.rename(tmp_path / f"{name}.h5ad"))
    return paths


def test_check_opens_each_file_once_for_names_and_once_per_column(
    lanes: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = Reads()
    monkeypatch.setattr(inputs, "open_source", reads.open)
    check(lanes)
    files = [str(path) for path in lanes]
    assert reads.listed == dict.fromkeys(files, 1)
    for path in files:
        loads = sum(n for (file, _), n in reads.loaded.items() if file == path)
        assert reads.opened[path] == 1 + loads  # no other time
        assert reads.loaded[path, "viability"] == 1


def test_names_of_files_are_read_from_their_paths_alone(lanes: list[Path]) -> None:
    sources = SourceSet.find([*lanes])
    for path in lanes:
        path.unlink()
    assert sources.names == ("lane1", "lane2", "lane3")
    assert sources.file_names == ("lane1.h5ad", "lane2.h5ad", "lane3.h5ad")
    assert sources.where == ", ".join(map(str, lanes))
