"""The split files of a benchmark, beside which users keep their own.

What was written is recorded with its checksum in the work folder, before it is written. A file that
is not in the record, or was changed since into another split, belongs to the user: it is neither
deleted nor overwritten.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from pertscale.benchmark.state import RunRecord
from pertscale.errors import ExistsError, PertscaleError
from pertscale.io.guards.json_files import read_json_file
from pertscale.schema import SPLITS_DIR, WORK_DIR
from pertscale.splits import Split
from pertscale.storage.atomic import remove, write_bytes, write_json
from pertscale.storage.folder_names import folder_name, slug

#: Of what was written: names and checksums, in the work folder.
SPLITS_RECORD = "splits.json"


def check_split_files(record: RunRecord) -> None:
    """Refuse, before anything is computed, if a split would overwrite a file of the user's.

    Raises
    ------
    ExistsError
    """
    ours = _recorded(record.folder)
    for file, split in _splits_of(record):
        if file.exists() and _is_somebodys(file, split, ours.get(file.name)):
            raise ExistsError(
                f"{file} holds another split than this run, which writes a file of that name; "
                "move it away, or write to another place (out=, --out)"
            )


def write_split_files(record: RunRecord) -> None:
    """Write the splits of all contexts, and delete those that an earlier call has written."""
    folder, ours = record.folder / SPLITS_DIR, _recorded(record.folder)
    wanted = dict(_splits_of(record))
    mine = {
        file.name: _sum(split.to_json().encode())
        for file, split in wanted.items()
        if file.name in ours or not file.exists()
    }
    list_file = record.folder / WORK_DIR / SPLITS_RECORD
    if mine != ours:
        write_json(list_file, {**ours, **mine})
    for name in sorted(ours.keys() - mine.keys()):
        if (folder / name).is_file() and _sum((folder / name).read_bytes()) == ours[name]:
            remove(folder / name)
    for file, split in wanted.items():
        if file.name in mine:
            write_bytes(file, split.to_json().encode())
    if mine != ours:
        write_json(list_file, mine)


def _splits_of(record: RunRecord) -> Iterator[tuple[Path, Split]]:
    for context, mine in record.splits.items():
        for split in mine.values():
            yield record.folder / SPLITS_DIR / split_file(context, split), split


def _is_somebodys(file: Path, split: Split, written: str | None) -> bool:
    """Whether a file is neither ours as it was or will be written, nor ours and damaged."""
    found = file.read_bytes() if file.is_file() else b""
    if found == split.to_json().encode() or _sum(found) == written:
        return False
    if written is None:
        return True
    try:
        return Split.read(file).hash != split.hash
    except PertscaleError:
        return False  # no split any more: it is written again


def _recorded(folder: Path) -> dict[str, str]:
    """Return the checksums of the files that earlier calls have written, by name."""
    try:
        found = read_json_file(folder / WORK_DIR / SPLITS_RECORD, "a record of split files")
    except PertscaleError:
        return {}  # then no file is known to be ours, and none is touched
    return {n: s for n, s in found.items() if isinstance(s, str)} if isinstance(found, dict) else {}


def _sum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def split_file(context: str, split: Split) -> str:
    """Return the name of a split's file below the output folder's ``splits``."""
    return f"{slug(context)}-{folder_name(split.name)}.json"
