"""Which half of its perturbation a cell is in (method O1).

The cells of each (context, perturbation), and the controls, are halved at random within batches, in
several ways. A cell's half depends on the seed, its context, its perturbation and its name, and on
the names of the other cells of its batch, never on the order of rows in a source.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from pertscale.hashing import digest
from pertscale.io.guards.damage import file_errors
from pertscale.io.store.layout import REMEDY, open_root
from pertscale.schema import CELL
from pertscale.screen import Screen, opened_screen
from pertscale.stats.differential._kernels.half_groups import MOST_SEEDS
from pertscale.storage.atomic import atomic_path

#: Cells that each half has at least; perturbations with fewer than twice as many have no halves.
FEWEST_CELLS: Final = 5
_FILE: Final = "halves.npy"
#: Names that are hashed at a time.
_NAMES: Final = 65_536


@dataclass(frozen=True, kw_only=True)
class Halves:
    """Descriptor of the halves of a screen's cells.

    Attributes
    ----------
    store, fingerprint : str
        The screen.
    staging : str
        Folder of the file with a code per cell; bit k says whether the cell is in the second half
        of way k.
    n_seeds : int
        Ways to halve the cells, 8 at most.
    min_cells : int
        Cells that a perturbation needs to be tested.
    """

    store: str
    fingerprint: str
    staging: str
    n_seeds: int
    min_cells: int

    @cached_property
    def codes(self) -> np.ndarray:
        """Code of each cell, (cells,) uint8, mapped from the file."""
        return np.load(Path(self.staging, _FILE), mmap_mode="r")

    @cached_property
    def halved(self) -> np.ndarray:
        """Whether each row of ``Screen.groups`` has halves, (groups,) bool."""
        return halved_groups(opened_screen(self.store, self.fingerprint), self.min_cells)

    def n_cells(self, screen: Screen) -> np.ndarray:
        """Return the cells of each half, (replicate, half, group) int64; 0 where there is none."""
        bounds = np.append(screen.groups["start"].to_numpy(), screen.n_cells)
        return half_sizes(self.codes, bounds, self.n_seeds) * self.halved


def half_sizes(codes: np.ndarray, bounds: np.ndarray, n_seeds: int) -> np.ndarray:
    """Return the cells of each half of consecutive groups, (way, half, group) int64.

    Group q has the codes ``bounds[q]:bounds[q + 1]``, at least one.
    """
    second = [
        np.add.reduceat((codes >> seed & 1).astype(np.int64), bounds[:-1])
        for seed in range(n_seeds)
    ]
    return np.stack([np.diff(bounds) - second, second], axis=1)


@lru_cache(maxsize=4)
def opened_halves(halves: Halves) -> Halves:
    """Return halves whose file this process has opened, and tasks share."""
    return halves


def halved_groups(screen: Screen, min_cells: int) -> np.ndarray:
    """Tell which rows of ``Screen.groups`` have halves, (groups,) bool.

    They have enough cells, and so have their controls.
    """
    groups = screen.groups
    enough = screen.group_sizes.to_numpy() >= 2 * max(min_cells, FEWEST_CELLS)
    controls = groups["is_control"].to_numpy()
    of_control = dict(zip(groups.loc[controls, "context"], enough[controls], strict=True))
    return enough & groups["context"].map(of_control).to_numpy(bool)


def write_codes(screen: Screen, halves: Halves) -> None:
    """Halve the cells of a screen, and write the code of each, unless that is done.

    Memory: some 70 bytes per cell.
    """
    file = Path(halves.staging, _FILE)
    if not file.exists():
        codes = cell_codes(screen, halves.n_seeds)
        with atomic_path(file) as temporary, temporary.open("wb") as opened:
            np.save(opened, codes)


def cell_codes(screen: Screen, n_seeds: int) -> np.ndarray:
    """Return the halves of all cells, (cells,) uint8; bit k: in the second half of way k."""
    if not 0 <= n_seeds <= MOST_SEEDS:
        raise ValueError(f"{n_seeds} ways to halve cells; a code has bits for {MOST_SEEDS}")
    names, batches = _names_and_batches(screen)
    groups = screen.groups
    group = np.repeat(np.arange(len(groups)), screen.group_sizes)
    codes = np.zeros(screen.n_cells, np.uint8)
    for seed in range(n_seeds):
        of_group = np.array(
            [
                int(digest("halves", seed, context, perturbation)[:16], 16)
                for context, perturbation in zip(
                    groups["context"], groups["perturbation"], strict=True
                )
            ],
            np.uint64,
        )
        second = second_half(mixed(names ^ of_group[group]), batches, group)
        codes |= second.astype(np.uint8) << np.uint8(seed)
    return codes


def second_half(keys: np.ndarray, batches: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Halve the cells of each group in the order of their keys, within batches.

    Parameters
    ----------
    keys : ndarray of uint64, (cells,)
    batches : ndarray, (cells,)
    group : ndarray of int, (cells,)
        Ascending.

    Returns
    -------
    ndarray of bool, (cells,)
        Whether the cell is in the second half. The halves of a batch, and of a group, differ by one
        cell at most.
    """
    order = np.lexsort((keys, batches, group))
    starts = np.searchsorted(group, group)  # of the cell's group
    second = np.empty(len(keys), bool)
    second[order] = (np.arange(len(keys)) - starts[order]) % 2 == 1
    return second


def _names_and_batches(screen: Screen) -> tuple[np.ndarray, np.ndarray]:
    """Return hashes of the name and of the batch of each cell, both uint64."""
    obs: Any = open_root(screen.path)["obs"]
    batches = np.zeros(screen.n_cells, np.uint64)
    names = name_hashes(screen, 0, screen.n_cells)
    with file_errors(screen.path, remedy=REMEDY):
        if "batch" in obs:
            codes = obs["batch/codes"][:]  # -1: not known
            batches = np.append(_hashes(obs["batch/categories"][:]), np.uint64(0))[codes]
    return names, batches


def name_hashes(screen: Screen, first: int, last: int) -> np.ndarray:
    """Return hashes of the names of the cells ``first:last``, uint64; they are read in pieces."""
    names: Any = open_root(screen.path)["obs"][CELL]
    hashes = np.empty(last - first, np.uint64)
    with file_errors(screen.path, remedy=REMEDY):
        for start in range(first, last, _NAMES):
            stop = min(start + _NAMES, last)
            hashes[start - first : stop - first] = _hashes(names[start:stop])
    return hashes


def _hashes(texts: Any) -> np.ndarray:
    return pd.util.hash_array(np.asarray(texts).astype(object), categorize=False)


def mixed(values: np.ndarray) -> np.ndarray:
    """Return values whose order is as good as random: the finaliser of SplitMix64."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
