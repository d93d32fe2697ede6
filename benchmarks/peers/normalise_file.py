"""Writes log1p of counts per 10,000 of an h5ad, as CSR and as CSC, into a folder."""

from __future__ import annotations

import sys
from pathlib import Path

from stages import load, log_normalise


def main() -> None:
    """Run: FILE FOLDER."""
    data, folder = load(sys.argv[1]), Path(sys.argv[2])
    log_normalise(data.X)
    data.write_h5ad(folder / "log.h5ad")
    data.X = data.X.tocsc()
    data.write_h5ad(folder / "log-csc.h5ad")


if __name__ == "__main__":
    main()
