"""The commit protocol on object storage: a folder is finished in scratch, then published.

There is no rename on object storage. An output is first completed in a local folder, under the
rules of :mod:`pertscale.storage.atomic`, and then put object by object under its final name, each
by one request, which replaces an object as a whole. The marker of a folder (``manifest.json``; the
``zarr.json`` of a Zarr hierarchy) is deleted before the first object of that folder changes and put
after the last one, an inner marker before an outer one. So a folder with its marker is never a
mixture, and readers refuse one without as not finished.

The scratch folder's name comes from the URL: an interrupted call, made again, goes on there.
Objects that exist already, by size and checksum, are not put again.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pertscale.diagnostics.progress import Progress, say
from pertscale.errors import ArgumentError, NotFoundError
from pertscale.hashing import digest
from pertscale.schema import MANIFEST_FILE
from pertscale.storage.atomic import read_json, remove, write_json
from pertscale.storage.locations import Location, LocationLike, Remote, locate
from pertscale.storage.object_storage import storage_errors
from pertscale.storage.remote_lock import RemoteLock, locked_remote
from pertscale.storage.scratch import scratch_path, scratch_root

#: Files that are put, or fetched, at the same time: at most so many, and so many bytes.
_BATCH_FILES = 16
_BATCH_BYTES = 64_000_000
#: Parts in which s3fs puts files of at least two of them; the checksum of an object follows.
_PART_BYTES = 50 * 2**20
_ROOT_FILE = "zarr.json"


@dataclass(frozen=True)
class OutputLayout:
    """What of a folder is ours: nothing else below a URL is read, replaced or deleted.

    Attributes
    ----------
    folders : tuple of str
        Folders directly below it; what is in them and not in the new content is deleted.
    marker : str
        The file that says that the whole is finished. If it is directly in the folder, the other
        files there are ours as well.
    keep : bool
        Whether scratch keeps a copy, from which the next call goes on.
    files : str
        Pattern of what is written into the folders. Only such objects are deleted.
    recorded : tuple of (str, str), optional
        Name of a folder that users share with us, and the file beside it with the names and
        checksums of what we have written there.
    """

    folders: tuple[str, ...]
    marker: str
    keep: bool
    files: str
    recorded: tuple[str, str] | None = None

    def has(self, name: str) -> bool:
        """Whether a file, by its name below the folder, belongs to it."""
        first, *rest = name.split("/")
        if any(part.startswith(".") for part in rest):
            return False  # temporary files, of runs that died
        if rest:
            return first in self.folders
        return "/" not in self.marker and not first.startswith(".")


@contextmanager
def finished_folder(
    output: Location, layout: OutputLayout, *, quiet: bool = False
) -> Iterator[Path]:
    """Yield the folder to write into: `output` itself, or one in scratch that is then published.

    Parameters
    ----------
    output : Path or Remote
        Final location.
    layout : OutputLayout
    quiet : bool

    Raises
    ------
    LockedError
        If another run holds the output.
    StorageError
        If the storage can't be reached, or refuses.
    """
    if isinstance(output, Path):
        yield output
        return
    if "/" not in output.key:
        raise ArgumentError(f"{output} is a whole bucket; name a folder in it: {output}/name")
    with locked_remote(output, quiet=quiet) as lock:
        home = scratch_home(output, layout)
        local = home / output.name
        _bring_up(output, local, layout, quiet=quiet)
        write_json(home / _STATE, _WORKING)
        yield local
        publish(local, output, layout, lock, quiet=quiet)
        say(f"published {output}", quiet=quiet)
        if layout.keep:
            write_json(home / _STATE, _EQUAL)
        else:
            remove(home)


# --- scratch --------------------------------------------------------------------------------------

_STATE = "state.json"
#: A copy of what was published; one that is being made; one on which a call works.
_EQUAL, _COPYING, _WORKING = "equal", "copying", "working"


def scratch_home(output: Remote, layout: OutputLayout) -> Path:
    """Return the scratch of an output; the folder in it has the output's name."""
    home = scratch_root() / _home_name(output, layout)
    home.mkdir(exist_ok=True)
    return home


def _home_name(output: Remote, layout: OutputLayout) -> str:
    return f"{output.name}-{digest(str(output), layout.marker, layout.keep)[:12]}"


def working_folder(output: Location, layout: OutputLayout) -> Path:
    """Return where :func:`finished_folder` would write, without making anything."""
    if isinstance(output, Path):
        return output
    return scratch_path() / _home_name(output, layout) / output.name


def local_copy(path: LocationLike) -> Path:
    """Return a path itself; of a URL a copy in scratch, got anew if the object has changed."""
    source = locate(path)
    if isinstance(source, Path):
        return source
    with storage_errors(str(source)):
        try:
            info = source.fs.info(source.key)
        except FileNotFoundError:
            info = {}
    if info.get("type") != "file":
        raise NotFoundError(
            f"there is no object {source}; a folder has to be copied to a disk first"
        )
    state = {"size": info["size"], "version": str(info.get("ETag") or info.get("mtime"))}
    home = scratch_root() / "files" / digest(str(source), state)[:12]
    copy = home / source.name
    if not (home / _STATE).exists():
        home.mkdir(parents=True, exist_ok=True)
        with storage_errors(str(source)):
            source.fs.get_file(source.key, str(copy))
        write_json(home / _STATE, state)
    return copy


def _bring_up(output: Remote, local: Path, layout: OutputLayout, *, quiet: bool) -> None:
    """Make scratch equal to what is finished, but for what an interrupted call left in it."""
    marker = local.parent / _STATE
    state = read_json(marker) if marker.exists() else ""
    if state == _WORKING or not layout.keep:
        return
    if not (output / layout.marker).exists():
        if state == _COPYING:
            remove(local)
        return
    write_json(marker, _COPYING)
    there = {name: info for name, info in output.objects().items() if layout.has(name)}
    for name in _files(local, layout).keys() - there.keys():
        remove(local / name)
    missing = [name for name, info in there.items() if not _is_same(local / name, info)]
    if missing:
        size = sum(there[name]["size"] for name in missing)
        say(f"getting {len(missing)} objects ({size / 1e6:,.1f} MB) of {output}", quiet=quiet)
    for name in missing:
        (local / name).parent.mkdir(parents=True, exist_ok=True)
    with storage_errors(str(output)):
        for batch in _batches(missing, lambda name: int(there[name]["size"])):
            _together(lambda n: output.fs.get_file((output / n).key, str(local / n)), batch)


# --- publishing -----------------------------------------------------------------------------------


def publish(
    local: Path, output: Remote, layout: OutputLayout, lock: RemoteLock, *, quiet: bool = False
) -> None:
    """Make the objects below a URL equal to the files of a folder; see the module."""
    files = _files(local, layout)
    there = {name: info for name, info in output.objects().items() if layout.has(name)}
    put = [n for n in files if n not in there or not _is_same(files[n], there[n])]
    stale = [n for n in there if n not in files and _may_be_deleted(output, n, layout)]
    markers = _touched_markers({*files, *there}, [*put, *stale])

    def put_one(name: str) -> None:
        output.fs.put_file(str(files[name]), (output / name).key)

    def delete(name: str) -> None:
        output.fs.rm_file((output / name).key)

    lock.check()
    with storage_errors(str(output)):
        for name in sorted(markers, key=_depth):
            if name in there:
                delete(name)
        first = [name for name in put if name not in markers]
        with Progress("publish", total=len(first), quiet=quiet) as progress:
            for batch in _batches(first, lambda name: files[name].stat().st_size):
                _together(put_one, batch)
                progress.advance(len(batch))
        for batch in _batches([n for n in stale if n not in markers], lambda name: 0):
            _together(delete, batch)
        lock.check()
        for name in sorted(markers & files.keys(), key=_depth, reverse=True):
            put_one(name)


def _may_be_deleted(output: Remote, name: str, layout: OutputLayout) -> bool:
    """Whether an object is one that an earlier call has put."""
    folder, _, file = name.rpartition("/")
    if re.fullmatch(layout.files, name):
        return bool(folder)
    if layout.recorded is None or folder.rpartition("/")[2] != layout.recorded[0]:
        return False
    try:
        written = read_json(output / (folder.removesuffix(layout.recorded[0]) + layout.recorded[1]))
    except (FileNotFoundError, ValueError):
        return False
    return bool(written.get(file) == hashlib.sha256((output / name).read_bytes()).hexdigest())


def _touched_markers(names: set[str], changed: Iterable[str]) -> set[str]:
    """Return the markers of the folders in which something changes."""
    markers = {n for n in names if PurePosixPath(n).name == MANIFEST_FILE}
    for name in names:  # of a Zarr hierarchy its root, not the groups and arrays in it
        path = PurePosixPath(name)
        if path.name == _ROOT_FILE:
            above = str(path.parent.parent / _ROOT_FILE)
            if path.parent == PurePosixPath(".") or above not in names:
                markers.add(name)
    folders = {name: str(PurePosixPath(name).parent) for name in markers}
    changing = {str(parent) for name in changed for parent in PurePosixPath(name).parents}
    return {name for name, folder in folders.items() if folder in changing}


def _depth(name: str) -> tuple[int, bool, str]:
    """Order markers: outer ones first, and manifests before the Zarr hierarchies beside them."""
    return name.count("/"), PurePosixPath(name).name == _ROOT_FILE, name


def _files(local: Path, layout: OutputLayout) -> dict[str, Path]:
    """Return the files of a folder by their names below it."""
    found = {p.relative_to(local).as_posix(): p for p in sorted(local.rglob("*")) if p.is_file()}
    return {name: path for name, path in found.items() if layout.has(name)}


def _is_same(path: Path, info: dict[str, Any]) -> bool:
    """Whether an object has the content of a file: told by size and S3's ETag.

    Where the ETag is no checksum (other storages, objects encrypted with a key of one's own), all
    is put again.
    """
    if not path.is_file() or path.stat().st_size != info["size"]:
        return False
    etag = str(info.get("ETag", "")).strip('"')
    return bool(etag) and etag == _etag(path, parts="-" in etag)


def _etag(path: Path, *, parts: bool) -> str:
    with path.open("rb") as file:
        if not parts:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        sums = []
        while data := file.read(_PART_BYTES):
            sums.append(hashlib.md5(data, usedforsecurity=False).digest())
    joined = hashlib.md5(b"".join(sums), usedforsecurity=False).hexdigest()
    return f"{joined}-{len(sums)}"


def _together(do: Callable[[str], None], names: Sequence[str]) -> None:
    """Do something with all names at the same time; no request is under way when it returns."""
    with ThreadPoolExecutor(len(names)) as threads:
        for one in [threads.submit(do, name) for name in names]:
            one.result()


def _batches(names: Sequence[str], size: Callable[[str], int]) -> Iterator[list[str]]:
    """Yield names in groups whose files are in memory together."""
    batch: list[str] = []
    held = 0
    for name in names:
        n_bytes = size(name)
        if batch and (len(batch) == _BATCH_FILES or held + n_bytes > _BATCH_BYTES):
            yield batch
            batch, held = [], 0
        batch.append(name)
        held += n_bytes
    if batch:
        yield batch
