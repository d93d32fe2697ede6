"""What a unit is made of can be sent to a worker, without what it has read of files."""

from __future__ import annotations

from dataclasses import fields
from typing import Any


class Portable:
    """A dataclass whose cached properties are left behind when it is pickled."""

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields."""
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
