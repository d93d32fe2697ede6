"""Seeded changes of HDF5 files, member by member."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import h5py
import numpy as np

_ENCODINGS = ("", "csr_matrix", "csc_matrix", "array", "categorical", "dict", "string-array", "9.9")
_INTEGERS = (-1, 0, 1, 2, 127, 255, 65_535, 65_536, 2**31 - 1, 2**31, 2**53 + 1, 2**63 - 1)
_FLOATS = (np.nan, np.inf, -1.0, 0.5, 65_536.0, 2.0**24 + 1, 1e30)
_TEXTS = ("", "nan", "control", "GA", "g0", "GA+", "é", "a\nb", "x" * 300)


def mutate_hdf5(file: Path, chance: Random) -> str:
    """Delete, rename, swap or link members, change types, shapes, values, attributes or chunks."""
    with h5py.File(file, "r+") as opened:
        names: list[str] = []
        opened.visit(names.append)
        arrays = [n for n in names if isinstance(opened[n], h5py.Dataset)]
        change = chance.choice(_CHANGES)
        return f"{change.__name__.strip('_')} {change(opened, names, arrays, chance)}"


def _replace(file: h5py.File, name: str, values: Any, **how: Any) -> None:
    """Put other values in the place of a dataset, with its attributes."""
    attributes = dict(file[name].attrs)
    values = np.asarray(values)
    if values.dtype.kind == "O":
        how["dtype"] = h5py.string_dtype()
    del file[name]
    made = file.create_dataset(name, data=values, **how)
    for key, value in attributes.items():
        made.attrs[key] = value


def _delete(file: h5py.File, names: list[str], arrays: list[str], chance: Random) -> str:
    name = chance.choice(names)
    del file[name]
    return name


def _rename(file: h5py.File, names: list[str], arrays: list[str], chance: Random) -> str:
    name = chance.choice(names)
    new = "/".join([*name.split("/")[:-1], chance.choice(["x", "é", "codes", "_index", "0"])])
    file.move(name, new)
    return f"{name} to {new}"


def _swap(file: h5py.File, names: list[str], arrays: list[str], chance: Random) -> str:
    one, two = chance.sample(arrays, 2)
    file.move(one, "aside")
    file.move(two, one)
    file.move("aside", two)
    return f"{one} and {two}"


def _link(file: h5py.File, names: list[str], arrays: list[str], chance: Random) -> str:
    name = chance.choice(names)
    target = chance.choice(
        [
            h5py.SoftLink(f"/{name}"),
            h5py.SoftLink("/nowhere"),
            h5py.SoftLink("/"),
            file["/"],
            h5py.ExternalLink(file.filename, "/"),
            h5py.ExternalLink("/etc/hosts", "/x"),
        ]
    )
    del file[name]
    file[name] = target
    return f"{name} {type(target).__name__}"


def _type(file: h5py.File, names: list[str], arrays: list[str], chance: Random) -> str:
    name = chance.choice(arrays)
    values = file[name][()]
    kind = chance.choice([">f8", ">i4", ">u2", "f2", "f4", "i1", "i8", "u8", "?", "c8", "S6", "O"])
    with np.errstate(all="ignore"):
        if kind == "O":
            texts = [str(v) for v in np.ravel(values)]
            _replace(file, name, np.array(texts, object).reshape(np.shape(values)))
        elif values.dtype.kind == "O" and kind != "S6":
            _replace(file, name, np.arange(values.size).reshape(values.shape).astype(kind))
        else:
            _replace(file, name, np.asarray(values).astype(kind))
    return f"{name} {kind}"


def _shape(file: h5py.File, names: list[str], arrays: list[str], chance: Random) -> str:
    name = chance.choice(arrays)
    values = np.asarray(file[name][()])
    how, made = chance.choice(
        [
            ("longer", lambda: np.concatenate([values, values[:1]])),
            ("shorter", lambda: values[:-1]),
            ("empty", lambda: values[:0]),
            ("scalar", lambda: values.ravel()[0]),
            ("column", lambda: values[..., None]),
            ("row", lambda: values[None]),
            ("turned", lambda: values.T if values.ndim > 1 else values[::-1]),
            ("flat", values.ravel),
        ]
    )
    _replace(file, name, made())
    return f"{name} {how}"


def _values(file: h5py.File, names: list[str], arrays: list[str], chance: Random) -> str:
    name = chance.choice(arrays)
    values = np.array(file[name][()])
    flat = values.reshape(-1)
    at, other = chance.randrange(flat.size), chance.randrange(flat.size)
    how = chance.choice(["one", "one", "double", "shift", "add", "same"])
    if how == "one":
        choices = {"O": _TEXTS, "S": _TEXTS, "f": _FLOATS}.get(values.dtype.kind, _INTEGERS)
        new: Any = chance.choice([*choices, flat.size])
        if values.dtype.kind in "OS":
            new = str(new).encode()
        with np.errstate(all="ignore"):
            flat[at] = new if values.dtype.kind in "OS" else np.array(new).astype(values.dtype)
    elif how == "double":
        flat[at] = flat[other]
    elif how == "shift":
        flat[:] = np.roll(flat, 1)
    elif how == "add" and values.dtype.kind in "iuf":
        flat += np.array(1).astype(values.dtype)
    else:
        flat[:] = flat[at]
    file[name][...] = values
    return f"{name} {how} {at}"


def _attribute(file: h5py.File, names: list[str], arrays: list[str], chance: Random) -> str:
    name = chance.choice([n for n in names if len(file[n].attrs)])
    attributes = file[name].attrs
    key = chance.choice(list(attributes))
    new: Any = chance.choice(
        [
            None,
            -1,
            2**62,
            0.5,
            h5py.Empty("S1"),
            np.arange(3),
            np.array([2**40, 2**40]),
            np.array([72.5, np.nan]),
            np.bytes_(b"\xff\xfe"),
            *_ENCODINGS,
        ]
    )
    del attributes[key]
    if new is not None:
        attributes[key] = new
    return f"{name} {key} {new!r}"


def _huge(file: h5py.File, names: list[str], arrays: list[str], chance: Random) -> str:
    name = chance.choice(arrays)
    old = file[name]
    length = chance.choice([10**6, 10**9, 2**40, 2**62])
    attributes, kind, rest = dict(old.attrs), old.dtype, old.shape[1:]
    del file[name]
    made = file.create_dataset(
        name, (length, *rest), kind, chunks=(1000, *rest), compression=chance.choice([None, "gzip"])
    )
    for key, value in attributes.items():
        made.attrs[key] = value
    return f"{name} {length}"


def _chunk(file: h5py.File, names: list[str], arrays: list[str], chance: Random) -> str:
    name = chance.choice([n for n in arrays if file[n].dtype.kind in "iuf" and file[n].shape])
    if file[name].compression != "gzip":
        _replace(file, name, file[name][()], chunks=True, compression="gzip")
    made = file[name]
    place = made.id.get_chunk_info(chance.randrange(made.id.get_num_chunks())).chunk_offset
    mask, packed = made.id.read_direct_chunk(place)
    how, content = chance.choice(
        [
            ("cut", packed[: len(packed) // 2]),
            ("random", chance.randbytes(len(packed))),
            ("longer", packed + packed),
            ("zeros", bytes(len(packed))),
            ("unpacked", b"\0" * 8),
        ]
    )
    made.id.write_direct_chunk(place, content, mask)
    return f"{name} {how}"


def _unwritten(file: h5py.File, names: list[str], arrays: list[str], chance: Random) -> str:
    name = chance.choice([n for n in arrays if file[n].shape])
    old = file[name]
    attributes, kind, shape = dict(old.attrs), old.dtype, old.shape
    values = old[()]
    del file[name]
    part = max(1, shape[0] // 2)
    made = file.create_dataset(name, shape, kind, chunks=(part, *shape[1:]))
    if chance.random() < 0.5:
        made[:part] = values[:part]
    for key, value in attributes.items():
        made.attrs[key] = value
    return name


_CHANGES: tuple[Callable[[h5py.File, list[str], list[str], Random], str], ...] = (
    _delete,
    _rename,
    _swap,
    _link,
    _type,
    _type,
    _shape,
    _shape,
    _values,
    _values,
    _values,
    _values,
    _attribute,
    _attribute,
    _huge,
    _chunk,
    _unwritten,
)
