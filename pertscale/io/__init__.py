"""Files: everything that reads or writes bytes."""

from pertscale.io.ingest import Account, check, ingest

__all__ = ["Account", "check", "ingest"]
