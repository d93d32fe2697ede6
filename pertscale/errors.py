"""Every error and warning that pertscale raises.

Each error also derives from the builtin that fits, so ``except ValueError`` works as expected.
A message says what was found, what is needed, what to do, and where.
"""

from __future__ import annotations

from collections.abc import Iterable


class PertscaleError(Exception):
    """Base of every error that pertscale raises on purpose."""


class InputError(PertscaleError, ValueError):
    """A file, table or argument has content that can't be used."""


class ArgumentError(PertscaleError, ValueError):
    """An argument has a value that is not among the allowed ones."""


class NegativeValueError(InputError):
    """A matrix has a value below zero, which neither counts nor their logarithms have."""


class AmbiguousInputError(InputError):
    """The input can be read in several ways, and the user has to choose."""


class CorruptFileError(PertscaleError, OSError):
    """A file is truncated, damaged, or not of the format its name promises."""


class NotFoundError(PertscaleError, FileNotFoundError):
    """A file or folder that was asked for does not exist."""


class UnknownNameError(PertscaleError, KeyError):
    """A perturbation, gene, context, split or method is not there."""

    def __str__(self) -> str:  # KeyError would show the repr of the message
        return str(self.args[0]) if self.args else ""


class ExistsError(PertscaleError, FileExistsError):
    """The output exists already, and overwriting was not asked for."""


class MemoryBudgetError(PertscaleError, MemoryError):
    """A step does not fit the memory that was allowed."""


class NotFittedError(PertscaleError, ValueError, AttributeError):
    """``predict`` was called before ``fit``."""


class ClusterError(PertscaleError, RuntimeError):
    """The Dask cluster can't do the work: no worker comes, versions differ, it is gone."""


class TaskError(PertscaleError, RuntimeError):
    """Tasks of a map failed, the others are done."""


class StorageError(PertscaleError, OSError):
    """A disk is full, read-only, or not writable; object storage can't be reached, or refuses."""


class LockedError(PertscaleError, RuntimeError):
    """Another process works in the same output folder."""


class PertscaleWarning(UserWarning):
    """Something that the user should look at, while the work goes on."""


def did_you_mean(name: str, known: Iterable[str], *, most: int = 1) -> str:
    """Return ``"; did you mean 'x'?"`` with the names that are close; empty where none is."""
    import difflib

    spelled = {str(one).lower(): str(one) for one in known}
    close = difflib.get_close_matches(name.lower(), list(spelled), n=most)
    return f"; did you mean {' or '.join(repr(spelled[one]) for one in close)}?" if close else ""
