"""Sorted controls of a block of genes, shared by the tasks of a process that need the same ones."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pertscale.execution.buffers import Buffers
from pertscale.io.store.matrix import MatrixReader
from pertscale.screen import Screen
from pertscale.stats.differential._kernels.ranksum import ControlTable, control_tables
from pertscale.stats.differential.tiles import Tile


class _Slot:
    """One table and the memory it lives in; filled again when nobody uses it."""

    def __init__(self) -> None:
        self.key: tuple[Any, ...] = ()
        self.users = 0
        self.table: ControlTable | None = None
        self.building = threading.Lock()
        self.buffers = Buffers()


class ControlCache:
    """As many control tables as tasks run at once.

    The first task that needs a block builds its table while others that need the same one wait.
    """

    def __init__(self) -> None:
        self._slots: list[_Slot] = []  # the least recently used first
        self._lock = threading.Lock()

    @contextmanager
    def table(
        self, screen: Screen, tile: Tile, reader: MatrixReader, *, is_counts: bool
    ) -> Iterator[ControlTable]:
        """Yield the sorted controls of a tile; they stay unchanged during the block."""
        key = (screen.path, screen.fingerprint, tile.context, tile.gene_start, tile.gene_stop)
        slot = self._occupy(key)
        try:
            with slot.building:
                if slot.table is None:
                    start, stop = screen.control_rows(screen.contexts[tile.context])
                    slot.table = control_tables(
                        reader.read(start, stop),
                        screen.totals[start:stop],
                        is_counts=is_counts,
                        take=slot.buffers.take,
                    )
            yield slot.table
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
                slot.key, slot.table = key, None
            slot.users += 1
            self._slots.remove(slot)
            self._slots.append(slot)
            return slot

    def clear(self) -> None:
        """Free the memory of all tables that are not in use."""
        with self._lock:
            self._slots = [slot for slot in self._slots if slot.users]
