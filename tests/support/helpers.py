"""What several test modules share."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent.parent
ROOT = TESTS.parent
GOLDEN = TESTS / "golden"
#: Real screens that may be passed on, each with its licence.
SHIPPED = TESTS / "data"


@dataclass(frozen=True)
class Needed:
    """Files that tests need and that the project may not pass on, or does not."""

    what: str
    source: str
    files: tuple[Path, ...]

    @property
    def is_there(self) -> bool:
        """Whether all of them are at hand."""
        return all(file.exists() for file in self.files)


def _folder(variable: str, default: str) -> Path:
    return Path(os.environ.get(variable, ROOT.parent / "shared" / default))


DATA = _folder("PERTSCALE_DATA", "data")
PUBLISHED = _folder("PERTSCALE_GOLDEN", "spec/golden")

#: By the argument of the marker ``needs``.
NEEDED = {
    "perturbqa": Needed(
        "PerturbQA's label tables (LINE-de.csv and LINE-dir.csv of four cell lines; for research "
        "only, not to be passed on)",
        "github.com/genentech/PerturbQA; put them into $PERTSCALE_DATA/perturbqa",
        (DATA / "perturbqa",),
    ),
    "genept": Needed(
        "vectors and summaries of genes (Embedding_small.csv.gz, GeneSummary.json)",
        "github.com/PancakeZoy/scouter_misc; put them into $PERTSCALE_DATA/genept",
        (DATA / "genept",),
    ),
    "published": Needed(
        "values that the second paper published (perturbation_prediction.xlsx, and what was taken "
        "from it and from Table 3 of the first)",
        "source data of doi.org/10.1038/s41592-025-02772-6; put the sheets into "
        "$PERTSCALE_DATA/ahlmann_eltze, and what was taken from them into $PERTSCALE_GOLDEN",
        (
            DATA / "ahlmann_eltze" / "perturbation_prediction.xlsx",
            PUBLISHED / "fig2c_ratio.json",
            PUBLISHED / "splits_norman.json",
        ),
    ),
}


def real_data(name: str) -> Path:
    """Return the path of a real data set: of one that ships, else of one in ``PERTSCALE_DATA``."""
    found = next((folder / name for folder in (SHIPPED, DATA) if (folder / name).exists()), None)
    if found is None:
        pytest.fail(
            f"{name!r} does not ship; mark the test with needs(…), see tests/support/helpers.py"
        )
    return found


def published_golden(name: str) -> Path:
    """Return the path of a golden file with published values, which the project does not carry."""
    return PUBLISHED / name


#: Files of a result that tell of the run's course.
TIMED = ("timings.parquet", "report.html", "log.jsonl", ".lock")


def stable_hash(folder: Path) -> dict[str, str]:
    """Hash of every file of a result, but for those that tell of the run's course."""
    return {name: value for name, value in tree_hash(folder).items() if name not in TIMED}


def tree_hash(folder: Path) -> dict[str, str]:
    """Hash of every file below a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
