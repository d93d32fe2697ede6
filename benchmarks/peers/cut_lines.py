"""Cuts a screen of several cell lines into a file of each: FILE FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path

from stages import Stages, report

LINE = "cell_line"


def cut(source: Path, folder: Path) -> None:
    """Write ``LINE.h5ad`` for every line of an h5ad, one in memory at a time."""
    import anndata

    data = anndata.read_h5ad(source, backed="r")
    for line in data.obs[LINE].unique():
        part = data[(data.obs[LINE] == line).to_numpy()].to_memory()
        part.write_h5ad(folder / f"{line}.h5ad")


def main() -> None:
    """Run."""
    stages = Stages()
    with stages("cut"):
        cut(Path(sys.argv[1]), Path(sys.argv[2]))
    report(stages)


if __name__ == "__main__":
    main()
