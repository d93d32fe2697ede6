"""Prepared controls of a block of genes, shared by tasks of a process that need the same ones."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from pertscale.execution.buffers import Buffers
from pertscale.io.store.matrix import MatrixReader
from pertscale.screen import Screen
from pertscale.stats.differential._kernels import KERNELS
from pertscale.stats.differential._kernels.kernel import PreparedControls
from pertscale.stats.differential.half_tiles import HalfControls, HalfTests
from pertscale.stats.differential.null_tiles import NullTests
from pertscale.stats.differential.tiles import Tile


class Controls(NamedTuple):
    """Prepared controls of a block of genes; halves of them where these are tested, too.

    And z of the tests of some controls against the others, (tests, genes).
    """

    whole: PreparedControls
    halves: HalfControls | None
    nulls: np.ndarray | None


class _Slot:
    """Controls of one block and the memory they live in; filled again when nobody uses it."""

    def __init__(self) -> None:
        self.key: tuple[Any, ...] = ()
        self.users = 0
        self.controls: Controls | None = None
        self.building = threading.Lock()
        self.buffers = Buffers()


class ControlCache:
    """Prepared controls of as many blocks as tasks run at once.

    The first task that needs a block prepares its controls while others that need the same wait.
    """

    def __init__(self) -> None:
        self._slots: list[_Slot] = []  # the least recently used first
        self._lock = threading.Lock()

    @contextmanager
    def prepared(
        self,
        screen: Screen,
        tile: Tile,
        reader: MatrixReader,
        *,
        kernel: str,
        is_counts: bool,
        halves: HalfTests | None,
        nulls: NullTests | None,
        scratch: Buffers,
    ) -> Iterator[Controls]:
        """Yield the controls of a tile; they stay unchanged during the block."""
        genes = tile.gene_start, tile.gene_stop
        tests = tuple(() if tests is None else tests.key for tests in (halves, nulls))
        what = screen.path, screen.fingerprint, kernel, tests
        slot = self._occupy((*what, tile.context, *genes))
        try:
            with slot.building:
                if slot.controls is None:
                    group = screen.context_groups(screen.contexts[tile.context]).iloc[0]
                    start, stop = int(group["start"]), int(group["stop"])
                    block = reader.read(start, stop)
                    whole = KERNELS[kernel].prepare_controls(
                        block,
                        screen.totals[start:stop],
                        is_counts=is_counts,
                        take=slot.buffers.take,
                    )
                    of_halves = None
                    if halves is not None:
                        of_halves = halves.prepare(
                            block, start, int(group.name), whole, slot.buffers, scratch
                        )
                    z = None
                    if nulls is not None:
                        z = nulls.test(block, start, tile.context, whole, slot.buffers)
                    slot.controls = Controls(whole, of_halves, z)
            yield slot.controls
        finally:
            with self._lock:
                slot.users -= 1

    def _occupy(self, key: tuple[Any, ...]) -> _Slot:
        with self._lock:
            slot = next((s for s in self._slots if s.key == key), None)
            if slot is None:
                slot = next((s for s in self._slots if not s.users), None)
                if slot is None:
                    slot = _Slot()
                    self._slots.append(slot)
                slot.key, slot.controls = key, None
            slot.users += 1
            self._slots.remove(slot)
            self._slots.append(slot)
            return slot

    def clear(self) -> None:
        """Free the memory of all controls that are not in use."""
        with self._lock:
            self._slots = [slot for slot in self._slots if slot.users]
