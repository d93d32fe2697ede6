"""The genetic interactions of a context as a run keeps them: the pairs are on disk."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa

from pertscale.benchmark.units.kept import is_kept, keeping
from pertscale.io.parquet import read_arrow, read_table, table_file
from pertscale.schema import INTERACTION_COLUMNS
from pertscale.stats.interactions import Interactions

_PAIRS: Final = "pairs.parquet"


@dataclass(frozen=True)
class CalledInteractions:
    """Calls of one context; its pairs, some 200 bytes each, are read where they are needed.

    Attributes
    ----------
    path : Path
        Folder that keeps the pairs.
    record : dict
        The null and the limits of the calls, for the manifest.
    """

    path: Path
    record: dict[str, Any]

    @classmethod
    def keep(cls, path: Path, context: str, found: Interactions) -> CalledInteractions:
        """Write the pairs of a context, unless the folder that is named by them is whole."""
        if not is_kept(path):
            with keeping(path) as temporary:
                temporary.mkdir(parents=True)
                with table_file(temporary / _PAIRS, declared=INTERACTION_COLUMNS) as write:
                    write(found.table.assign(context=context))
        return cls(path, _record(found))

    def table(self) -> pd.DataFrame:
        """Read the pairs (:data:`pertscale.schema.INTERACTION_COLUMNS`)."""
        return read_table(self.path / _PAIRS)

    def rows(self) -> pa.Table:
        """Read the same, to write them again."""
        return read_arrow(self.path / _PAIRS, INTERACTION_COLUMNS)


def _record(found: Interactions) -> dict[str, Any]:
    return {
        "null": {name: _finite(value) for name, value in asdict(found.fit.null).items()},
        "lower": _finite(found.lower),
        "upper": _finite(found.upper),
        "rule": found.rule,
        "threshold": found.threshold,
        "level": found.level,
        "misfit": _finite(found.fit.misfit),
        "notes": list(found.fit.notes),
    }


def _finite(value: float) -> float | None:
    """Return a number for JSON, which has neither infinity nor NaN."""
    return value if np.isfinite(value) else None
