"""The control cells of a screen store, as a source: predicted cells are judged beside them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pertscale.errors import UnknownNameError
from pertscale.execution.buffers import Buffers
from pertscale.io.sources._arrays import dense_block
from pertscale.io.sources._base import Block, CsrBlock, Source, SourceFormat, SourceSpec, as_names
from pertscale.io.store.layout import CHUNK_ROWS, open_root, read_column, read_frame
from pertscale.io.store.matrix import normalise
from pertscale.schema import CONTEXT, LOG1P_1E4, MATRIX, METADATA


class ControlSource(Source):
    """Controls of all contexts, on the store's own scale or as log1p of counts per 10,000.

    Parameters
    ----------
    spec
        `path` is the store, `matrix` the scale to read on: ``"counts"`` or ``"log1p_1e4"``.
    """

    def __init__(self, spec: SourceSpec) -> None:
        super().__init__(spec)
        root = open_root(spec.path)
        self._array = root[MATRIX]
        groups = read_frame(root[METADATA + "/groups"])
        self._runs = groups[groups["is_control"]].reset_index(drop=True)
        self._sizes = (self._runs["stop"] - self._runs["start"]).to_numpy()
        self._divide = spec.matrix == LOG1P_1E4 and self._array.dtype.kind == "u"
        self._obs, self._var = root["obs"], root["var"]

    @property
    def n_cells(self) -> int:
        """Number of controls."""
        return int(self._sizes.sum())

    @property
    def n_genes(self) -> int:
        """Number of genes."""
        return int(self._array.shape[1])

    def cell_names(self) -> np.ndarray:
        """Return the names of the controls."""
        names = read_column(self._obs, self._obs.attrs["_index"])
        return as_names(np.concatenate([names[a:b] for a, b in self._ranges()]))

    def cell_columns(self) -> list[str]:
        """Return the only column."""
        return [CONTEXT]

    def cell_column(self, name: str) -> pd.Series:
        """Return the context of every control."""
        if name != CONTEXT:
            raise UnknownNameError(f"{self.spec.path}: controls have no column {name!r}")
        return pd.Series(np.repeat(self._runs[CONTEXT].to_numpy(object), self._sizes))

    def genes(self) -> pd.DataFrame:
        """Return the genes of the store."""
        return pd.DataFrame(index=pd.Index(read_column(self._var, self._var.attrs["_index"])))

    def blocks(self, block_bytes: int) -> list[Block]:
        """Partition the controls into runs of rows, at most a row of chunks each."""
        step = max(1, min(CHUNK_ROWS, block_bytes // (4 * max(1, self.n_genes))))
        found, row = [], 0
        for start, stop in self._ranges():
            for at in range(start, stop, step):
                n = min(step, stop - at)
                found.append(Block(at, at + n, row, n))
                row += n
        return found

    def read(self, block: Block, buffers: Buffers | None = None) -> CsrBlock:
        """Read some controls and keep what is not zero."""
        values = np.ascontiguousarray(self._array[block.start : block.stop])
        if self._divide:
            totals = np.asarray(self._obs["total_counts"][block.start : block.stop])[:, None]
            values = normalise(values, totals)
        return dense_block(values, block.row_start, buffers)

    def _ranges(self) -> list[tuple[int, int]]:
        return list(zip(self._runs["start"].tolist(), self._runs["stop"].tolist(), strict=True))


FORMAT = SourceFormat(name="controls", doc="the controls of a screen store", open=ControlSource)
