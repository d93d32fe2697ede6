"""crispyx's preparation: normalise a count h5ad on disk, then turn it into CSC columns."""

from __future__ import annotations

from pathlib import Path

from arguments import parse
from stages import Stages, report


def main() -> None:
    """Write SCRATCH/csc.h5ad from the file of counts."""
    stages, arguments = Stages(), parse(__doc__)
    with stages("import"):
        import crispyx
    rows, partial = (Path(arguments.scratch) / f"{name}.h5ad" for name in ("csr", "csc-partial"))
    for path in (rows, partial):
        path.unlink(missing_ok=True)
    with stages("normalise"):
        crispyx.normalize_total_log1p(arguments.file, rows, verbose=False)
    with stages("to CSC"):
        crispyx.convert_to_csc(rows, output_path=partial, verbose=False)
    rows.unlink()
    partial.replace(partial.with_name("csc.h5ad"))
    report(stages)


if __name__ == "__main__":
    main()
