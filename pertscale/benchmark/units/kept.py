"""Arrays that units share, kept in the folder of a run as long as it uses them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pertscale.errors import CorruptFileError, NotFoundError
from pertscale.io.checksums import FILES, all_sums, faults, read_record, write_record
from pertscale.results.unit_files import SUMS_FILE
from pertscale.storage.atomic import atomic_path, remove


@contextmanager
def keeping(path: Path) -> Iterator[Path]:
    """Yield a folder to write an array to; it gets its sums, and is renamed into place."""
    with atomic_path(path) as temporary:
        yield temporary
        write_record(temporary / SUMS_FILE, {FILES: all_sums(temporary)})


def is_kept(path: Path) -> bool:
    """Whether an array is there as it was written; otherwise it is written again."""
    try:
        record = read_record(path / SUMS_FILE, "a record of an array", remedy="delete it")
    except (NotFoundError, CorruptFileError):
        return False
    return not faults(path, record[FILES], content=True)


def remove_superseded(folder: Path, used: Iterable[Path]) -> None:
    """Delete the arrays and tables in a folder that are not in use."""
    used = set(used)
    for path in (*folder.glob("*.zarr"), *folder.glob("*.parquet")):
        if path not in used:
            remove(path)
