"""Read embeddings, gene sets and gene texts from the files that people have.

Every reader returns names and a float64 matrix, one row per name, and says in words how it read
the file. Whether the content makes sense as an embedding is checked by the caller.
"""

from __future__ import annotations

import csv
import io
import math
import os
import re
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal, TextIO

import numpy as np
import pandas as pd
from scipy import sparse

from pertscale.errors import AmbiguousInputError, ArgumentError, CorruptFileError, InputError
from pertscale.io.guards import safe_pickle
from pertscale.io.guards.damage import file_errors
from pertscale.io.guards.first_look import look_first
from pertscale.io.guards.hdf5 import check_own, open_hdf5
from pertscale.io.guards.json_files import parse_json
from pertscale.io.guards.limits import check_dense, check_npz, checked_node
from pertscale.io.guards.text_encoding import encoding_of
from pertscale.io.guards.text_files import open_text
from pertscale.io.guards.text_tables import check_bare_header
from pertscale.io.guards.vectors import as_numbers_array, check_characters, shown, stacked_rows
from pertscale.io.long_tables import all_names
from pertscale.io.parquet import read_parquet
from pertscale.storage.locations import input_path

#: Which side of a table carries the names: ``"rows"``, one gene per row, or ``"columns"``.
Orientation = Literal["rows", "columns"]

NPZ_NAMES: Final = ("names", "genes", "gene_names", "symbols", "perturbations", "index")
NPZ_MATRIX: Final = ("matrix", "embeddings", "embedding", "vectors", "X")


@dataclass(frozen=True, eq=False)
class NamedVectors:
    """Names, their vectors as a float64 matrix (n, d), and how the file was read."""

    names: tuple[str, ...]
    matrix: np.ndarray[Any, np.dtype[np.float64]]
    how: str


# --- one function for all formats ---------------------------------------------------------------


def read_vectors(
    path: str | os.PathLike[str],
    *,
    key: str | None = None,
    orientation: Orientation | None = None,
    allow_pickle: bool = False,
) -> NamedVectors:
    """Read names and vectors; the suffix says the format.

    Parameters
    ----------
    path
        ``.csv``, ``.tsv``, ``.txt`` (also with ``.gz``), ``.parquet``, ``.npz``, ``.h5ad``,
        ``.json`` (name → list of numbers), ``.pkl`` or ``.pickle``.
    key
        Where the file holds several matrices: the array of an ``.npz``, or the entry of an
        ``.h5ad`` such as ``"varm/PCs"``.
    orientation
        Which side of a table or matrix carries the names; needed only where both could.
    allow_pickle
        Whether a pickle may be read, by :mod:`pertscale.io.guards.safe_pickle`.

    Raises
    ------
    NotFoundError, CorruptFileError
        The file is missing or damaged.
    AmbiguousInputError
        Both sides of a table could be the names, or the file holds several matrices.
    InputError
        The content is not an embedding, or the suffix is not known.
    """
    path = input_path(path, "an embedding")
    if orientation not in (None, "rows", "columns"):
        raise ArgumentError(f"orientation is 'rows' or 'columns', got {orientation!r}")
    suffix = suffix_of(path)
    if key is not None and suffix not in (".npz", ".h5ad"):
        raise ArgumentError(f"key={key!r} is for .npz and .h5ad files ({path})")
    if orientation is not None and suffix not in (".csv", ".tsv", ".txt", ".parquet", ".npz"):
        raise ArgumentError(f"orientation={orientation!r} is for tables and .npz files ({path})")
    match suffix:
        case ".csv" | ".tsv" | ".txt":
            return _read_text_table(path, orientation)
        case ".parquet":
            return _read_parquet(path, orientation)
        case ".npz":
            return _read_npz(path, key, orientation)
        case ".h5ad":
            return _read_h5ad(path, key)
        case ".json":
            return vectors_of_dict(read_json_object(path), path)
        case ".pkl" | ".pickle":
            return _read_pickle(path, allow_pickle)
    raise InputError(
        f"suffix {suffix!r} is not one of .csv, .tsv, .txt (also .gz), .parquet, .npz, .h5ad, "
        f".json, .pkl, .gmt ({path})"
    )


def suffix_of(path: Path) -> str:
    """Return the suffix in lower case, without a final ``.gz``."""
    plain = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    return plain.suffix.lower()


# --- text ----------------------------------------------------------------------------------------


@contextmanager
def _decoded(path: Path) -> Iterator[TextIO]:
    """Open a text file, gzipped or not; damage anywhere in it is a :class:`CorruptFileError`."""
    with file_errors(str(path)):
        with open_text(path) as file:
            encoding = encoding_of(file, path, lines=suffix_of(path) != ".json")
        with (
            open_text(path) as file,
            io.TextIOWrapper(file, encoding=encoding, newline="") as text,
        ):
            yield text


def read_json_object(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a JSON file that holds one object; a key that occurs twice is an error."""
    path = input_path(path, "a file of genes")
    with _decoded(path) as file:
        content = parse_json(file, path, "a file of genes")
    if not isinstance(content, dict) or not content:
        raise InputError(f"expected a JSON object with the genes as keys ({path})")
    return content


def read_gmt(path: str | os.PathLike[str]) -> dict[str, tuple[str, ...]]:
    """Read gene sets: one per line, tab-separated term, description, genes.

    Returns the genes of each term, each once, in the order of the file. Enrichr's weights
    (``TP53,1.0``) are cut off.

    Raises
    ------
    NotFoundError, CorruptFileError
        The file is missing or damaged.
    InputError
        A line has no genes, or a term occurs twice.
    """
    terms: dict[str, tuple[str, ...]] = {}
    path = input_path(path, "a file of gene sets")
    with _decoded(path) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            term, _, *cells = [*line.rstrip("\r\n").split("\t"), ""]
            genes = tuple(dict.fromkeys(g for c in cells if (g := c.split(",")[0].strip())))
            if not genes:
                raise InputError(
                    f"line {number} has no genes; a line of a .gmt file is a term, a description "
                    f"and genes, separated by tabs ({path})"
                )
            if term in terms:
                raise InputError(f"line {number} repeats the term {term!r} ({path})")
            terms[term] = genes
    if not terms:
        raise InputError(f"no gene sets found ({path})")
    return terms


# --- tables --------------------------------------------------------------------------------------


def _read_text_table(path: Path, orientation: Orientation | None) -> NamedVectors:
    with _decoded(path) as file:
        lines = [file.readline(), file.readline()]
    separator = _separator(lines[0], path)
    with file_errors(str(path)):
        first, second = (next(csv.reader([line], delimiter=separator), []) for line in lines)
    if len(first) < 2 and len(second) < 2:
        raise InputError(f"found no columns separated by commas or tabs ({path})")
    has_header = not _is_vector_line(first)
    n_columns = len(second) if second else len(first)
    check_bare_header(first, n_columns, path)
    has_labels = _has_row_labels(first if has_header else [], second or first, n_columns)
    with _decoded(path) as file:
        labels, values = _parse_body(
            file,
            path,
            separator=separator,
            n_columns=n_columns,
            n_skip=int(has_header),
            n_labels=int(has_labels),
        )
    header: list[str] | None = None
    if has_header:
        # R's write.table leaves the column of row names unnamed
        header = first[1:] if has_labels and len(first) == n_columns else first
    return _oriented(labels or None, header, values, orientation, path)


def _separator(line: str, path: Path) -> str:
    preferred, other = (",", "\t") if suffix_of(path) == ".csv" else ("\t", ",")
    return other if preferred not in line and other in line else preferred


def _is_vector_line(cells: Sequence[str]) -> bool:
    """Whether the first line is a gene and its vector already, as in a file without a header."""
    return (
        len(cells) > 1
        and not _is_number(cells[0])
        and cells[0] != ""
        and all(map(_is_number, cells[1:]))
        and not _are_dimension_names(cells[1:])
    )


def _has_row_labels(header: Sequence[str], row: Sequence[str], n_columns: int) -> bool:
    if not header:
        return True
    return (
        header[0] == ""
        or len(header) == n_columns - 1
        or not _is_number(row[0] if row else "")
        or (_are_dimension_names(header[1:]) and not _are_dimension_names(header))
    )


def _parse_body(
    file: TextIO, path: Path, *, separator: str, n_columns: int, n_skip: int, n_labels: int
) -> tuple[list[str], np.ndarray[Any, np.dtype[np.float64]]]:
    """Return the row labels, if any, and the numbers, exactly as they are spelled.

    Not pandas: its default parser is a digit off now and then, and guesses missing values, where
    a gene may be called ``NA`` or ``NAN``.
    """
    labels: list[str] = []
    rows: list[np.ndarray[Any, np.dtype[np.float64]]] = []
    reader = csv.reader(file, delimiter=separator)
    for row in islice(reader, n_skip, None):
        if not row:
            continue
        if len(row) != n_columns:
            raise CorruptFileError(
                f"line {reader.line_num} has {len(row)} cells, those above {n_columns} ({path})"
            )
        try:
            numbers = np.array(row[n_labels:], dtype=np.float64)
        except ValueError:
            numbers = np.array([np.nan])
        if not np.isfinite(numbers).all():
            column = next(i for i in range(n_labels, n_columns) if not _is_number(row[i]))
            raise InputError(
                f"line {reader.line_num}, column {column + 1} is {row[column]!r}; an embedding has "
                f"finite numbers besides the names ({path})"
            )
        labels.extend(row[:n_labels])
        rows.append(numbers)
    if not rows:
        raise InputError(f"the table has no rows of numbers ({path})")
    return labels, np.stack(rows)


def _read_parquet(path: Path, orientation: Orientation | None) -> NamedVectors:
    table = read_parquet(path)
    if any(pd.api.types.is_complex_dtype(dtype) for dtype in table.dtypes):
        raise InputError(f"the table has complex numbers; a vector has real ones ({path})")
    numeric = [pd.api.types.is_numeric_dtype(dtype) for dtype in table.dtypes]
    texts = [str(c) for c, is_number in zip(table.columns, numeric, strict=True) if not is_number]
    if len(texts) > 1:
        raise InputError(
            f"columns {texts[0]!r} and {texts[1]!r} both are no numbers; keep one column of names "
            f"({path})"
        )
    if texts:
        labels: list[str] | None = all_names(table.iloc[:, numeric.index(False)], path)
    elif isinstance(table.index, pd.RangeIndex):
        labels = None
    else:
        labels = [str(name) for name in table.index]
    body = table.loc[:, numeric]
    return _oriented(
        labels,
        [str(c) for c in body.columns],
        body.to_numpy(np.float64, na_value=np.nan),
        orientation,
        path,
    )


def _oriented(
    labels: list[str] | None,
    header: list[str] | None,
    values: np.ndarray[Any, Any],
    orientation: Orientation | None,
    path: Path,
) -> NamedVectors:
    """Decide whether the names are the labels of the rows or those of the columns."""
    if header is not None and len(header) != values.shape[1]:
        raise CorruptFileError(
            f"the header has {len(header)} names, the rows have {values.shape[1]} numbers ({path})"
        )
    sides = {"rows": labels, "columns": header}
    if orientation is None:
        # a side that is numbered (0, 1, 2 … or PC1, PC2 …) carries dimensions
        named = [s for s, names in sides.items() if names and not _are_dimension_names(names)]
        if not named:  # genes of a simulated screen are numbered as well
            named = [s for s, names in sides.items() if names and not _says_dimension(names[0])]
        if len(named) != 1:
            raise AmbiguousInputError(
                f"{'both' if named else 'neither'} the rows (for example {_example(labels)}) "
                f"{'and' if named else 'nor'} the columns (for example {_example(header)}) look "
                f"like names of genes; pass orientation='rows' if each row is a gene, "
                f"orientation='columns' if each column is ({path})"
            )
        orientation = "rows" if named == ["rows"] else "columns"
    names = sides[orientation]
    if names is None:
        raise InputError(
            f"orientation={orientation!r}, but the {orientation} have no names ({path})"
        )
    matrix = values if orientation == "rows" else values.T
    return NamedVectors(
        tuple(names), np.ascontiguousarray(matrix, np.float64), f"names in the {orientation}"
    )


def _example(names: Sequence[str] | None) -> str:
    return "no names" if not names else repr(names[0])


def _are_dimension_names(names: Sequence[str]) -> bool:
    """Whether names count up: 0, 1, 2 … or 1, 2 …, possibly behind one prefix."""
    split = [re.fullmatch(r"(.*?)(\d+)", name) for name in names]
    if not names or any(match is None for match in split):
        return False
    prefixes = {match[1] for match in split if match}
    numbers = [int(match[2]) for match in split if match]
    return (
        len(prefixes) == 1
        and numbers[0] in (0, 1)
        and numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    )


def _says_dimension(name: str) -> bool:
    """Whether a numbered name is a usual one for a dimension: 3, PC3, dim_3."""
    words = "dim|dimension|pc|component|factor|latent|emb|embedding|feature|svd|[dvxz]"
    return re.fullmatch(rf"(?:{words})?[_ -]?\d+", name, re.IGNORECASE) is not None


def _is_number(text: str) -> bool:
    try:
        value = float(text)
    except ValueError:
        return False
    # Python reads 'nan' and 'infinity' as numbers; in a table those are names, or errors
    return math.isfinite(value)


# --- arrays --------------------------------------------------------------------------------------


def _read_npz(path: Path, key: str | None, orientation: Orientation | None) -> NamedVectors:
    if not zipfile.is_zipfile(path):
        raise CorruptFileError(f"not a complete .npz file, which is a zip archive ({path})")
    with file_errors(str(path)):
        check_npz(path)
        with np.load(path, allow_pickle=False) as file:
            names_key = _choose(file.files, NPZ_NAMES, "names", path)
            matrix_key = key if key in file.files else None
            if key is not None and matrix_key is None:
                raise InputError(f"there is no array {key!r}, only {sorted(file.files)} ({path})")
            matrix_key = matrix_key or _choose(file.files, NPZ_MATRIX, "the matrix", path)
            names, matrix = _entry(file, names_key, path), _entry(file, matrix_key, path)
    if names.ndim != 1 or names.dtype.kind != "U" or matrix.ndim != 2:
        raise InputError(
            f"{names_key!r} has to be a list of texts and {matrix_key!r} a matrix; found "
            f"{names.dtype} {names.shape} and {matrix.dtype} {matrix.shape} ({path})"
        )
    check_characters(names, repr(names_key), path)
    if orientation == "columns":
        matrix = matrix.T
    return NamedVectors(
        tuple(map(str, names)), _as_matrix(matrix, path), f"arrays {names_key!r}, {matrix_key!r}"
    )


def _entry(file: Any, name: str, path: Path) -> np.ndarray[Any, Any]:
    try:
        return np.asarray(file[name])
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise InputError(
            f"{name!r} is an array of Python objects, which is not read; save names with "
            f"np.asarray(names, dtype=str) ({path})"
        ) from error


def _choose(present: list[str], usual: tuple[str, ...], what: str, path: Path) -> str:
    found = [name for name in usual if name in present]
    if not found:
        raise InputError(
            f"no array for {what}: expected one of {list(usual)}, found {sorted(present)} ({path})"
        )
    if len(found) > 1:
        raise AmbiguousInputError(f"{found} could all be {what}; keep one of them ({path})")
    return found[0]


def _read_h5ad(path: Path, key: str | None) -> NamedVectors:
    from anndata.io import read_elem  # other formats do without its imports

    look_first(path)
    with open_hdf5(str(path)) as file, file_errors(str(path)):
        check_own(file, ("obsm", "varm"), str(path))
        entries = [f"{group}/{name}" for group in ("obsm", "varm") for name in file.get(group, {})]
        entry = _choose_entry(entries, key, path)
        where = f"{path}, {entry!r}"
        table = "obs" if entry.startswith("obsm") else "var"
        check_own(file, (table,), str(path))
        frame = file[table]
        if "_index" not in frame.attrs or frame.attrs["_index"] not in frame:
            raise InputError(
                "no index of names found; if anndata < 0.7 wrote the file, let a newer one read "
                f"and write it ({path})"
            )
        index = checked_node(frame[frame.attrs["_index"]], f"{path}, names")
        labels: Any = read_elem(index)
        values: Any = read_elem(checked_node(file[entry], where))
        if sparse.issparse(values):
            check_dense(values.shape, np.float64, where)
            values = values.toarray()
        names = all_names(pd.Series(np.asarray(labels), name="names"), path)
        matrix = _as_matrix(np.asarray(values), path)
    return NamedVectors(tuple(names), matrix, f"entry {entry!r}")


def _choose_entry(entries: list[str], key: str | None, path: Path) -> str:
    found = [e for e in entries if key is None or key in (e, e.partition("/")[2])]
    if len(found) == 1:
        return found[0]
    if not found:
        wanted = "an embedding in obsm or varm" if key is None else f"{key!r} in obsm or varm"
        raise InputError(f"there is no {wanted}; the file has {entries or 'none'} ({path})")
    raise AmbiguousInputError(f"several embeddings: choose with key=, one of {found} ({path})")


# --- dictionaries --------------------------------------------------------------------------------


def _read_pickle(path: Path, allow_pickle: bool) -> NamedVectors:
    if not allow_pickle:
        raise InputError(
            f"a pickle is a program; pass allow_pickle=True to read plain numbers from it with a "
            f"reader that runs nothing, or convert it to .npz ({path})"
        )
    content = safe_pickle.load(path)
    if not isinstance(content, dict) or not content:
        raise InputError(
            f"expected a dictionary of gene and vector, found {type(content).__name__} ({path})"
        )
    return vectors_of_dict(content, path)


def vectors_of_dict(content: dict[Any, Any], path: str | os.PathLike[str]) -> NamedVectors:
    """Return the vectors of a dictionary name → numbers, which have to be equally long."""
    strange = [name for name in content if not isinstance(name, str)]
    if strange:
        raise InputError(f"the key {shown(strange[0])} is not a name ({path})")
    matrix = stacked_rows(content, path, np.float64)
    return NamedVectors(tuple(content), matrix, "dictionary of vectors")


def _as_matrix(values: Any, path: str | os.PathLike[str]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return as_numbers_array(values, "the matrix", path, np.float64)
