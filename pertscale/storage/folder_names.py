"""Names of folders and files made from names that come from data or from users.

Contexts, splits, methods and stores may be called anything: ``../../x``, a text of 300 characters,
two that differ only by case. Their part of a path is made here, and nowhere else.
"""

from __future__ import annotations

import re

from pertscale.hashing import digest

#: Needs no change: lower case, so that no two are one folder where case does not count.
_PLAIN = re.compile(r"[a-z][a-z0-9_-]{0,40}")
_LIKE_SLUG = re.compile(r".*-[0-9a-f]{8}")
#: Devices on Windows, whatever follows after a dot.
DEVICES = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.IGNORECASE | re.DOTALL)


def slug(name: str) -> str:
    """Return part of a file name for any name: safe, readable, and distinct by its hash."""
    plain = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:40]
    return f"{plain}-{digest(name)[:8]}"


def folder_name(name: str) -> str:
    """Return a plain name, such as ours are, unchanged, and the :func:`slug` of any other."""
    plain = _PLAIN.fullmatch(name) and not DEVICES.fullmatch(name)
    return name if plain and not _LIKE_SLUG.fullmatch(name) else slug(name)
