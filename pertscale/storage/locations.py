"""Locations: local paths and URLs of object storage, read alike.

:func:`locate` turns what a user passes into a ``pathlib.Path``, or into a :class:`Remote`, which
has as much of Path's interface as reading needs.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from pertscale.arguments import AS_FILE
from pertscale.errors import ArgumentError, InputError, NotFoundError
from pertscale.storage.object_storage import filesystem, no_bucket_error, storage_errors, zarr_store

_URL = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+)://(.*)$", re.DOTALL)
#: What ``pathlib.Path("s3://bucket")`` makes of a URL.
_MANGLED = re.compile(r"^(s3a?|gs|gcs|abfss?|az|https?|memory):/[^/]")


@dataclass(frozen=True)
class Remote:
    """An object of object storage, or a folder: all objects that start with its URL and a slash.

    It is pickled as its URL; credentials are those of the process that reads.

    Attributes
    ----------
    protocol : str
        Such as ``s3``.
    key : str
        Bucket and path, without a slash at the end.
    """

    protocol: str
    key: str

    def __str__(self) -> str:
        return f"{self.protocol}://{self.key}"

    def __truediv__(self, name: str) -> Remote:
        return Remote(self.protocol, f"{self.key}/{name}")

    def __lt__(self, other: Remote) -> bool:
        return str(self) < str(other)

    @property
    def _pure(self) -> PurePosixPath:
        return PurePosixPath(self.key)

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self._pure.name

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return self._pure.stem

    @property
    def parent(self) -> Remote:
        """The folder it is in."""
        return Remote(self.protocol, str(self._pure.parent))

    def with_suffix(self, suffix: str) -> Remote:
        """Return the location beside it with another suffix."""
        return Remote(self.protocol, str(self._pure.with_suffix(suffix)))

    def with_name(self, name: str) -> Remote:
        """Return the location beside it with another name."""
        return Remote(self.protocol, str(self._pure.with_name(name)))

    @property
    def fs(self) -> Any:
        """The filesystem, of this process."""
        return filesystem(self.protocol)

    def exists(self) -> bool:
        """Whether there is such an object, or one below it. A missing bucket is an error."""
        with storage_errors(str(self)):
            if self.fs.exists(self.key):
                return True
            bucket = self.key.split("/", 1)[0]
            if self.protocol in ("s3", "s3a") and not self.fs.exists(bucket):
                raise no_bucket_error(str(self))
        return False

    def read_bytes(self) -> bytes:
        """Return an object; FileNotFoundError if there is none."""
        with storage_errors(str(self)):
            return bytes(self.fs.cat_file(self.key))

    def read_text(self, encoding: str = "utf-8") -> str:
        """Return an object as text."""
        return self.read_bytes().decode(encoding)

    def write_bytes(self, data: bytes) -> None:
        """Put an object by one request: afterwards it is there as a whole, or unchanged."""
        with storage_errors(str(self)):
            self.fs.pipe_file(self.key, data)

    def objects(self) -> dict[str, dict[str, Any]]:
        """Return the objects below it: relative name → size, and ETag where there is one."""
        with storage_errors(str(self)):
            found = self.fs.find(self.key, detail=True)
        start = len(self.key.strip("/")) + 1
        names = {path.strip("/")[start:]: info for path, info in found.items()}
        return {name: info for name, info in names.items() if name}  # itself, were it an object

    def glob(self, pattern: str) -> list[Remote]:
        """Return the objects below it that match, in the order of their names."""
        with storage_errors(str(self)):
            found = self.fs.glob(f"{self.key}/{pattern}")
        return [Remote(self.protocol, str(path).strip("/")) for path in sorted(found)]


Location = Path | Remote
LocationLike = str | os.PathLike[str] | Remote


def locate(path: LocationLike) -> Location:
    """Return a local path, or the location that a URL names.

    Raises
    ------
    ArgumentError
        For what is neither a path nor a URL, a URL that carries credentials or options, and one
        that went through ``pathlib``.
    InputError
        What is there is neither a file nor a folder.
    """
    if isinstance(path, Remote):
        return path
    check_path(path)
    text = os.fspath(path)
    found = _URL.match(text)
    if found is None:
        if _MANGLED.match(text):
            raise ArgumentError(
                f"{text!r} was a URL before it became a pathlib.Path; pass the URL as a string"
            )
        return _ordinary(Path(path))
    protocol, key = found[1].lower(), found[2].rstrip("/")
    if protocol == "file":
        return _ordinary(Path("/" + key.lstrip("/")))
    bucket = key.split("/", 1)[0]
    if "@" in bucket or "?" in key:
        raise ArgumentError(
            f"a {protocol}:// URL with credentials or options in it is not taken, since it would "
            f"end up in logs and reports; pass {protocol}://bucket/name, and put credentials into "
            "the environment or ~/.aws"
        )
    if not bucket or ".." in key.split("/") or set(key) & set("*[]"):
        raise ArgumentError(f"{protocol}://{key} names no place; pass {protocol}://bucket/name")
    return Remote(protocol, key)


def check_path(path: Any, what: str = "a path or URL") -> None:
    """Refuse what is not a path, and say how to make one of it.

    Raises
    ------
    ArgumentError
    """
    if isinstance(path, str | os.PathLike) and isinstance(os.fspath(path), str):
        return
    kind = type(path).__name__
    found = repr(path) if path is None or isinstance(path, bool | int | float) else f"a {kind}"
    way = AS_FILE.get(kind)
    raise ArgumentError(f"needed is {what}, found {found}{f'; {way}' if way else ''}")


def absolute(path: LocationLike) -> Location:
    """Return a location that means the same in workers with another working directory."""
    found = locate(path)
    return found.absolute() if isinstance(found, Path) else found


def check_apart(store: LocationLike, out: Location, replaced: Iterable[str]) -> None:
    """Refuse an output inside a store, and a store inside a folder that the output replaces.

    Raises
    ------
    ArgumentError
    """
    mine, other = (_parts(locate(path)) for path in (store, out))
    taken = [(*other, name) for name in replaced]
    if other[: len(mine)] == mine or any(mine[: len(parts)] == parts for parts in taken):
        raise ArgumentError(
            f"the store {store} and the output {out} are one inside the other; write to another "
            "place (out=, --out)"
        )


def _parts(where: Location) -> tuple[str, ...]:
    return Path(str(where)).parts if isinstance(where, Remote) else where.resolve().parts


def local_path(path: LocationLike, what: str) -> Path:
    """Return a path; refuse a URL where only files on a disk will do."""
    found = locate(path)
    if isinstance(found, Remote):
        raise ArgumentError(f"{what} has to be a local path, got {found}")
    return found


def input_path(path: LocationLike, what: str) -> Path:
    """Return the local path of a file or folder that is there, to be read.

    Parameters
    ----------
    path
        What the user passed.
    what
        What it should be, for messages: ``"a table of labels"``.

    Raises
    ------
    NotFoundError
        There is nothing.
    ArgumentError, InputError
        It is a URL; it is neither a file nor a folder.
    """
    found = local_path(path, what)
    if not found.exists():
        raise NotFoundError(f"there is no file or folder {found}, which should be {what}")
    return found


# --- what can't be read as a file ----------------------------------------------------------------

_KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def _ordinary(path: Path) -> Path:
    """Return a path; refuse what is neither file nor folder: reading it might never end."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # nothing there, or nothing that may be looked at
        return path
    kind = next((name for is_kind, name in _KINDS if is_kind(mode)), None)
    if kind is not None:
        raise InputError(
            f"{path} is {kind}, which has no end to wait for and can't be read twice; save what "
            "comes out of it as a file, and pass that"
        )
    return path


def check_folder(folder: Path, *, links: bool = False) -> None:
    """Refuse a folder with entries that lead out of it, before it is read.

    Parameters
    ----------
    folder
        Such as a Zarr store. A link to it as a whole is nothing to refuse.
    links
        Whether links to files and folders outside of it are followed.

    Raises
    ------
    InputError
        Something in it is a link that leaves it, a link to nothing, a pipe, a socket or a device.
    """
    top = folder.resolve()
    waiting = [top]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_symlink():
                    _check_link(Path(entry.path), top, links=links)
                elif entry.is_dir(follow_symlinks=False):
                    waiting.append(Path(entry.path))
                elif not entry.is_file(follow_symlinks=False):
                    _ordinary(Path(entry.path))


def _check_link(link: Path, top: Path, *, links: bool) -> None:
    target = Path(os.path.realpath(link))
    if not _ordinary(target).exists():
        raise InputError(f"{link} is a link to {target}, which is not there; copy the folder whole")
    if not links and not target.is_relative_to(top):
        raise InputError(
            f"{link} is a link to {target}, outside of {top}; copy the folder with what its links "
            "lead to (cp -rL)"
        )


# --- for the libraries that read ------------------------------------------------------------------


def for_zarr(where: Location) -> Any:
    """Return what zarr and xarray open: a path, or a store that fetches objects."""
    return str(where) if isinstance(where, Path) else zarr_store(where.protocol, where.key)


def for_arrow(where: Location) -> Any:
    """Return what pyarrow reads as a small file: a path, or its bytes."""
    return where if isinstance(where, Path) else pa.BufferReader(where.read_bytes())


def arrow_filesystem(where: Location) -> Any:
    """Return the filesystem in which pyarrow finds files below a location; None for local ones."""
    if isinstance(where, Path):
        return None
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    return PyFileSystem(FSSpecHandler(where.fs))
