"""One table resampled: intervals of its scores, and which differences and ranks are real."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from scipy.stats import t as student

from pertscale.baselines.registry import CEILINGS, REFERENCES, is_baseline
from pertscale.benchmark.resampling.calibrated import calibrations, scale_of
from pertscale.benchmark.resampling.strata import scores_by_stratum
from pertscale.benchmark.resampling.tables import ScoredTable, ScoredUnit
from pertscale.benchmark.resampling.versions_of import KEYS, Scores, versions_of
from pertscale.benchmark.units.kept import is_kept, keeping
from pertscale.benchmark.units.running import map_tasks
from pertscale.evaluation.calibration import scaled_score
from pertscale.evaluation.metrics import METRICS
from pertscale.evaluation.resampling.comparing import compare_methods, rank_methods
from pertscale.evaluation.resampling.draws import Draws
from pertscale.evaluation.resampling.intervals import FEWEST
from pertscale.evaluation.resampling.versions import Versions
from pertscale.execution.allocator import trim
from pertscale.execution.blas import one_blas_thread
from pertscale.io.parquet import declared_frame, write_table
from pertscale.schema import (
    CALIBRATION_COLUMNS,
    CALIBRATION_FILE,
    COMPARISON_COLUMNS,
    COMPARISONS_FILE,
    ESTIMATE_COLUMNS,
    ESTIMATES_FILE,
    PARTIAL,
    RANK_COLUMNS,
    RANKS_FILE,
    SCORE_COLUMNS,
    STRATA_COLUMNS,
    STRATA_FILE,
)

#: Intervals of the scores of single splits, by the columns that say whose they are.
INTERVALS_FILE: Final = "intervals.parquet"
INTERVAL_COLUMNS: Final = tuple(
    column for column in SCORE_COLUMNS if column.name not in {"seed", "params", "n", "no_effect"}
)
_TABLES: Final = {
    INTERVALS_FILE: INTERVAL_COLUMNS,
    ESTIMATES_FILE: ESTIMATE_COLUMNS,
    COMPARISONS_FILE: COMPARISON_COLUMNS,
    RANKS_FILE: RANK_COLUMNS,
    CALIBRATION_FILE: CALIBRATION_COLUMNS,
    STRATA_FILE: STRATA_COLUMNS,
}
#: Perturbations of all units together up to which tables are resampled in the process that asked.
LOCAL_DRAWN: Final = 20_000
_LEVEL: Final = 0.975
#: Splits from which on the corrected resampled t interval is given.
_SPLITS: Final = 3


@dataclass(frozen=True)
class ResampleTask:
    """A table by its number in the plan; the name is that of its task in the log."""

    number: int
    name: str


@dataclass(frozen=True, eq=False)
class ResamplePlan:
    """The tables to resample."""

    tables: tuple[ScoredTable, ...]


def resample_tables(tables: Sequence[ScoredTable], *, client: Any, quiet: bool) -> None:
    """Resample tables, each in a task."""
    plan = ResamplePlan(tuple(tables))
    # the largest first, so that none is left at the end
    order = sorted(range(len(tables)), key=lambda at: -len(tables[at].units))
    tasks = [ResampleTask(at, tables[at].title) for at in order]
    n_drawn = sum(len(table.units) * len(table.targets) for table in tables)
    where = client if n_drawn > LOCAL_DRAWN else None
    map_tasks(do_table, tasks, plan, "intervals", where, quiet)


@one_blas_thread()
def do_table(task: ResampleTask, plan: ResamplePlan) -> None:
    """Resample one table, and keep what is made of it; a task that is done again finds it there."""
    table = plan.tables[task.number]
    if is_kept(table.path):
        return
    found = resampled(table)
    with keeping(table.path) as temporary:
        temporary.mkdir(parents=True)
        for name, columns in _TABLES.items():
            write_table(temporary / name, declared_frame(found[name], columns))
    trim()


def resampled(table: ScoredTable) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of each file that is made of a table."""
    draws = table.draws
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in _TABLES}
    head = {"task": table.task, "context": table.context, "train_contexts": table.source}
    means: dict[str, dict[str, _Mean]] = {}
    for units in _by_method(table):
        for (setting, method), of_splits in _by_split(units, table, draws).items():
            where = {**head, "setting": setting, "method": method}
            for split, one in of_splits.items():
                rows[INTERVALS_FILE] += _with_intervals(one, {**where, "split": split})
            mean = _Mean.of_splits(of_splits, units)
            means.setdefault(setting, {})[method] = mean
    n_splits = len({unit.split for unit in table.units})
    for setting, of_method in means.items():
        rows[CALIBRATION_FILE] += _calibrations(of_method, {**head, "setting": setting})
    rows[STRATA_FILE] = list(scores_by_stratum(table))
    rows[ESTIMATES_FILE] = list(_estimates(means, head, rows[CALIBRATION_FILE]))
    for setting, of_method in means.items():
        whole = {
            method: mean
            for method, mean in of_method.items()
            if len(mean.by_split) == n_splits and mean.scores.is_complete
        }
        if setting == PARTIAL or not whole:  # the first are each on perturbations of their own
            continue
        competing = [mean.fewest for method, mean in whole.items() if method not in REFERENCES]
        fewest = min(competing, default=0)
        for key in dict.fromkeys(key for mean in whole.values() for key in mean.scores.keys):
            point, level, _, metric = key
            if level == "overall":
                where = {**head, "setting": setting, "operating_point": point, "metric": metric}
                scored = {m: v for m, mean in whole.items() if (v := mean.scores.of(key))}
                rows[COMPARISONS_FILE] += _comparisons(scored, where, table.references)
                rows[RANKS_FILE] += _ranks(scored, where, fewest)
    return rows


@dataclass(frozen=True, eq=False)
class _Mean:
    """Scores averaged over splits.

    Attributes
    ----------
    scores : Scores
    by_split : ndarray (split, score)
    test_to_train : float
        Perturbations that are held out for each that is trained on, over splits.
    fewest : int
        Clusters of the split that has fewest.
    """

    scores: Scores
    by_split: np.ndarray
    test_to_train: float
    fewest: int

    @classmethod
    def of_splits(cls, of_splits: Mapping[str, Scores], units: Sequence[ScoredUnit]) -> _Mean:
        """Return the mean over splits; `units` are those of the method, of whichever splits."""
        splits = list(of_splits.values())
        scores = Scores.mean(splits)
        ratios = [unit.test_to_train for unit in units if unit.split in of_splits]
        return cls(
            scores=scores,
            by_split=np.stack([one.with_keys(scores.keys).estimate for one in splits]),
            test_to_train=float(np.mean(ratios)),
            fewest=min(one.versions.n_clusters for one in splits),
        )


def _by_method(table: ScoredTable) -> Iterator[list[ScoredUnit]]:
    """Yield the units of each method; those that have all methods together."""
    for method in dict.fromkeys(unit.method for unit in table.units):
        yield [unit for unit in table.units if unit.method == method]


def _by_split(
    units: Sequence[ScoredUnit], table: ScoredTable, draws: Draws
) -> dict[tuple[str, str], dict[str, Scores]]:
    """Return the scores of each setting and method by split.

    Where a table is of several sources they are averaged, if the method was fitted on all of them.
    """
    n_sources = len({unit.source for unit in table.units})
    found: dict[tuple[str, str], dict[str, list[Scores]]] = {}
    for unit in units:
        for setting, method, scores in versions_of(unit, table, draws):
            of_splits = found.setdefault((setting, method), {})
            of_splits.setdefault(unit.split, []).append(scores)
    means = {
        key: {s: Scores.mean(parts) for s, parts in of_splits.items() if len(parts) == n_sources}
        for key, of_splits in found.items()
    }
    return {key: of_splits for key, of_splits in means.items() if of_splits}


def _with_intervals(scores: Scores, where: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return a row for each score, with its interval."""
    versions = scores.versions
    found = versions.interval()
    # areas of bins that are moved to the exact ones may lie beyond what there can be
    least, most = np.array([METRICS[metric].range for *_, metric in scores.keys]).T
    low, high = (np.clip(bound, least, most) for bound in (found.low, found.high))
    columns = (versions.estimate, low, high, found.se)
    return [
        {
            **where,
            **dict(zip(KEYS, key, strict=True)),
            **dict(zip(("value", "low", "high", "se"), map(float, values), strict=True)),
            "n_clusters": int(n),
        }
        for key, n, *values in zip(scores.keys, found.n_clusters, *columns, strict=True)
    ]


def _calibrations(
    of_method: Mapping[str, _Mean], where: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """Yield what each metric of a setting can tell, where replicates were measured."""
    if not set(CEILINGS) & set(of_method):
        return
    for key in dict.fromkeys(key for mean in of_method.values() for key in mean.scores.keys):
        scored = {m: v for m, mean in of_method.items() if (v := mean.scores.of(key))}
        yield from calibrations(scored, key, where)


def _estimates(
    means: Mapping[str, Mapping[str, _Mean]],
    head: Mapping[str, str],
    calibration: Sequence[Mapping[str, Any]],
) -> Iterator[dict[str, Any]]:
    """Yield the estimates of all methods, between floor and ceiling where these are known."""
    told: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in calibration:
        told.setdefault((row["setting"], *(row[name] for name in KEYS)), []).append(row)
    scales: dict[tuple[str, ...], tuple[float, float]] = {}
    for where, rows in told.items():
        setting, point, level, group, metric = where
        key = point, level, group, metric
        scored = {m: v for m, mean in means[setting].items() if (v := mean.scores.of(key))}
        scales[where] = scale_of(scored, metric, rows)
    for method in dict.fromkeys(method for of_method in means.values() for method in of_method):
        for setting, of_method in means.items():
            if method in of_method:
                of_row = {**head, "setting": setting, "method": method}
                for row in _of_splits(of_method[method], of_row):
                    score = setting, *(row[name] for name in KEYS)
                    floor, ceiling = scales.get(score, (np.nan, np.nan))
                    value = scaled_score(row["value"], floor=floor, ceiling=ceiling)
                    yield row | {"scaled": value}


def _of_splits(mean: _Mean, where: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the means over splits with their intervals, and with those of the splits (N4)."""
    rows = _with_intervals(mean.scores, where)
    for row, values in zip(rows, mean.by_split.T, strict=True):
        known = values[np.isfinite(values)]
        n, sd, half = len(known), np.nan, np.nan
        if n > 1:
            sd = float(known.std(ddof=1))
        if n >= _SPLITS:
            half = student.ppf(_LEVEL, n - 1) * sd * np.sqrt(1 / n + mean.test_to_train)
        row |= {"n_splits": n, "sd_splits": sd}
        row |= {"t_low": row["value"] - half, "t_high": row["value"] + half}
    return rows


def _comparisons(
    scored: Mapping[str, Versions], where: Mapping[str, str], references: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Yield the differences to the declared reference, and to the best of the baselines.

    Methods that mark the scale are left out, unless one is the reference: nobody asks whether
    something is better than random, and p-values are adjusted for the number of questions.
    """
    better = bool(METRICS[where["metric"]].greater_is_better)
    defined = {
        method: one
        for method, one in scored.items()
        if np.isfinite(one.estimate[0]) and (method not in REFERENCES or method in references)
    }
    chosen = {"declared": next((name for name in references if name in defined), None)}
    chosen["best_baseline"] = _best(defined, better)
    for kind, reference in chosen.items():
        if reference is not None:
            table = compare_methods(defined, reference=reference, greater_is_better=better)
            yield from ({**where, "kind": kind, **row} for row in table.to_dict("records"))


def _best(scored: Mapping[str, Versions], better: bool) -> str | None:
    """Return the best of pertscale's own baselines."""
    own = {m: one.estimate[0] for m, one in scored.items() if is_baseline(m)}
    return max(own, key=lambda m: own[m] if better else -own[m]) if own else None


def _ranks(
    scored: Mapping[str, Versions], where: Mapping[str, str], fewest: int
) -> Iterator[dict[str, Any]]:
    """Yield the ranks, where there are two methods at least.

    Where a split has few clusters nothing is told apart, as in sentences.
    """
    better = bool(METRICS[where["metric"]].greater_is_better)
    table = rank_methods(scored, greater_is_better=better, references=sorted(REFERENCES))
    n = max((one.n_clusters for one in scored.values()), default=0)
    for row in table.to_dict("records") if len(table) > 1 else ():
        if fewest < FEWEST:
            row |= {"low": np.nan, "high": np.nan, "p_best": np.nan, "in_best_set": True}
        yield {**where, **row, "n_clusters": n}
