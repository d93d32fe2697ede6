"""Long tables of other tools: one row per (perturbation, gene), whatever the columns are called."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
import pyarrow as pa

from pertscale.errors import CorruptFileError, InputError, PertscaleError
from pertscale.io.guards.damage import DAMAGE
from pertscale.io.guards.text_encoding import encoding_of, warn_of_the_end
from pertscale.io.guards.text_files import open_text
from pertscale.io.guards.text_tables import check_text
from pertscale.io.parquet import read_parquet
from pertscale.schema import CONTEXT, GENE, PERTURBATION, Label
from pertscale.storage.locations import input_path

#: Suffixes of tables, gzipped ones with ``.gz`` after them.
TEXT_SUFFIXES: Final = (".csv", ".tsv", ".txt")
#: Spellings of the columns that say which pair a row is of, in the order of preference.
SPELLINGS: Final = {
    PERTURBATION: (
        "perturbation",
        "pert",
        "target_gene",
        "gene_target",
        "condition",
        "target",
        "group",
    ),
    GENE: ("gene", "feature", "names", "readout", "response_gene", "gene_name", "symbol"),
    CONTEXT: ("context", "cell_line", "cell_type", "celltype", "line", "reference_context"),
    "split": ("split", "split_id"),
}
#: Columns of names: ``007`` and ``1e5`` are names there, not numbers.
_NAMES: Final = frozenset(
    word for role in (PERTURBATION, GENE, CONTEXT) for word in SPELLINGS[role]
)
#: Words for the classes, compared in lower case with spaces, hyphens and underscores left out.
_WORDS: Final = (
    dict.fromkeys(("down", "decrease", "decreased", "downregulated"), Label.DOWN)
    | dict.fromkeys(("up", "increase", "increased", "upregulated"), Label.UP)
    | dict.fromkeys(
        (
            "nonde",
            "notde",
            "none",
            "no",
            "nochange",
            "unchanged",
            "ns",
            "notdifferentiallyexpressed",
        ),
        Label.NON_DE,
    )
)
Codes = Literal["pertscale", "synthpert", "up_first"]
#: Integer codes of the classes by who uses them; every source has its own (method 0.1).
CODES: Final[dict[Codes, dict[int, Label]]] = {
    "pertscale": {-1: Label.DOWN, 0: Label.NON_DE, 1: Label.UP},
    "synthpert": {0: Label.NON_DE, 1: Label.DOWN, 2: Label.UP},
    "up_first": {0: Label.NON_DE, 1: Label.UP, 2: Label.DOWN},
}
_MISSING: Final = frozenset({"", "na", "nan", "none", "null", "<na>"})


def read_long(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a csv, tsv (also gzipped) or parquet table; names such as ``NA`` stay names.

    Raises
    ------
    NotFoundError, CorruptFileError
        There is no such file, or it is damaged.
    InputError
        It has no rows.
    """
    path = input_path(path, "a table")
    plain = path.name.removesuffix(".gz").lower()
    try:
        if plain.endswith(".parquet"):
            table = read_parquet(path)
        else:
            separator = "," if plain.endswith(".csv") else "\t"
            if not check_text(partial(open_text, path), separator, path).ended:
                warn_of_the_end(path)
            with open_text(path) as file:
                encoding = encoding_of(file, path)
            with open_text(path) as file:
                columns = pd.read_csv(file, sep=separator, nrows=0, encoding=encoding).columns
            as_text: dict[Any, type] = {c: str for c in columns if c.lower() in _NAMES}
            with open_text(path) as file:
                table = pd.read_csv(
                    file, sep=separator, keep_default_na=False, dtype=as_text, encoding=encoding
                )
            _check_row_names(table, path)
    except PertscaleError:
        raise
    except (*DAMAGE, MemoryError, pa.ArrowException) as error:
        raise CorruptFileError(f"not a complete table: {error} ({path})") from error
    if not len(table):
        raise InputError(f"the table has no rows ({path})")
    return table


def _check_row_names(table: pd.DataFrame, path: Path) -> None:
    """Raise where the unnamed column of row names that R writes holds no row names: they repeat."""
    roles = (PERTURBATION, GENE)
    if table.index.has_duplicates and all(column_of(r, table.columns) for r in roles):
        name = table.index[table.index.duplicated()][0]
        raise CorruptFileError(
            f"{path}: the first line has a field less than the others, as where R writes names of "
            f"rows, but {name!r} stands at the beginning of several; a name is missing in the "
            "first line, or a separator in it is damaged"
        )


def column_of(
    role: str, columns: Iterable[str], *, spellings: Sequence[str] | None = None
) -> str | None:
    """Return the column that plays a role, or None; the spelling that is preferred wins.

    `spellings` stand in place of the role's, where a file may have others.
    """
    lower = {str(c).lower(): str(c) for c in columns}
    return next((lower[s] for s in spellings or SPELLINGS[role] if s in lower), None)


def pair_columns(table: pd.DataFrame, path: object) -> pd.DataFrame:
    """Rename the columns that say which pair a row is of; raise where they are not there."""
    names = Counter(str(c).lower() for c in table.columns)
    repeated = next((name for name, n in names.items() if n > 1), None)
    if repeated is not None:
        raise InputError(
            f"several columns are called {repeated!r}, upper and lower case being the same; keep "
            f"one of them ({path})"
        )
    found = {role: column_of(role, table.columns) for role in SPELLINGS}
    lacking = [role for role in (PERTURBATION, GENE) if found[role] is None]
    if lacking:
        raise InputError(
            f"no column for the {' and the '.join(lacking)} among "
            f"{', '.join(map(str, table.columns))}; rename one to "
            f"{' or '.join(SPELLINGS[lacking[0]][:3])} ({path})"
        )
    renamed = table.rename(columns={c: role for role, c in found.items() if c is not None})
    renamed = renamed.reset_index(drop=True)  # index of a table that was cut from another
    for role in (PERTURBATION, GENE, CONTEXT, "split"):
        if role in renamed:
            renamed[role] = as_names(renamed[role], path)
    for role in (PERTURBATION, GENE):
        missing = _empty_rows(renamed[role])
        if len(missing):
            raise InputError(
                f"column {found[role]!r} is empty in row {int(missing[0])} (and in "
                f"{len(missing) - 1} more); every row names its perturbation and its gene ({path})"
            )
    for role in (CONTEXT, "split"):
        if role in renamed:
            renamed = _for_which(renamed, role, path)
    return renamed


def _for_which(table: pd.DataFrame, role: str, path: object) -> pd.DataFrame:
    """Return the table with contexts or splits as text; without the column where all are empty."""
    missing = _empty_rows(table[role])
    if len(missing) == len(table):
        return table.drop(columns=role)
    if len(missing):
        raise InputError(
            f"the {role} is empty in row {int(missing[0])} (and in {len(missing) - 1} more), but "
            f"told in others, such as {table[role].drop(missing).iloc[0]!r}; name it in "
            f"every row ({path})"
        )
    return table


def as_names(values: pd.Series, path: object) -> pd.Series:
    """Return a column of names as text, missing ones as None; numbers are names as well.

    Raises
    ------
    InputError
        It holds lists, tables or bytes that are not text.
    """
    column = values.name
    values = values.astype(object)
    missing = values.isna().to_numpy()
    kinds = set(map(type, values[~missing]))
    for kind in kinds:
        if issubclass(kind, (list, tuple, dict, set, np.ndarray)):
            raise InputError(f"column {column!r} holds {kind.__name__}s, not names ({path})")
    names = values.to_numpy(object)
    if not kinds <= {str}:
        try:
            texts = [v.decode() if isinstance(v, bytes) else str(v) for v in names]
        except UnicodeDecodeError as error:
            raise InputError(
                f"column {column!r} holds bytes that are no text: {error} ({path})"
            ) from error
        names = np.array([*texts, None], dtype=object)[:-1]
    return pd.Series(np.where(missing, None, names), values.index, dtype=object, name=column)


def all_names(values: pd.Series, path: object) -> list[str]:
    """Return a list of names, none of which may be missing."""
    names = as_names(values, path)
    if names.isna().any():
        raise InputError(
            f"{values.name!r} has no name in row {int(names.isna().to_numpy().argmax())}; leave "
            f"out what has none ({path})"
        )
    return list(names)


def _empty_rows(column: pd.Series) -> np.ndarray:
    return np.flatnonzero(column.isna() | (column == ""))


def one_context(table: pd.DataFrame, context: str | None, path: object) -> pd.DataFrame:
    """Return the rows of one context; a table without such a column is of any."""
    if CONTEXT not in table:
        return table
    there = sorted(table[CONTEXT].unique())
    if context is None and len(there) == 1:
        return table
    if context is None or context not in there:
        raise InputError(
            f"the table has the contexts {', '.join(there)}, asked for was {context!r}; name one "
            f"with context= ({path})"
        )
    return table[table[CONTEXT] == context].reset_index(drop=True)


def as_numbers(values: pd.Series, path: object) -> np.ndarray:
    """Return a column as float64, missing values as NaN; raise for anything else."""
    kind = values.dtype
    if pd.api.types.is_complex_dtype(kind) or pd.api.types.is_datetime64_any_dtype(kind):
        raise InputError(f"column {values.name!r} holds {kind}, a number is needed ({path})")
    if pd.api.types.is_numeric_dtype(kind):
        return values.to_numpy(np.float64, na_value=np.nan)
    values = values.astype(object)
    try:
        numbers = pd.to_numeric(values, errors="coerce")
    except (TypeError, ValueError) as error:  # lists, complex numbers
        raise InputError(f"column {values.name!r} holds no numbers: {error} ({path})") from error
    text = values.astype(str).str.strip()
    wrong = numbers.isna() & ~text.str.lower().isin(_MISSING)
    if wrong.any():
        raise InputError(
            f"column {values.name!r} has {text[wrong].iloc[0]!r} in row "
            f"{int(np.flatnonzero(wrong)[0])}, a number is needed ({path})"
        )
    return numbers.to_numpy(np.float64)


def as_labels(values: pd.Series, codes: Codes | None, path: object) -> np.ndarray:
    """Return classes as int8 labels from words, or from integers whose meaning is known.

    Raises
    ------
    InputError
        A value that is no class, or integers that could mean several things.
    """
    missing = _empty_rows(values)
    if len(missing):
        raise InputError(
            f"column {values.name!r} is empty in row {int(missing[0])} (and in {len(missing) - 1} "
            f"more); every row has a class, or is left out ({path})"
        )
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(values.cat.categories.dtype)
    if pd.api.types.is_bool_dtype(values) or not pd.api.types.is_numeric_dtype(values):
        return _labels_of_words(values.astype(object), codes, path)
    values = pd.Series(as_numbers(values, path), name=values.name)
    found = {int(v) if float(v).is_integer() else float(v) for v in pd.unique(values)}
    if codes is None and not found <= {-1, 0, 1}:
        raise InputError(
            f"the labels are the numbers {sorted(found)[:6]}, which mean different things in "
            f"different sources; say whose with codes= ({', '.join(map(repr, CODES))}) ({path})"
        )
    if codes is None and -1 not in found and 1 in found:
        raise InputError(
            f"the labels are {sorted(found)}: 1 may be 'up' or only 'differentially expressed'; "
            f"pass codes='pertscale' if it is up (for PerturbQA's pair of files use "
            f"pertscale.stats.read_perturbqa) ({path})"
        )
    table = CODES[codes or "pertscale"]
    if not found <= set(table):
        raise InputError(
            f"the labels are {sorted(found)[:6]}; codes={codes or 'pertscale'!r} has "
            f"{sorted(table)} ({path})"
        )
    return values.map({k: int(v) for k, v in table.items()}).to_numpy(np.int8)


def _labels_of_words(values: pd.Series, codes: Codes | None, path: object) -> np.ndarray:
    text = values.astype(str).str.strip().str.lower().str.replace(r"[-_ ]", "", regex=True)
    known = text.isin(list(_WORDS))
    if not known.all():
        numbers = pd.to_numeric(values, errors="coerce")
        if numbers.notna().all():
            return as_labels(numbers.rename(values.name), codes, path)
        row = int(np.flatnonzero(~known)[0])
        raise InputError(
            f"row {row} has the label {values.iloc[row]!r}; known words are "
            f"{', '.join(sorted(_WORDS))} ({path})"
        )
    return text.map({k: int(v) for k, v in _WORDS.items()}).to_numpy(np.int8)
