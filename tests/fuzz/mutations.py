"""Seeded changes of files: of bytes, and of what their format is made of."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.fuzz.mutations_hdf5 import mutate_hdf5
from tests.fuzz.plain import unpickled

#: Texts that stand in the place of a name or a number.
WORDS = (
    "",
    " ",
    "nan",
    "NA",
    "NULL",
    "inf",
    "-1",
    "0",
    "1.5",
    "1e400",
    "007",
    "2147483648",
    "+",
    "GA+",
    "control",
    "g0",
    "GA",
    "a,b",
    "a\tb",
    '"',
    "'",
    "a\nb",
    "\0",
    "é",
    "e\u0301",
    "\ufeff",
    "İ",
    "../../x",
    "x" * 300,
    "{0}",
    "%s",
    "<b>",
    "True",
)
NUMBERS = (float("nan"), float("inf"), -float("inf"), -1.0, 0.5, 1e308, 1e-45, 2.0**24 + 1, 2.0**40)


def mutate(folder: Path, chance: Random, *, whole: bool) -> str:
    """Change one file below a folder, and say how.

    What a format is made of is changed where its files are `whole`: HDF5 may not come back from a
    damaged one. That a change fails is no error; it tells so.
    """
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    if not files:
        return "nothing is left"
    file = chance.choice(files)
    structural = _BY_SUFFIX.get(file.suffix)
    if structural is None and file.name in "0123456789" and chance.random() < 0.4:
        structural = _lose  # a chunk of Zarr
    has_structure = structural is not None and chance.random() < 0.65
    how = structural if structural is not None and has_structure and whole else _bytes
    try:
        told = how(file, chance)
    except _NO_CHANGE as error:
        told = f"not changed ({type(error).__name__}: {str(error)[:60]})"
    return f"{file.relative_to(folder)} {how.__name__.strip('_')}: {told}"


#: What libraries raise where a value, type or shape can't be put.
_NO_CHANGE = (ValueError, TypeError, LookupError, OSError, ArithmeticError, RuntimeError)


# --- bytes ----------------------------------------------------------------------------------------


def _bytes(file: Path, chance: Random) -> str:
    content, told = changed_bytes(file.read_bytes(), chance)
    file.write_bytes(content)
    return told


def changed_bytes(content: bytes, chance: Random) -> tuple[bytes, str]:
    """Flip, cut, double, delete, zero, or swap bytes."""
    data = bytearray(content)
    if not data:
        return b"\0", "filled"
    at, other = chance.randrange(len(data)), chance.randrange(len(data))
    n = chance.choice([1, 2, 4, 8, 16, 64, 512])
    how = chance.choice(
        ["flip", "flips", "cut", "double", "delete", "zero", "ones", "swap", "fill"]
    )
    if how == "flip":
        data[at] ^= 1 << chance.randrange(8)
    elif how == "flips":
        for _ in range(chance.randint(2, 20)):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    elif how == "cut":
        del data[at:]
    elif how == "double":
        data[at:at] = data[at : at + n]
    elif how == "delete":
        del data[at : at + n]
    elif how in ("zero", "ones"):
        data[at : at + n] = (b"\0" if how == "zero" else b"\xff") * len(data[at : at + n])
    elif how == "swap":
        first, second = sorted((at, other))
        if first + n <= second and second + n <= len(data):
            one, two = data[first : first + n], data[second : second + n]
            data[first : first + n], data[second : second + n] = two, one
        else:
            data[at], data[other] = data[other], data[at]
    else:
        data[at : at + n] = chance.randbytes(len(data[at : at + n]))
    return bytes(data), f"{how} {n} at {at}"


def _lose(file: Path, chance: Random) -> str:
    file.unlink()
    return "lost"


# --- text -----------------------------------------------------------------------------------------


def _gzip(file: Path, chance: Random) -> str:
    text, told = changed_text(gzip.decompress(file.read_bytes()), chance)
    file.write_bytes(gzip.compress(text))
    return told


def _text(file: Path, chance: Random) -> str:
    text, told = changed_text(file.read_bytes(), chance)
    file.write_bytes(text)
    return told


def changed_text(text: bytes, chance: Random) -> tuple[bytes, str]:
    """Change lines, fields, numbers or single characters of a table."""
    return chance.choice([_lines, _fields, _fields, _numbers, _characters])(text, chance)


def _lines(text: bytes, chance: Random) -> tuple[bytes, str]:
    lines = text.splitlines(keepends=True)
    at, other = chance.randrange(len(lines)), chance.randrange(len(lines))
    how = chance.choice(["drop", "double", "swap", "cut last", "no last end", "blank", "CRLF"])
    if how == "drop":
        del lines[at]
    elif how == "double":
        lines.insert(at, lines[other])
    elif how == "swap":
        lines[at], lines[other] = lines[other], lines[at]
    elif how == "cut last":
        lines[-1] = lines[-1][: chance.randrange(1, len(lines[-1]) + 1)]
    elif how == "no last end":
        lines[-1] = lines[-1].rstrip(b"\n")
    elif how == "blank":
        lines.insert(at, b"\n")
    else:
        lines = [line.replace(b"\n", b"\r\n") for line in lines]
    return b"".join(lines), f"{how} {at} {other}"


def _fields(text: bytes, chance: Random) -> tuple[bytes, str]:
    lines = text.split(b"\n")
    at = chance.randrange(max(1, len(lines) - 1))
    mark = next((m for m in (b"\t", b",", b" ") if m in lines[at]), b",")
    fields = lines[at].split(mark)
    i, j = chance.randrange(len(fields)), chance.randrange(len(fields))
    how = chance.choice(["word", "word", "drop", "double", "swap", "extra", "quote", "column"])
    if how == "word":
        fields[i] = chance.choice(WORDS).encode()
    elif how == "drop":
        del fields[i]
    elif how == "double":
        fields.insert(i, fields[j])
    elif how == "swap":
        fields[i], fields[j] = fields[j], fields[i]
    elif how == "extra":
        fields[i] += mark
    elif how == "quote":
        fields[i] = b'"' + fields[i] + chance.choice([b'"', b""])
    else:
        lines = [mark.join(_without(line.split(mark), i)) for line in lines]
        return b"\n".join(lines), f"column {i} lost"
    lines[at] = mark.join(fields)
    return b"\n".join(lines), f"{how} line {at} field {i} {j}"


def _without(fields: list[bytes], at: int) -> list[bytes]:
    return fields[:at] + fields[at + 1 :] if len(fields) > at else fields


def _numbers(text: bytes, chance: Random) -> tuple[bytes, str]:
    found = list(re.finditer(rb"(?<![A-Za-z_])-?\d+(?:\.\d+)?", text))
    if not found:
        return _characters(text, chance)
    it = chance.choice(found)
    new = chance.choice(
        [b"-1", b"0", b"1", b"7", b"nan", b"inf", b"1e400", b"0.5", b"99999999999999999999", b"1 2"]
    )
    return text[: it.start()] + new + text[it.end() :], f"{it[0].decode()} -> {new.decode()}"


def _characters(text: bytes, chance: Random) -> tuple[bytes, str]:
    at = chance.randrange(len(text))
    new = chance.choice(
        [b"\0", b"\xe9", b"\xff\xfe", b"\xef\xbb\xbf", b'"', b"\r", b",", b"\t", b" "]
    )
    if new in (b"\xff\xfe", b"\xef\xbb\xbf"):
        at = 0
    if chance.random() < 0.5:
        return text[:at] + new + text[at:], f"{new!r} put at {at}"
    return text[:at] + new + text[at + 1 :], f"{new!r} at {at}"


# --- JSON -----------------------------------------------------------------------------------------


def _json(file: Path, chance: Random) -> str:
    if chance.random() < 0.25:
        return _text(file, chance)
    content = json.loads(file.read_text())
    places = list(_places(content))
    if not places:
        return _text(file, chance)
    box, key = chance.choice(places)
    how = chance.choice(["value", "value", "delete", "rename", "double", "swap"])
    if how == "value":
        box[key] = chance.choice(
            [None, True, -1, 0, 1, 2**40, 2**63, 0.5, float("nan"), [], {}, [box[key]], *WORDS]
        )
    elif how == "delete":
        del box[key]
    elif how == "rename" and isinstance(box, dict):
        box[chance.choice(WORDS)] = box.pop(key)
    elif how == "double" and isinstance(box, list):
        box.append(box[key])
    else:
        other, place = chance.choice(places)
        box[key], other[place] = other[place], box[key]
    file.write_text(json.dumps(content))
    return f"{how} {key!r}"


def _places(value: Any) -> Any:
    """Yield every box with a key in it."""
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


# --- arrays of NumPy ------------------------------------------------------------------------------


def _npz(file: Path, chance: Random) -> str:
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = chance.choice(list(members))
    how = chance.choice(["delete", "rename", "cut", "header", "array", "array", "array", "extra"])
    if how == "delete":
        del members[name]
    elif how == "rename":
        members[chance.choice(["x.npy", "../x.npy", "names", ""])] = members.pop(name)
    elif how == "cut":
        members[name] = members[name][: chance.randrange(len(members[name]))]
    elif how == "header":
        old, new = chance.choice(
            [
                (b"(", b"(9"),
                (b"(", b"(-"),
                (b"(", b"(0, "),
                (b"'<", b"'>"),
                (b"'<f8'", b"'|O8'"),
                (b"'<U", b"'<U9"),
                (b"False", b"True "),
                (b"'descr'", b"'desc'"),
            ]
        )
        members[name] = members[name].replace(old, new, 1)
    elif how == "extra":
        members["more.npy"] = members[name]
    else:
        array, told = changed_array(np.load(io.BytesIO(members[name])), chance)
        with io.BytesIO() as made:
            np.save(made, array, allow_pickle=True)
            members[name] = made.getvalue()
        how = told
    with zipfile.ZipFile(file, "w", chance.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as z:
        for key, content in members.items():
            z.writestr(key, content)
    return f"{how} {name}"


def changed_array(array: np.ndarray, chance: Random) -> tuple[np.ndarray, str]:
    """Change type, shape or values of an array."""
    array = array.copy()
    how = chance.choice(["type", "shape", "value", "double", "shift", "order"])
    with np.errstate(all="ignore"):
        if how == "type":
            kind = chance.choice(
                [">f8", ">i4", "f2", "f4", "i1", "i8", "u8", "?", "U3", "S4", "c8"]
            )
            return (array.astype(object) if kind == "c8" else array.astype(kind)), f"type {kind}"
        if how == "shape":
            return chance.choice(
                [
                    array.ravel(),
                    array[None],
                    array[:-1],
                    array[:0],
                    array.T,
                    array[..., None],
                    np.concatenate([array, array]),
                    np.asarray(array.ravel()[0]),
                ]
            ), "shape"
        flat = array.reshape(-1)
        at, other = chance.randrange(flat.size), chance.randrange(flat.size)
        if how == "double":
            flat[at] = flat[other]
        elif how == "shift":
            flat[:] = np.roll(flat, 1)
        elif how == "order":
            flat[:] = flat[::-1].copy()
        elif array.dtype.kind in "fiu":
            flat[at] = np.float64(chance.choice(NUMBERS)).astype(array.dtype)
        else:
            flat[at] = chance.choice(WORDS)
    return array, f"{how} {at} {other}"


# --- Parquet, pickles -----------------------------------------------------------------------------


def _parquet(file: Path, chance: Random) -> str:
    table = pq.read_table(file)
    at = chance.randrange(table.num_columns)
    name, column = table.column_names[at], table.column(at)
    change = chance.choice(_PARQUET)
    made = change(table, at, name, column, chance)
    pq.write_table(made, file)
    return f"{change.__name__.strip('_')} {name}"


def _column_type(table: Any, at: int, name: str, column: Any, chance: Random) -> Any:
    kind = chance.choice(
        [
            pa.string(),
            pa.large_string(),
            pa.binary(),
            pa.float32(),
            pa.int8(),
            pa.int64(),
            pa.float16(),
            pa.dictionary(pa.int32(), pa.string()),
        ]
    )
    return table.set_column(at, name, column.cast(kind))


def _column_value(table: Any, at: int, name: str, column: Any, chance: Random) -> Any:
    values = column.to_pylist()
    choices = NUMBERS if pa.types.is_floating(column.type) else WORDS
    if pa.types.is_integer(column.type):
        choices = (-1, 0, 1, 2, 100)
    values[chance.randrange(len(values))] = chance.choice([None, values[0], *choices])
    return table.set_column(at, name, pa.array(values, column.type))


def _column_other(table: Any, at: int, name: str, column: Any, chance: Random) -> Any:
    n = len(column)
    return table.set_column(
        at,
        name,
        chance.choice(
            [
                pa.array([[i, i] for i in range(n)]),
                pa.array([{"a": i} for i in range(n)]),
                pa.array([i % 2 == 0 for i in range(n)]),
                pa.array(range(n), pa.timestamp("ns")),
                pa.nulls(n),
                pa.array([b"\xff\xfe"] * n),
                pa.array(range(n)).cast(pa.decimal128(20, 2)),
            ]
        ),
    )


def _rows(table: Any, at: int, name: str, column: Any, chance: Random) -> Any:
    n = table.num_rows
    return chance.choice(
        [
            table.slice(0, 0),
            table.slice(0, n - 1),
            pa.concat_tables([table, table.slice(0, 1)]),
            table.take(pa.array(chance.sample(range(n), n))),
        ]
    )


def _columns(table: Any, at: int, name: str, column: Any, chance: Random) -> Any:
    names = list(table.column_names)
    names[at] = chance.choice([*names, *WORDS])
    return chance.choice(
        [
            lambda: table.rename_columns(names),
            lambda: table.append_column(name, column),
            lambda: table.remove_column(at),
            lambda: table.replace_schema_metadata({"pandas": "{"}),
            lambda: table.append_column("more", column),
        ]
    )()


_PARQUET: tuple[Callable[..., Any], ...] = (
    _column_type,
    _column_value,
    _column_value,
    _column_other,
    _rows,
    _columns,
)


def _pickle(file: Path, chance: Random) -> str:
    content = unpickled(file)
    key = chance.choice(list(content))
    how = chance.choice(["array", "array", "list", "key", "delete", "protocol", "nested", "text"])
    if how == "array":
        content[key], how = changed_array(content[key], chance)
    elif how == "list":
        content[key] = content[key].tolist()
    elif how == "key":
        content[chance.choice([7, None, ("a", "b"), *WORDS])] = content.pop(key)
    elif how == "delete":
        del content[key]
    elif how == "nested":
        content[key] = [content[key]]
    elif how == "text":
        content[key] = chance.choice(WORDS)
    file.write_bytes(pickle.dumps(content, protocol=chance.randrange(6)))
    return f"{how} {key}"


_BY_SUFFIX: dict[str, Callable[[Path, Random], str]] = {
    **dict.fromkeys((".csv", ".tsv", ".mtx", ".gmt", ".toml"), _text),
    ".gz": _gzip,
    ".json": _json,
    ".npz": _npz,
    ".parquet": _parquet,
    ".pkl": _pickle,
    ".h5": mutate_hdf5,
    ".h5ad": mutate_hdf5,
}
