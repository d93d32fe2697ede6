"""Screen: an immutable handle on a screen store."""

from __future__ import annotations

import copy
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pertscale import display, perturbation_names
from pertscale.arguments import checked
from pertscale.errors import CorruptFileError, InputError, UnknownNameError
from pertscale.guide_names import target_group
from pertscale.io.guards.damage import file_errors
from pertscale.io.store.layout import (
    CHECKSUM,
    REMEDY,
    content_hash,
    fingerprint,
    has_checksums,
    open_matrix,
    open_root,
    read_column,
    read_frame,
    read_info,
)
from pertscale.io.store.matrix import GuardedArray, normalise
from pertscale.schema import CELL, CONTROL, COUNTS, GENE, LOG1P_1E4, MATRIX, METADATA
from pertscale.storage.files import size_of
from pertscale.storage.locations import absolute

if TYPE_CHECKING:
    import anndata
    import dask.array as da
    import xarray as xr

#: Contexts that a notebook shows; the others are folded away.
_MOST_CONTEXTS = 8
_SCALES = {COUNTS: "raw counts", LOG1P_1E4: "log1p of counts per 10,000"}


@checked
@dataclass(frozen=True, eq=False, repr=False)
class Screen:
    """A screen on disk; made by :func:`open_screen`.

    Opening reads the names of genes and groups, never the matrix. Cells are sorted by context,
    then controls first, then perturbation, so that a group is one run of rows. A Screen is
    immutable: its tables are copies. It is pickled as its path.

    Attributes
    ----------
    path : str
        The store, absolute, or its URL.
    genes : Index
        Unique names of the read-out genes.

    Examples
    --------
    >>> screen = ps.open_screen("k562.zarr")
    >>> screen.context_groups("sim")["perturbation"].to_list()[:2]
    ['control', 'GENE0002']
    >>> expression = screen.to_xarray()["expression"]  # lazy, over (cell, gene)
    >>> round(float(expression.sel(gene="GENE0002").mean()), 2)
    2.9
    """

    path: str
    genes: pd.Index
    _groups: pd.DataFrame
    _info: dict[str, Any]

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return open_screen, (self.path,)

    # --- what is inside ---------------------------------------------------------------

    @property
    def groups(self) -> pd.DataFrame:
        """One row per (context, perturbation); :data:`pertscale.schema.GROUP_COLUMNS`."""
        return self._groups.copy()

    @property
    def info(self) -> dict[str, Any]:
        """What ingest recorded: scale, totals, account, fingerprint."""
        return copy.deepcopy(self._info)

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return int(self._groups["stop"].iloc[-1])

    @property
    def n_genes(self) -> int:
        """Number of read-out genes."""
        return len(self.genes)

    @property
    def shape(self) -> tuple[int, int]:
        """Cells and genes."""
        return self.n_cells, self.n_genes

    @property
    def scale(self) -> str:
        """``'counts'`` or ``'log1p_1e4'``."""
        return str(self._info["scale"])

    @property
    def fingerprint(self) -> str:
        """Hash of the screen's content: genes, groups, totals and expressed genes of each cell."""
        return str(self._info["fingerprint"])

    @cached_property
    def contexts(self) -> tuple[str, ...]:
        """Names of the contexts, in the order of the rows."""
        return tuple(dict.fromkeys(self._groups["context"]))

    @cached_property
    def perturbations(self) -> tuple[str, ...]:
        """Sorted names of all perturbations, controls left out."""
        return tuple(sorted(set(self._groups.loc[~self._groups["is_control"], "perturbation"])))

    @cached_property
    def target_groups(self) -> dict[str, str]:
        """Canonical name of the targets of each perturbation: ``ZAP70`` for ``ZAP70_2``."""
        if "guides" not in self._info:  # of an earlier version
            return target_group(self.perturbations, self.genes)
        return {name: self._info["guides"].get(name, name) for name in self.perturbations}

    @cached_property
    def targets(self) -> dict[str, tuple[str, ...]]:
        """Genes that each perturbation targets; guides of one gene share it."""
        found = {
            name: perturbation_names.targets(group) for name, group in self.target_groups.items()
        }
        return {**found, CONTROL: ()}

    @property
    def group_sizes(self) -> pd.Series:
        """Number of cells of each row of :attr:`groups`, with the same index."""
        return self._groups["stop"] - self._groups["start"]

    @cached_property
    def gene_ids(self) -> tuple[str, ...] | None:
        """Second names of the genes, such as Ensembl's; None where the screen has none."""
        var = self.var
        return tuple(var["gene_id"].astype(str)) if "gene_id" in var else None

    def context_groups(self, context: str) -> pd.DataFrame:
        """Rows of :attr:`groups` of one context, the control first."""
        if context not in self.contexts:
            raise UnknownNameError(
                f"no context {context!r} in {self.path}; it has {', '.join(self.contexts)}"
            )
        return self._groups[self._groups["context"] == context]

    def control_rows(self, context: str) -> tuple[int, int]:
        """First row of the control cells of a context, and one past the last."""
        control = self.context_groups(context).iloc[0]
        return int(control["start"]), int(control["stop"])

    def tested(self, context: str, *, min_cells: int) -> list[str]:
        """Perturbations of a context with `min_cells` cells or more, in the order of the rows."""
        groups = self.context_groups(context)
        enough = self.group_sizes[groups.index] >= min_cells
        return list(groups.loc[enough & ~groups["is_control"], "perturbation"])

    @property
    def drops(self) -> pd.DataFrame:
        """Cells and genes that ingest left out, each with the reason (read on each access)."""
        with self._store() as root:
            return read_frame(root[METADATA + "/drops"]).reset_index(drop=True)

    @cached_property
    def totals(self) -> np.ndarray:
        """Total count of each cell, (cells,) float64, read-only; NaN where not counts."""
        with self._store() as root:
            totals = np.asarray(read_column(root["obs"], "total_counts"))
        totals.flags.writeable = False
        return totals

    def n_genes_expressed(self, first: int, last: int) -> np.ndarray:
        """Return how many genes are above zero in each of the cells ``first:last``, int64."""
        return self._n_genes_expressed[first:last].astype(np.int64)

    @cached_property
    def _n_genes_expressed(self) -> np.ndarray:
        """Of all cells: parts of the label table ask for a few thousand each."""
        with self._store() as root, file_errors(self.path, remedy=REMEDY):
            return np.asarray(root["obs/n_genes_expressed"])

    @property
    def obs(self) -> pd.DataFrame:
        """Table of the cells, in the order of the rows (read whole on each access)."""
        with self._store() as root:
            return read_frame(root["obs"])

    @property
    def var(self) -> pd.DataFrame:
        """Table of the genes (read on each access)."""
        with self._store() as root:
            return read_frame(root["var"])

    @contextmanager
    def _store(self) -> Iterator[Any]:
        """Open the store for reading; raise an error if it was replaced meanwhile."""
        root = open_root(self.path)
        try:
            yield root
        except CorruptFileError:
            check_unchanged(self)  # parts of another store are not damaged
            raise
        check_unchanged(self)

    # --- as arrays ----------------------------------------------------------------------

    def _matrix(self) -> da.Array:
        import dask.array as da

        matrix = GuardedArray(open_matrix(self.path), f"{self.path}/{MATRIX}")
        return da.from_array(matrix, chunks=matrix.chunks)

    def to_xarray(self) -> xr.Dataset:
        """Return a lazy Dataset over (cell, gene).

        Returns
        -------
        Dataset
            ``counts`` (unsigned integers; only for raw counts) and ``expression`` (method A1: log1p
            of counts per 10,000, float32) as Dask arrays in the store's chunks; the columns of the
            cells and genes as coordinates. Memory: the coordinates.
        """
        import xarray as xr

        matrix, obs = self._matrix(), self.obs
        dims = (CELL, GENE)
        variables = {"expression": (dims, matrix)}
        if self.scale == COUNTS:
            variables = {"counts": (dims, matrix), "expression": (dims, self._normalized(matrix))}
        coords: dict[str, Any] = {GENE: np.asarray(self.genes, object), CELL: obs.index}
        for name in obs.columns:
            own = f"{name}_source" if name in (GENE, *variables) else name  # xarray has one of each
            coords[own] = (CELL, _coordinate(obs[name]))
        attrs = {"scale": self.scale, "screen": Path(self.path).name}
        return xr.Dataset(variables, coords=coords, attrs=attrs)

    def _normalized(self, counts: da.Array) -> da.Array:
        import dask.array as da

        totals = da.from_array(self.totals, chunks=(counts.chunks[0],))[:, None]
        meta = np.empty((0, 0), np.float32)
        return da.map_blocks(normalise, counts, totals, dtype=np.float32, meta=meta)

    def to_anndata(self) -> anndata.AnnData:
        """Return an AnnData with a lazy ``X`` (Dask); ``obs`` and ``var`` are in memory."""
        import anndata

        return anndata.AnnData(X=self._matrix(), obs=self.obs, var=self.var)

    # --- looks ----------------------------------------------------------------------------

    def summary(self) -> pd.DataFrame:
        """Return cells, perturbations and controls per context."""
        groups = self._groups.assign(n=self.group_sizes)
        rows = []
        for context in self.contexts:
            mine = groups[groups["context"] == context]
            perturbed = mine.loc[~mine["is_control"], "n"]
            rows.append(
                {
                    "context": context,
                    "cells": int(mine["n"].sum()),
                    "control_cells": int(mine.loc[mine["is_control"], "n"].sum()),
                    "perturbations": len(perturbed),
                    "median_cells_per_perturbation": float(perturbed.median()),
                }
            )
        return pd.DataFrame(rows)

    def __repr__(self) -> str:
        lines = [
            f"<Screen {Path(self.path).name}: {self.n_cells:,} cells x {self.n_genes:,} genes, "
            f"{len(self.perturbations):,} perturbations, {self.scale}>"
        ]
        lines += [
            f"  {row.context}: {row.cells:,} cells ({row.control_cells:,} control), "
            f"{row.perturbations:,} perturbations"
            for row in self.summary().itertuples()
        ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        several = f" in {len(self.contexts)} contexts" if len(self.contexts) > 1 else ""
        shape = (
            f"{self.n_cells:,} cells × {self.n_genes:,} genes, "
            f"{len(self.perturbations):,} perturbations{several}"
        )
        rows = self.summary().to_dict("records")
        shown, more = rows[:_MOST_CONTEXTS], rows[_MOST_CONTEXTS:]
        largest = max(row["cells"] for row in rows)
        parts = [display.line(shape), _context_table(shown, largest)]
        if more:
            folded = display.details(f"{len(more)} more contexts", _context_table(more, largest))
            parts.append(folded)
        parts.append(display.facts(self._facts()))
        if account := self._info.get("account"):
            parts.append(display.details("how the source was read", display.bullets(account)))
        return display.card("Screen", Path(self.path).name, *parts)

    def _facts(self) -> dict[str, object]:
        """Return what the card says of the store, without reading the matrix or a whole table."""
        matrix = open_root(self.path)[MATRIX]
        left_out = self._info.get("n_input", self.n_cells) - self.n_cells
        return {
            "bar": display.legend({"second": "control", "main": "perturbed"}),
            "values": f"{_SCALES.get(self.scale, self.scale)}, {matrix.dtype}",
            "chunks": " × ".join(f"{n:,}" for n in matrix.chunks) + " (cells × genes)",
            "on disk": _stored(self.path),
            "left out": f"{left_out:,} of {self._info.get('n_input', self.n_cells):,} cells",
            "sources": display.first_few(self._info.get("sources", [])),
            "fingerprint": self.fingerprint[:12],
        }


def _context_table(rows: Sequence[dict[Any, Any]], largest: int) -> str:
    """Return contexts as html, each with a bar: controls, then perturbed cells."""
    columns = ["context", "", "cells", "control", "perturbations", "cells per perturbation"]
    shown = []
    for row in rows:
        perturbed = row["cells"] - row["control_cells"]
        numbers = [row[n] for n in ("cells", "control_cells", "perturbations")]
        typical = row["median_cells_per_perturbation"]
        shown.append(
            (
                row["context"],
                display.bar({"second": row["control_cells"], "main": perturbed}, whole=largest),
                *(f"{n:,}" for n in numbers),
                "–" if np.isnan(typical) else f"{typical:,.0f}",
            )
        )
    return display.table(columns, shown)


def _stored(path: str) -> str:
    """Return the size of the matrix's files as text; empty for a store that is not on a disk."""
    size = size_of(Path(path) / MATRIX)
    return display.n_bytes(size) if size else ""


def _coordinate(column: pd.Series) -> Any:
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.astype(object).to_numpy()
    return column.to_numpy()


@checked
def open_screen(path: str | os.PathLike[str] | Screen) -> Screen:
    """Open a screen store.

    Parameters
    ----------
    path : path, URL or Screen
        A store that :func:`pertscale.io.ingest` wrote, on a disk or on object storage
        (``s3://bucket/k562.zarr``); a Screen is returned as it is.

    Returns
    -------
    Screen

    Raises
    ------
    NotFoundError
        If there is nothing at `path`.
    InputError
        If what is there is not a screen store.
    StorageError
        If object storage can't be reached, or refuses.

    Examples
    --------
    >>> screen = ps.open_screen("k562.zarr")
    >>> screen.perturbations[:2], screen.shape
    (('GENE0002', 'GENE0002+GENE0072'), (1500, 120))
    """
    if isinstance(path, Screen):
        return path
    where = str(absolute(path))
    root = open_root(where)
    info = read_info(root)
    with file_errors(where, remedy=REMEDY):
        groups = read_frame(root[METADATA + "/groups"]).reset_index(drop=True)
        var = root["var"]
        genes = pd.Index(read_column(var, var.attrs["_index"]), name=GENE)
        matrix = open_matrix(where)
        _check_groups(groups, tuple(matrix.shape), len(genes), where)
        _check_info(info, matrix, where)
        _check_content(info, root["obs"], groups, genes, where)
    return Screen(path=where, genes=genes, _groups=groups, _info=info)


def check_unchanged(screen: Screen) -> None:
    """Fail if a store was replaced since it was opened: what was read is of both."""
    if read_info(open_root(screen.path))["fingerprint"] != screen.fingerprint:
        raise _replaced(screen.path)


def _replaced(path: str) -> InputError:
    return InputError(
        f"{path} was replaced by another screen while it was read; make the same call again"
    )


def _check_groups(groups: pd.DataFrame, shape: tuple[int, ...], n_genes: int, where: str) -> None:
    """Raise unless the groups cover the rows of the matrix, one after the other."""
    ends = [0, *groups["stop"]]
    if (
        list(groups["start"]) != ends[:-1]
        or (ends[-1], n_genes) != shape
        or any(stop <= start for start, stop in pairwise(ends))
    ):
        raise CorruptFileError(
            f"{where} has groups of {ends[-1]:,} cells and {n_genes:,} genes, its matrix is "
            f"{' x '.join(f'{n:,}' for n in shape)}; the store is damaged: {REMEDY}"
        )


def _check_info(info: dict[str, Any], matrix: Any, where: str) -> None:
    """Raise where the store describes its matrix wrongly."""
    scale, is_whole = info.get("scale"), matrix.dtype.kind == "u"
    if scale not in _SCALES or is_whole != (scale == COUNTS):
        raise CorruptFileError(
            f"{where} says that its values are {scale!r}, but holds {matrix.dtype}; stores hold "
            f"{COUNTS!r} as unsigned integers or {LOG1P_1E4!r} as float32; it was changed after "
            f"ingest: {REMEDY}"
        )
    if info.get("checksum", "") != (CHECKSUM if has_checksums(matrix) else ""):
        raise CorruptFileError(
            f"{where}: the description of the matrix is not the one that ingest wrote; {REMEDY}"
        )


def _check_content(
    info: dict[str, Any], obs: Any, groups: pd.DataFrame, genes: pd.Index, where: str
) -> None:
    """Raise where names, groups or sums of the cells differ from those that ingest wrote.

    Stores of earlier versions have a hash of these only if their totals are sums of counts.
    """
    totals, expressed = (read_column(obs, n) for n in ("total_counts", "n_genes_expressed"))
    scale, guides = str(info["scale"]), info.get("guides", {})
    if "content" in info:
        same = info["content"] == content_hash(genes, groups, scale, totals, expressed, guides)
    elif scale == COUNTS and info.get("totals") == "matrix":
        same = info["fingerprint"] == fingerprint(
            genes, groups, scale, totals, totals, expressed, guides
        )
    else:
        return
    if not same:
        raise CorruptFileError(
            f"{where} does not hold the genes, groups or totals that ingest wrote, some were lost "
            f"or changed; the store is damaged: {REMEDY}"
        )


_opened: OrderedDict[tuple[str, str], Screen] = OrderedDict()
_opened_lock = threading.Lock()


def opened_screen(path: str, fingerprint: str) -> Screen:
    """Open a screen once per process, for tasks: its totals and targets are shared by all."""
    with _opened_lock:
        if (path, fingerprint) not in _opened:
            screen = open_screen(path)
            if screen.fingerprint != fingerprint:
                raise _replaced(path)
            _opened[path, fingerprint] = screen
            while len(_opened) > 2:
                _opened.popitem(last=False)
        return _opened[path, fingerprint]
