"""Names of columns as the store can hold them: each is the name of a folder there.

The name of a column is data: it may be a path, a file name of Zarr's own, too long for a folder, or
differ from another one only by case, which are one folder on some file systems.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable

from pertscale.hashing import digest
from pertscale.storage.folder_names import DEVICES

#: Separators of paths, what Windows refuses, control and format characters, lone surrogates.
_UNSAFE = re.compile(r'[/\\<>:"|?*]')
_UNSAFE_KINDS = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
#: Bytes of a folder's name; file systems take 255, and some of ours get an ending.
_MOST_BYTES = 200


def stored_names(names: Iterable[str], ours: Collection[str] = ()) -> dict[str, str]:
    """Return column → name in the store, no two of which are the same folder anywhere.

    Parameters
    ----------
    names
        Distinct names of columns.
    ours
        Names that are taken. A column of such a name gets the ending ``_source``; other clashes
        are numbered, NAME-1.
    """
    taken = {_folder(name) for name in ours}
    reserved = frozenset(taken)
    found: dict[str, str] = {}
    for name in names:
        plain = _plain(name)
        plain = f"{plain}_source" if _folder(plain) in reserved else plain
        unique, number = plain, 0
        while _folder(unique) in taken:
            number += 1
            unique = f"{plain}-{number}"
        taken.add(_folder(unique))
        found[name] = unique
    return found


def renamed(found: dict[str, str]) -> list[str]:
    """Return a sentence for the account where names of columns had to change."""
    changed = [
        f"{old!r} as {new!r}" for old, new in found.items() if new not in (old, f"{old}_source")
    ]
    return [f"columns: stored {', '.join(changed)}"] if changed else []


def _plain(name: str) -> str:
    """Return a name that every file system and Zarr take for one folder's."""
    safe = "".join(
        "_" if unicodedata.category(mark) in _UNSAFE_KINDS else mark
        for mark in _UNSAFE.sub("_", name)
    )
    outer = re.fullmatch(r"([.\s]*)(.*?)([.\s]*)", safe, re.DOTALL)
    assert outer is not None  # it matches any text
    plain = "_" * len(outer[1]) + outer[2] + "_" * len(outer[3])
    if not plain or plain.lower() == "zarr.json" or DEVICES.fullmatch(plain):
        plain += "_"
    if len(plain.encode()) <= _MOST_BYTES:
        return plain
    start = plain.encode()[: _MOST_BYTES // 2].decode(errors="ignore")
    return f"{start}-{digest(name)[:8]}"


def _folder(name: str) -> str:
    """Return a key that is the same for names which are one folder on some file system."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
