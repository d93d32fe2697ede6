"""JSON from outside: no key twice, no text that ends early, no nesting without end."""

from __future__ import annotations

import io
import json
from collections import Counter
from typing import Any, TextIO

from pertscale.errors import CorruptFileError, InputError, NotFoundError
from pertscale.storage.locations import LocationLike, locate


def read_json_file(path: LocationLike, what: str) -> Any:
    """Return what a JSON file holds.

    Parameters
    ----------
    path
        The file.
    what
        What it should be, for messages: ``"a split file"``.

    Raises
    ------
    NotFoundError, CorruptFileError
        There is no such file, or it is not JSON.
    InputError
        A key occurs twice.
    """
    try:
        text = locate(path).read_text(encoding="utf-8")
        return parse_json(io.StringIO(text), path, what)
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no file {path}, which should be {what}") from error
    except UnicodeDecodeError as error:
        raise CorruptFileError(f"not JSON, which {what} is: {error} ({path})") from error


def parse_json(file: TextIO, path: object, what: str) -> Any:
    """Return what an open text file holds as JSON; see :func:`read_json_file`."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if len(content) < len(pairs):
            repeated = Counter(name for name, _ in pairs).most_common(1)[0][0]
            raise InputError(f"the key {repeated!r} occurs twice; keep one of them ({path})")
        return content

    try:
        return json.load(file, object_pairs_hook=unique)
    except (InputError, UnicodeDecodeError):
        raise
    # no JSON, a number of thousands of digits, brackets in brackets without end
    except (ValueError, RecursionError) as error:
        raise CorruptFileError(
            f"not JSON, or not complete JSON, which {what} is: {error} ({path})"
        ) from error
