"""Read files of screens, and convert them to a store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pertscale._lazy import lazy_names

if TYPE_CHECKING:
    from pertscale.io.ingestion.run import Account, check, ingest

__all__ = ["Account", "check", "ingest"]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_names(
        __name__, dict.fromkeys(__all__, "pertscale.io.ingestion.run")
    )
