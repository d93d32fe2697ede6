"""LabelTable: one row per (context, perturbation, gene), on disk or in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from pertscale import display
from pertscale.arguments import checked
from pertscale.errors import (
    ArgumentError,
    InputError,
    NotFoundError,
    UnknownNameError,
    did_you_mean,
)
from pertscale.io.checksums import FILES, Sums, check_files, read_record
from pertscale.io.guards.damage import file_errors
from pertscale.io.guards.limits import check_dense
from pertscale.io.parquet import arrow_schema, read_table
from pertscale.schema import (
    CLASS_NAMES,
    CONTEXT,
    GENE,
    LABEL_COLUMNS,
    LABELS_DIR,
    MANIFEST_FILE,
    PERTURBATION,
    Label,
)
from pertscale.storage.locations import Location, LocationLike, Remote, arrow_filesystem, locate

if TYPE_CHECKING:
    import dask.dataframe as dd
    import xarray as xr

GENES_FILE, PERTURBATIONS_FILE = "genes.parquet", "perturbations.parquet"
#: Key of the sums of the pseudobulk's files, in a label table's manifest.
PROFILES = "pseudobulk_files"
#: The same of the halves of the cells, and in how many ways these were halved.
HALVES, REPLICATES = "halves_files", "replicates"
#: The same of the tests of controls against controls.
NULLS = "null_tests_files"
#: What to do about damage.
REMEDY = (
    "make the same call of pertscale.run_benchmark or pertscale.stats.rank_sum again, which makes "
    "the tables anew"
)
#: Pattern of the files of a table's folder.
LABEL_FILES = (
    r"manifest\.json|genes\.parquet|perturbations\.parquet|data/context=\d+/part-\d+\.parquet"
)
#: Column names of other tools' tables, from ours.
STYLES: dict[str, dict[str, str]] = {
    "scanpy": {
        "perturbation": "group",
        "gene": "names",
        "z": "scores",
        "log2_fold_change": "logfoldchanges",
        "p_value": "pvals",
        "fdr": "pvals_adj",
    },
    "pdex": {
        "perturbation": "target",
        "gene": "feature",
        "mean": "target_mean",
        "mean_control": "ref_mean",
        "n_cells": "target_membership",
        "n_control": "ref_membership",
        "log2_fold_change": "log2_fold_change",
        "p_value": "p_value",
        "u_statistic": "statistic",
        "fdr": "fdr",
    },
}


@checked
@dataclass(frozen=True, kw_only=True)
class LabelTable:
    """Labels of (perturbation, gene) pairs; made by :func:`pertscale.stats.rank_sum` and others.

    Attributes
    ----------
    genes : Index
        Names of the read-out genes; a pair's ``gene`` is a position in it.
    perturbations : DataFrame
        One row per (context, perturbation), with cells, targets, and whether it was tested; a
        pair's ``perturbation`` is a row of it.
    contexts : tuple of str
    options : dict
        How the labels were made.
    path : Path or Remote, optional
        Folder of a table on disk or on object storage; None for one in memory.

    Examples
    --------
    >>> labels = ps.read_labels("k562.labels")
    >>> labels.summary()[["context", "perturbations", "genes"]]
      context  perturbations  genes
    0     sim             16    120
    >>> labels.to_pandas(gene="GENE0002", columns=["label"]).shape
    (16, 4)
    """

    genes: pd.Index
    perturbations: pd.DataFrame
    contexts: tuple[str, ...]
    options: dict[str, Any]
    key: str
    path: Location | None = None
    _pairs: pd.DataFrame | None = field(default=None, repr=False)
    #: Files of a table on disk; None of one that an earlier version has written.
    _sums: Sums | None = field(default=None, repr=False, compare=False)

    # --- making one -------------------------------------------------------------------

    @staticmethod
    def from_pairs(
        pairs: pd.DataFrame, *, context: str, options: dict[str, Any] | None = None
    ) -> LabelTable:
        """Build a table in memory from columns ``perturbation, gene, label`` (names, int8).

        Pairs that are not listed count as not tested. Raises InputError on a pair that is listed
        twice or a label that is not -1, 0 or 1.
        """
        from pertscale.hashing import digest

        missing = {PERTURBATION, GENE, "label"} - set(pairs.columns)
        if missing:
            raise InputError(
                f"the table has columns {', '.join(map(str, pairs.columns))}; "
                f"{', '.join(sorted(missing))} missing"
            )
        bad = ~pairs["label"].isin([-1, 0, 1])
        if bad.any():
            raise InputError(
                f"label {pairs.loc[bad, 'label'].iloc[0]!r} in row {int(np.flatnonzero(bad)[0])}; "
                "labels are -1 down, 0 not differentially expressed, 1 up"
            )
        twice = pairs.duplicated([PERTURBATION, GENE])
        if twice.any():
            row = pairs[twice].iloc[0]
            raise InputError(f"pair ({row[PERTURBATION]}, {row[GENE]}) is listed twice")
        genes = pd.Index(sorted(set(pairs[GENE])), name=GENE)
        names = pd.Index(sorted(set(pairs[PERTURBATION])))
        coded = pd.DataFrame(
            {
                PERTURBATION: names.get_indexer(pairs[PERTURBATION]).astype(np.int32),
                GENE: genes.get_indexer(pairs[GENE]).astype(np.int32),
                "label": pairs["label"].to_numpy(np.int8),
            }
        ).sort_values([PERTURBATION, GENE], ignore_index=True)
        perturbations = pd.DataFrame(
            {
                "context": context,
                "perturbation": names,
                "targets": names,
                "tested": True,
                "n_up": _count(coded, len(names), Label.UP),
                "n_down": _count(coded, len(names), Label.DOWN),
            }
        )
        key = digest("pairs", list(names), list(genes), *(coded[c].to_numpy() for c in coded))
        return LabelTable(
            genes=genes,
            perturbations=perturbations,
            contexts=(context,),
            options=dict(options or {}),
            key=key,
            _pairs=coded,
        )

    # --- reading ------------------------------------------------------------------------

    @property
    def frame(self) -> dd.DataFrame:
        """The table as a lazy dask DataFrame with codes for names; one partition per part."""
        return self.frame_of(self.contexts)

    def frame_of(self, contexts: Iterable[str]) -> dd.DataFrame:
        """Return :attr:`frame` of some contexts; one in memory has only one."""
        import dask.dataframe as dd

        if self._pairs is not None:
            return dd.from_pandas(self._pairs, npartitions=1)
        self._check_parts()
        files = [str(file) for context in contexts for file in self._files(context)]
        meta = arrow_schema(LABEL_COLUMNS).empty_table().to_pandas()
        if not files:  # no perturbation was tested
            return dd.from_pandas(meta, npartitions=1)
        return dd.from_map(_read_frame, files, meta=meta, enforce_metadata=False)

    def to_pandas(
        self,
        *,
        context: str | None = None,
        perturbation: str | Iterable[str] | None = None,
        gene: str | Iterable[str] | None = None,
        columns: Sequence[str] | None = None,
        style: str = "pertscale",
    ) -> pd.DataFrame:
        """Read pairs into memory, with names.

        Parameters
        ----------
        context : str, optional
        perturbation, gene : str or iterable of str, optional
            Only these; only their row groups are read.
        columns : sequence of str, optional
            Of :data:`pertscale.schema.LABEL_COLUMNS`; names are always there.
        style : {'pertscale', 'scanpy', 'pdex'}
            Columns of ``scanpy.get.rank_genes_groups_df`` or of pdex 0.3, whose means are
            ``expm1`` of ours.

        Raises
        ------
        UnknownNameError
            For a name that is not in the table.
        """
        if style != "pertscale" and style not in STYLES:
            raise ArgumentError(f"style={style!r} is not one of pertscale, {', '.join(STYLES)}")
        rows = self._rows(context, perturbation)
        genes = None if gene is None else _positions(self.genes, gene, "gene")
        wanted = list(columns) if columns is not None else self.columns
        frame = self._read(rows, genes, wanted)
        chosen = self.perturbations.iloc[frame[PERTURBATION].to_numpy()]
        frame.insert(0, CONTEXT, pd.Categorical(chosen[CONTEXT], categories=self.contexts))
        frame[PERTURBATION] = pd.Categorical(chosen[PERTURBATION])
        frame[GENE] = pd.Categorical.from_codes(frame[GENE], categories=self.genes)
        return frame if style == "pertscale" else _restyle(frame, style)

    @property
    def columns(self) -> list[str]:
        """Columns of this table besides the names."""
        if self._pairs is not None:
            return [c for c in self._pairs.columns if c not in (PERTURBATION, GENE)]
        return [c.name for c in LABEL_COLUMNS if c.name not in (PERTURBATION, GENE)]

    def _rows(self, context: str | None, perturbation: Any) -> np.ndarray | None:
        if context is not None and context not in self.contexts:
            raise UnknownNameError(f"no context {context!r}; there are {', '.join(self.contexts)}")
        if perturbation is not None:
            _positions(
                pd.Index(self.perturbations[PERTURBATION].unique()), perturbation, "perturbation"
            )
        elif context is None:
            return None
        table = self.perturbations
        keep = np.ones(len(table), bool)
        if context is not None:
            keep &= (table[CONTEXT] == context).to_numpy()
        if perturbation is not None:
            names = [perturbation] if isinstance(perturbation, str) else list(perturbation)
            keep &= table[PERTURBATION].isin(names).to_numpy()
        return np.flatnonzero(keep)

    def _read(
        self, rows: np.ndarray | None, genes: np.ndarray | None, columns: list[str]
    ) -> pd.DataFrame:
        needed = [PERTURBATION, GENE, *columns]
        if self._pairs is not None:
            pairs = self._pairs[needed]
            keep = np.ones(len(pairs), bool)
            if rows is not None:
                keep &= pairs[PERTURBATION].isin(rows)
            if genes is not None:
                keep &= pairs[GENE].isin(genes)
            return pairs[keep].reset_index(drop=True)
        condition = None
        for name, codes in ((PERTURBATION, rows), (GENE, genes)):
            if codes is not None:
                term = pc.field(name).isin(pa.array(codes, pa.int32()))
                condition = term if condition is None else condition & term
        self._check_parts()
        with file_errors(str(self._folder()), remedy=REMEDY):
            return self._dataset().to_table(columns=needed, filter=condition).to_pandas()

    def target_pairs(self, columns: Sequence[str]) -> pd.DataFrame:
        """Read the pairs of tested perturbations and genes that they target, codes for names.

        All of the table is read; memory: a row group of these columns at a time, and what is found.
        """
        lacking = [name for name in ("is_target", *columns) if name not in self.columns]
        if lacking:
            raise InputError(
                f"the label table has no {', '.join(lacking)}; pertscale.stats.rank_sum(store) "
                "makes one that has"
            )
        wanted = [PERTURBATION, GENE, *columns]
        if self._pairs is not None:
            return self._pairs.loc[self._pairs["is_target"], wanted].reset_index(drop=True)
        if not self.perturbations["tested"].any():  # then there are no files
            return arrow_schema(LABEL_COLUMNS).empty_table().select(wanted).to_pandas()
        self._check_parts()
        with file_errors(str(self._folder()), remedy=REMEDY):
            found = self._dataset().to_table(
                columns=wanted,
                filter=pc.field("is_target"),
                batch_readahead=1,
                fragment_readahead=1,
            )
        return found.to_pandas()

    def parts(self, context: str, columns: Sequence[str]) -> Iterator[dict[str, np.ndarray]]:
        """Yield columns of a context part by part: whole perturbations, codes for names.

        Memory: one part, about half a million pairs.
        """
        wanted = [PERTURBATION, GENE, *columns]
        if self._pairs is not None:
            yield {name: self._pairs[name].to_numpy() for name in wanted}
            return
        for file in self._files(context):
            table = _read_part(file, wanted)
            yield {name: table[name].to_numpy() for name in wanted}

    def _folder(self) -> Location:
        if self.path is None:
            raise InputError("the label table is in memory; it has no files")
        return self.path

    def _check_parts(self) -> None:
        """Raise, before files are read, if one was lost or truncated since the table was opened."""
        if isinstance(self.path, Path) and self._sums is not None:
            check_files(self.path, self._sums, remedy=REMEDY)

    def _files(self, context: str) -> list[Any]:
        path, folder = self._folder(), f"data/context={self.contexts.index(context)}"
        if self._sums is None:
            return sorted((path / folder).glob("part-*.parquet"))
        return [path / name for name in sorted(self._sums) if name.startswith(f"{folder}/")]

    def _dataset(self) -> ds.Dataset:
        files = [_arrow_name(f) for c in self.contexts for f in self._files(c)]
        checking = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
        parquet = ds.ParquetFileFormat(default_fragment_scan_options=checking)
        filesystem = arrow_filesystem(self._folder())
        return ds.dataset(files, format=parquet, filesystem=filesystem)

    def matrix(self, context: str | None = None) -> xr.DataArray:
        """Return labels of one context as a lazy int8 matrix (perturbation, gene).

        Pairs that were not tested are ``Label.UNTESTED``; perturbations that were not tested are
        left out. One Dask chunk per part of the table.
        """
        import dask.array as da
        import xarray as xr

        context = self.only_context(context)
        table = self.perturbations
        mine = np.flatnonzero((table[CONTEXT] == context) & table["tested"])
        shape = (len(mine), len(self.genes))
        if self._pairs is not None:
            check_dense(shape, np.int8, f"the labels of {context}")
            dense = np.full(shape, Label.UNTESTED, np.int8)
            pairs = self._pairs[self._pairs[PERTURBATION].isin(mine)]
            dense[np.searchsorted(mine, pairs[PERTURBATION]), pairs[GENE]] = pairs["label"]
            data = da.from_array(dense, chunks=shape)
        else:
            data = self.mapped_parts(context, _label_of, ["label"], np.int8)
        coords = {
            PERTURBATION: table[PERTURBATION].to_numpy(object)[mine],
            GENE: self.genes.to_numpy(object),
        }
        return xr.DataArray(
            data,
            dims=(PERTURBATION, GENE),
            coords=coords,
            name="label",
            attrs={"context": context, "_FillValue": int(Label.UNTESTED)},
        )

    def mapped_parts(
        self,
        context: str,
        function: Callable[[pd.DataFrame], np.ndarray],
        columns: Sequence[str],
        dtype: Any,
    ) -> Any:
        """Return a value of each pair as a lazy matrix (perturbation, gene) of a table on disk.

        Parameters
        ----------
        context : str
        function : callable
            Takes columns of a part of the table, and returns an array of a value for each row.
        columns : sequence of str
        dtype : dtype
        """
        import dask.array as da

        files, n_genes = self._files(context), len(self.genes)
        rows = tuple(_n_rows(f) // n_genes for f in files)
        if not files:
            return da.empty((0, n_genes), dtype=dtype)
        paths = da.from_array(np.array([str(f) for f in files], dtype=object), chunks=1)
        return da.map_blocks(
            _map_part,
            paths,
            function=function,
            columns=list(columns),
            n_genes=n_genes,
            dtype=dtype,
            chunks=(rows, (n_genes,)),
            new_axis=1,
            meta=np.empty((0, 0), dtype),
        )

    def only_context(self, context: str | None) -> str:
        """Return `context` if the table has it; without a name, the only one there is."""
        if context is None:
            if len(self.contexts) > 1:
                raise ArgumentError(
                    f"the table has {len(self.contexts)} contexts ({', '.join(self.contexts)}); "
                    "name one with context="
                )
            return self.contexts[0]
        if context not in self.contexts:
            raise UnknownNameError(f"no context {context!r}; there are {', '.join(self.contexts)}")
        return context

    # --- summaries --------------------------------------------------------------------------

    def summary(self) -> pd.DataFrame:
        """Return the first paper's Table 1 (method B6): pairs and class shares per context."""
        rows = []
        for context in self.contexts:
            table = self.perturbations
            mine = table[(table[CONTEXT] == context) & table["tested"]]
            pairs = self._n_pairs(mine)
            up, down = int(mine["n_up"].sum()), int(mine["n_down"].sum())
            rows.append(
                {
                    "context": context,
                    "perturbations": len(mine),
                    "genes": len(self.genes),
                    "pairs": pairs,
                    "non_de_percent": 100.0 * (pairs - up - down) / pairs if pairs else np.nan,
                    "up_percent": 100.0 * up / pairs if pairs else np.nan,
                    "down_percent": 100.0 * down / pairs if pairs else np.nan,
                    "perturbations_without_de": int(((mine["n_up"] + mine["n_down"]) == 0).sum()),
                }
            )
        return pd.DataFrame(rows)

    def _n_pairs(self, mine: pd.DataFrame) -> int:
        if self._pairs is not None:
            return int(self._pairs[PERTURBATION].isin(mine.index).sum())
        return len(mine) * len(self.genes)

    def __repr__(self) -> str:
        lines = [f"<LabelTable {self._place()}>"]
        lines += [
            f"  {r.context}: {r.perturbations:,} perturbations x {r.genes:,} genes, {r.pairs:,} "
            f"pairs; {r.up_percent:.2f} % up, {r.down_percent:.2f} % down"
            for r in self.summary().itertuples()
        ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        summary = self.summary()
        rows = [_summary_row(row) for row in summary.to_dict("records")]
        columns = ["context", "", "down %", "not DE %", "up %", "perturbations", "genes", "pairs"]
        legend = display.legend(
            {"down": "down", "non_de": "not differentially expressed", "up": "up"}
        )
        return display.card(
            "LabelTable",
            self._place(),
            display.table(columns, rows),
            display.facts({"bar": legend, **self._facts(summary)}),
            self._strongest(),
        )

    def _place(self) -> str:
        return "in memory" if self.path is None else display.shown_path(self.path)

    def _facts(self, summary: pd.DataFrame) -> dict[str, object]:
        """Return how the labels were made, and what was not tested."""
        made = {str(key): str(value) for key, value in self.options.items()}
        without = int(summary["perturbations_without_de"].sum())
        untested = self.perturbations[~self.perturbations["tested"].astype(bool)]
        facts: dict[str, object] = {
            "made by": ", ".join(f"{key} = {value}" for key, value in made.items()),
            "no change": f"{without:,} tested perturbations change no gene",
            "not tested": "",
        }
        if len(untested):
            reasons = untested.get("reason", pd.Series("", index=untested.index)).value_counts()
            told = [f"{n:,} with {reason}" for reason, n in reasons.head(3).items() if reason]
            rest = ", …" if len(reasons) > 3 else ""
            facts["not tested"] = f"{len(untested):,} perturbations: {', '.join(told)}{rest}"
        return facts

    def _strongest(self, n: int = 5) -> str:
        """Return the perturbations with the most changed genes, as HTML."""
        changed = (self.perturbations["n_up"] + self.perturbations["n_down"]).nlargest(n)
        most = self.perturbations.loc[changed[changed > 0].index]
        if most.empty:
            return ""
        largest = changed.max()
        rows = [
            (
                row[PERTURBATION],
                row[CONTEXT],
                display.bar({"down": row["n_down"], "up": row["n_up"]}, whole=largest),
                f"{row['n_down']:,}",
                f"{row['n_up']:,}",
            )
            for row in most.to_dict("records")
        ]
        columns = ["perturbation", "context", "", "genes down", "genes up"]
        return display.details(
            "perturbations that change most genes", display.table(columns, rows, text=2)
        )


def _summary_row(row: dict[Any, Any]) -> tuple[object, ...]:
    """Return a row of the summary as a card shows it."""
    shares = {name: row[f"{name}_percent"] for name in CLASS_NAMES}
    return (
        row["context"],
        display.bar(shares),
        *("–" if np.isnan(share) else f"{share:.2f}" for share in shares.values()),
        *(f"{row[name]:,}" for name in ("perturbations", "genes", "pairs")),
    )


@checked
def read_labels(path: LocationLike) -> LabelTable:
    """Open a label table on disk or on object storage.

    Parameters
    ----------
    path : path or URL
        The table's folder, or a folder that holds it as ``labels``.

    Raises
    ------
    NotFoundError
        If there is no finished table.
    CorruptFileError
        If files of it are missing or damaged.

    Examples
    --------
    >>> ps.read_labels("k562.labels").contexts
    ('sim',)
    """
    folder = locate(path)
    if (folder / LABELS_DIR / MANIFEST_FILE).exists():
        folder = folder / LABELS_DIR
    if not (folder / MANIFEST_FILE).exists():
        raise NotFoundError(
            f"no finished label table in {folder}; make one with pertscale.stats.rank_sum(store)"
        )
    manifest = read_manifest(folder)
    sums = manifest.get(FILES)
    if sums is not None:
        check_files(
            folder, sums, remedy=REMEDY, content={GENES_FILE, PERTURBATIONS_FILE}.__contains__
        )
    return LabelTable(
        genes=pd.Index(read_table(folder / GENES_FILE, remedy=REMEDY)[GENE], name=GENE),
        perturbations=read_table(folder / PERTURBATIONS_FILE, remedy=REMEDY),
        contexts=tuple(manifest["contexts"]),
        options=manifest["options"],
        key=manifest["key"],
        path=folder,
        _sums=sums,
    )


def read_manifest(folder: Location) -> dict[str, Any]:
    """Return the manifest of a table's folder.

    Raises
    ------
    NotFoundError, CorruptFileError
    """
    return read_record(
        folder / MANIFEST_FILE,
        "the manifest of a label table",
        remedy=REMEDY,
        keys=("contexts", "options", "key"),
    )


def _map_part(
    paths: np.ndarray,
    *,
    function: Callable[[pd.DataFrame], np.ndarray],
    columns: list[str],
    n_genes: int,
) -> np.ndarray:
    found = [function(_read_part(locate(p), columns).to_pandas()) for p in paths]
    return np.concatenate(found).reshape(-1, n_genes)


def _label_of(part: pd.DataFrame) -> np.ndarray:
    return part["label"].to_numpy()


def _read_frame(file: str, columns: list[str] | None = None) -> pd.DataFrame:
    """Read a part; Dask passes the `columns` that are needed."""
    return _read_part(locate(file), columns).to_pandas()


def _read_part(file: Location, columns: list[str] | None) -> pa.Table:
    """Read columns of one part; of objects only the bytes of these columns."""
    with file_errors(str(file), remedy=REMEDY):
        return pq.read_table(
            _arrow_name(file),
            columns=columns,
            partitioning=None,
            filesystem=arrow_filesystem(file),
            page_checksum_verification=True,
        )


def _n_rows(file: Location) -> int:
    with file_errors(str(file), remedy=REMEDY):
        return int(pq.read_metadata(_arrow_name(file), filesystem=arrow_filesystem(file)).num_rows)


def _arrow_name(file: Location) -> str:
    """Name of a file in pyarrow's filesystem."""
    return file.key if isinstance(file, Remote) else str(file)


def _positions(index: pd.Index, names: str | Iterable[str], what: str) -> np.ndarray:
    wanted = [names] if isinstance(names, str) else list(names)
    at = index.get_indexer(wanted)
    if (at < 0).any():
        unknown = wanted[int(np.flatnonzero(at < 0)[0])]
        near = did_you_mean(unknown, map(str, index), most=3)
        raise UnknownNameError(f"no {what} {unknown!r} in the label table{near}")
    return at


def _count(coded: pd.DataFrame, n: int, label: Label) -> np.ndarray:
    return np.bincount(coded.loc[coded["label"] == label, PERTURBATION], minlength=n)


def _restyle(frame: pd.DataFrame, style: str) -> pd.DataFrame:
    """Rename to another tool's columns, in its order; pdex's means are not logarithms."""
    names = STYLES[style]
    frame = frame[[c for c in (CONTEXT, *names) if c in frame.columns]].rename(columns=names)
    if style == "pdex":
        for column in ("target_mean", "ref_mean"):
            if column in frame:
                frame[column] = np.expm1(frame[column])
    return frame
