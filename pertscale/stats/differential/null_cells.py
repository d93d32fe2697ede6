"""Which controls stand for a perturbation that does nothing (method P1).

Random cells of a context's controls, as many as its perturbations have, and the cells of each of
its non-targeting guides. Which cells are drawn depends on their names, the context, their number
and the number of the draw, never on the order of rows in a source.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from pertscale.errors import NotFoundError
from pertscale.hashing import digest
from pertscale.io.guards.damage import file_errors
from pertscale.io.store.column_names import stored_names
from pertscale.io.store.layout import REMEDY, open_root
from pertscale.schema import CELL_COLUMNS, NULL_CELLS, NULL_GUIDE
from pertscale.screen import Screen
from pertscale.stats.differential.half_cells import mixed, name_hashes
from pertscale.storage.atomic import atomic_path

#: Draws of each size, and the quantiles of the perturbations' sizes that sizes are.
DRAWS: Final = 40
QUANTILES: Final = (0.25, 0.5, 0.75)
#: Guides of a context that are tested; of more, that many are drawn by the hash of their names.
MOST_GUIDES: Final = 1_000
_FILE: Final = "nulls.npz"


class NullTest(NamedTuple):
    """Some controls that are tested against the others."""

    context: int  # code of the context
    kind: str  # NULL_CELLS or NULL_GUIDE
    name: str
    n_cells: int


@dataclass(frozen=True, kw_only=True)
class NullCells:
    """Descriptor of the controls that are tested against the others.

    Attributes
    ----------
    store, fingerprint : str
        The screen.
    staging : str
        Folder of the file that says which cells they are.
    min_cells : int
        Cells that a perturbation needs to be tested.
    """

    store: str
    fingerprint: str
    staging: str
    min_cells: int

    @property
    def is_written(self) -> bool:
        """Whether cells were chosen."""
        return Path(self.staging, _FILE).exists()

    @cached_property
    def _content(self) -> dict[str, np.ndarray]:
        with np.load(Path(self.staging, _FILE)) as file:
            return dict(file)

    @cached_property
    def tests(self) -> list[NullTest]:
        """All tests, those of a context one after the other."""
        columns = (self._content[name].tolist() for name in NullTest._fields)
        return [NullTest(*row) for row in zip(*columns, strict=True)]

    def span(self, context: int) -> tuple[int, int]:
        """Return the first test of a context, and one past the last."""
        first, last = np.searchsorted(self._content["context"], [context, context + 1])
        return int(first), int(last)

    def cells(self, context: int) -> tuple[np.ndarray, np.ndarray]:
        """Return bounds, int64 (tests + 1), and cells, int32, of the tests of a context.

        Cells are numbered from the first control of the context on.
        """
        first, last = self.span(context)
        bounds = np.cumsum([0, *self._content["n_cells"]])[first : last + 1]
        return bounds - bounds[0], self._content["cells"][bounds[0] : bounds[-1]]


@lru_cache(maxsize=4)
def opened_nulls(nulls: NullCells) -> NullCells:
    """Return tests whose file this process has opened, and tasks share."""
    return nulls


def choose_controls(screen: Screen, nulls: NullCells) -> None:
    """Choose the cells of all tests, and write them down, unless that is done.

    Memory: some 30 bytes per control, and 4 bytes per cell of a test.
    """
    file = Path(nulls.staging, _FILE)
    if file.exists():
        return
    tests = null_tests(screen, nulls.min_cells)
    cells = [np.zeros(0, np.int32)]
    for code in range(len(screen.contexts)):
        of_context = [test for test in tests if test.context == code]
        cells += _chosen(screen, code, of_context, nulls.min_cells) if of_context else []
    columns = dict(zip(NullTest._fields, zip(*tests, strict=True), strict=False))
    content: dict[str, Any] = {
        "context": np.array(columns.get("context", ()), np.int64),
        "kind": np.array(columns.get("kind", ()), np.str_),
        "name": np.array(columns.get("name", ()), np.str_),
        "n_cells": np.array(columns.get("n_cells", ()), np.int64),
        "cells": np.concatenate(cells),
    }
    with atomic_path(file) as temporary, temporary.open("wb") as opened:
        np.savez(opened, **content)


def null_tests(screen: Screen, min_cells: int) -> list[NullTest]:
    """Return what is tested of each context, without choosing the cells."""
    column = guide_column(screen)
    return [
        NullTest(code, *test)
        for code, context in enumerate(screen.contexts)
        for test in _of_context(screen, context, min_cells, column)
    ]


def _of_context(
    screen: Screen, context: str, min_cells: int, column: str | None
) -> Iterator[tuple[str, str, int]]:
    """Yield kind, name and cells of the tests of a context; none without a tested perturbation."""
    first, last = screen.control_rows(context)
    _, *sizes = screen.group_sizes[screen.context_groups(context).index]
    tested = [size for size in sizes if size >= min_cells]
    if not tested:
        return
    quartiles = np.quantile(tested, QUANTILES, method="inverted_cdf")
    for size in sorted({min(int(size), (last - first) // 2) for size in quartiles}):
        if size >= max(min_cells, 1):
            yield from ((NULL_CELLS, f"{size}_{number}", size) for number in range(DRAWS))
    if column is not None:
        for name, cells in _guides(screen, column, first, last, min_cells).items():
            yield NULL_GUIDE, name, len(cells)


def _chosen(screen: Screen, code: int, tests: list[NullTest], min_cells: int) -> list[np.ndarray]:
    """Return the cells of the tests of a context, ascending, int32."""
    context = screen.contexts[code]
    first, last = screen.control_rows(context)
    names, guides = name_hashes(screen, first, last), {}
    if any(test.kind == NULL_GUIDE for test in tests):
        guides = _guides(screen, guide_column(screen) or "", first, last, min_cells)
    chosen = []
    for test in tests:
        if test.kind == NULL_GUIDE:
            cells = guides[test.name]
        else:
            key = np.uint64(int(digest("null", context, test.name)[:16], 16))
            cells = np.sort(np.argpartition(mixed(names ^ key), test.n_cells - 1)[: test.n_cells])
        chosen.append(cells.astype(np.int32))
    return chosen


def guide_column(screen: Screen) -> str | None:
    """Return the column of the cells that has their guides, if one does.

    That of guides; else the labels as the source has them, which may be those of guides.
    """
    try:
        obs: Any = open_root(screen.path)["obs"]
    except NotFoundError:  # of a screen that is forecast from its file
        return None
    columns = ["guide"]
    label = screen.info.get("roles", {}).get("perturbation")
    if isinstance(label, str):
        columns.append(stored_names([label], [c.name for c in CELL_COLUMNS])[label])
    return next((name for name in columns if f"{name}/codes" in obs), None)


def _guides(
    screen: Screen, column: str, first: int, last: int, min_cells: int
) -> dict[str, np.ndarray]:
    """Return the cells of each guide among the controls, rows ``first:last``, by its name.

    A guide counts that has `min_cells` cells and leaves as many as it has.
    """
    obs: Any = open_root(screen.path)["obs"]
    with file_errors(screen.path, remedy=REMEDY):
        codes = np.asarray(obs[f"{column}/codes"][first:last]).astype(np.int64)
        names = np.asarray(obs[f"{column}/categories"][:]).astype(object)
    n_cells = np.bincount(codes[codes >= 0], minlength=len(names))
    enough = (n_cells >= max(min_cells, 1)) & (2 * n_cells <= last - first)
    found = {str(names[code]): code for code in np.flatnonzero(enough) if names[code]}
    most = sorted(found, key=lambda name: digest("guide", name))[:MOST_GUIDES]
    return {name: np.flatnonzero(codes == found[name]) for name in sorted(most)}
