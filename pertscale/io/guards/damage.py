"""Where exceptions of the format libraries on damaged files become a CorruptFileError."""

from __future__ import annotations

import csv
import struct
import sys
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from pertscale.errors import ArgumentError, CorruptFileError, InputError, PertscaleError
from pertscale.storage.object_storage import storage_errors

#: What HDF5, Zarr, the codecs, NumPy, pandas and csv raise on bytes that make no sense.
DAMAGE: tuple[type[Exception], ...] = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    SystemError,
    zlib.error,
    zipfile.BadZipFile,
    csv.Error,
    struct.error,
)


@contextmanager
def file_errors(where: str, *, remedy: str = "copy, download or write it again") -> Iterator[None]:
    """Turn what the format libraries raise on damaged files into a CorruptFileError.

    `where` names the file, the dataset in it and the rows: it starts the message; `remedy` ends it.
    Put it around calls into the libraries only: a bug of ours would look like damage of the file.
    """
    try:
        with storage_errors(where):
            yield
    except PertscaleError:
        raise
    except DAMAGE as error:
        reason = str(error).strip("'\"") or type(error).__name__
        raise CorruptFileError(
            f"{where} can't be read ({reason}); the file is incomplete or damaged: {remedy}"
        ) from error
    except _unknown_to_anndata() as error:
        raise InputError(
            f"{where} is stored in a way that this version of anndata does not know "
            f"({str(error).splitlines()[0]}): update anndata, or let the program that made the "
            "file write it anew"
        ) from error
    except MemoryError as error:  # a size inside of a chunk, which nothing but reading shows
        raise CorruptFileError(
            f"{where} asks for more memory than there is ({error or 'no size given'}); the file is "
            "damaged or forged, or it needs a larger machine"
        ) from error


def _unknown_to_anndata() -> tuple[type[Exception], ...]:
    """Return anndata's error, which has no public name; it is imported by those who use it alone.

    Half of the imports of a worker would be anndata's.
    """
    registry = sys.modules.get("anndata._io.specs.registry")
    return () if registry is None else (registry.IORegistryError,)


@contextmanager
def naming_file(path: object) -> Iterator[None]:
    """Add the file to the message of an error about it that does not name it."""
    try:
        yield
    except (InputError, ArgumentError) as error:
        if str(path) in str(error):
            raise
        raise type(error)(f"{error} ({path})") from error
