"""Scores of classes by quartiles of the held-out perturbations (method P4), from kept sums."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from pertscale.benchmark.resampling.tables import ScoredTable
from pertscale.benchmark.units.sums import PAIR_SUMS_FILE, read_sums
from pertscale.evaluation.resampling.pairs import PairSums, scores_of_sums

_QUARTILES: Final = (0.25, 0.5, 0.75)
#: Setting, method, and what its strata are made by.
_Key = tuple[str, str, str]


@dataclass
class _Found:
    """Scores of a stratum in each split and from each source, and what they are of."""

    values: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    splits: set[str] = field(default_factory=set)
    n_pairs: int = 0


def scores_by_stratum(table: ScoredTable) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table (:data:`pertscale.schema.STRATA_COLUMNS`): means over splits."""
    strata = {kind: quartiles(of, list(table.targets)) for kind, of in table.sizes.items()}
    found: dict[_Key, dict[int, _Found]] = {}
    for unit in table.units if strata else ():
        for setting, (names, sums) in read_sums(unit.folder / PAIR_SUMS_FILE).items():
            for kind, of_name in strata.items():
                of_method = found.setdefault((setting, unit.method, kind), {})
                _add(of_method, unit.split, names, sums, of_name)
    head = {"task": table.task, "context": table.context, "train_contexts": table.source}
    for (setting, method, kind), of_method in found.items():
        for quartile, one in sorted(of_method.items()):
            sizes = [table.sizes[kind][name] for name in one.names]
            where = {**head, "setting": setting, "method": method, "stratum": kind}
            counts = {
                "quartile": quartile,
                "low": min(sizes),
                "high": max(sizes),
                "n_perturbations": len(one.names),
                "n_pairs": one.n_pairs,
                "n_splits": len(one.splits),
            }
            for (point, metric), values in one.values.items():
                known = [value for value in values if np.isfinite(value)]
                value = float(np.mean(known)) if known else np.nan
                scored = {"operating_point": point, "metric": metric, "value": value}
                yield {**where, **scored, **counts}


def quartiles(sizes: Mapping[str, float], names: Sequence[str]) -> dict[str, int]:
    """Return the quartile of each name, 1 to 4; names of equal size are in one."""
    values = np.array([sizes[name] for name in names], np.float64)
    at = 1 + np.searchsorted(np.quantile(values, _QUARTILES), values, side="left")
    return dict(zip(names, map(int, at), strict=True))


def _add(
    found: dict[int, _Found],
    split: str,
    names: Sequence[str],
    sums: PairSums,
    of_name: Mapping[str, int],
) -> None:
    """Add the scores of the strata of a unit; perturbations without pairs are in none."""
    per_row = next(iter(sums.called.values())).sum(axis=(1, 2))
    at = np.where(per_row > 0, [of_name[name] for name in names], 0)
    for quartile in map(int, np.unique(at[at > 0])):
        rows = np.flatnonzero(at == quartile)
        one = found.setdefault(quartile, _Found())
        one.names |= {names[row] for row in rows.tolist()}
        one.splits.add(split)
        one.n_pairs += int(per_row[rows].sum())
        for (point, level, _, metric), value in scores_of_sums(sums, rows):
            if level == "overall":
                one.values.setdefault((point, metric), []).append(value)
