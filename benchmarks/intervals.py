"""How often 95 % intervals hold what they should: simulated tables whose truth is known.

``python benchmarks/run.py --only intervals``. Perturbations come in clusters of one to three with
an effect of their own; values are normal or skewed (gamma). For each of 2,000 tables intervals of a
mean, macro F1, an area under the ROC curve, a ratio to a reference, a difference and of ranks are
made as a run makes them.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from typing import Any

import numpy as np

from pertscale.evaluation import Draws, compare_methods, rank_methods, ratios
from pertscale.evaluation.classification import scored_both
from pertscale.evaluation.ranking import RankCounts, tally_class
from pertscale.evaluation.resampling.pairs import PairSums, resampled_scores
from pertscale.evaluation.resampling.versions import Versions
from pertscale.schema import AS_CALLED, CLASSES
from session import Session

N_TABLES = 2000
SIZES = (20, 50, 200)
SHAPES = ("normal", "skewed")
#: Read-out genes of tables of classes, and tables of a task.
_GENES, _AT_ONCE = 50, 100
#: Clusters of the table that stands for the population.
_MANY = 40_000
_ERRORS: dict[str, Any] = {"greater_is_better": False}
#: True differences of four methods from the first.
_METHODS = {"a": 0.0, "b": 0.1, "c": 0.3, "d": 0.6}


def draw(random: np.random.Generator, shape: str, size: Any) -> np.ndarray:
    """Return values of mean 0 and variance 1."""
    if shape == "normal":
        return random.normal(size=size)
    return (random.gamma(2.0, size=size) - 2) / np.sqrt(2)


def clusters(random: np.random.Generator, n: int) -> np.ndarray:
    """Return the cluster of each perturbation."""
    return np.repeat(np.arange(n), random.integers(1, 4, n))


def effects(random: np.random.Generator, shape: str, of: np.ndarray) -> np.ndarray:
    """Return a value for each perturbation: its cluster's and its own."""
    return draw(random, shape, of[-1] + 1)[of] + 0.5 * draw(random, shape, len(of))


def errors(random: np.random.Generator, shape: str, of: np.ndarray) -> dict[str, np.ndarray]:
    """Return the errors of four methods: what is hard for one is hard for all."""
    hard = effects(random, shape, of)
    return {m: 5 + hard + d + 0.3 * draw(random, shape, len(of)) for m, d in _METHODS.items()}


def classes(
    random: np.random.Generator, shape: str, of: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return true classes and scores (perturbation, gene, 3): some clusters are harder to call."""
    share = np.clip(0.15 + 0.06 * draw(random, shape, of[-1] + 1)[of], 0.02, 0.6)
    changed = random.random((len(of), _GENES)) < share[:, None]
    truth = np.where(changed, random.choice([-1, 1], changed.shape), 0).astype(np.int8)
    signal = 1.5 + 0.7 * effects(random, shape, of)
    latent = random.normal([0.0, 1.0, 0.0], size=(*truth.shape, 3))
    at = np.indices(truth.shape)
    latent[at[0], at[1], truth + 1] += signal[:, None]
    return truth, (1 / (1 + np.exp(-latent))).astype(np.float32)


def sums_of(truth: np.ndarray, scores: np.ndarray, names: list[str]) -> PairSums:
    """Return what a unit keeps."""
    calls = np.array(CLASSES, np.int8)[scores.argmax(axis=2)]
    sums = scored_both(truth, calls, perturbations=names, scores=scores)[0].sums
    assert sums is not None
    return sums


@cache
def population(shape: str) -> dict[str, float]:
    """Return macro F1 and the area under the ROC curve of up in a very large table."""
    random = np.random.default_rng(1)
    of = clusters(random, _MANY)
    truth, scores = classes(random, shape, of)
    ranking = RankCounts()
    ranking.add_tally(tally_class(truth, scores, column=2))
    calls, counts = scores.argmax(axis=2), np.zeros((3, 3))
    np.add.at(counts, (truth.ravel() + 1, calls.ravel()), 1)
    f1 = 2 * np.diag(counts) / (counts.sum(axis=0) + counts.sum(axis=1))
    return {"macro F1": float(f1.mean()), "AUROC": ranking.auroc()}


def holds(found: Versions, truth: float) -> bool:
    """Say whether an interval holds the truth."""
    interval = found.interval()
    return bool(interval.low[0] <= truth <= interval.high[0])


def one_table(shape: str, n: int, number: int) -> dict[str, float]:
    """Return for each statistic whether its interval holds the truth, as 1 or 0."""
    random = np.random.default_rng([SHAPES.index(shape), n, number])
    of = clusters(random, n)
    names = [f"P{i}" for i in range(len(of))]
    members = {name: (f"T{at}",) for name, at in zip(names, of, strict=True)}
    draws = Draws.of(f"{shape} {n} {number}", members)

    def mean(values: np.ndarray) -> Versions:
        return ratios(draws, names, values[:, None], np.ones((len(of), 1)))

    values = errors(random, shape, of)
    scored = {method: mean(x) for method, x in values.items()}
    difference = compare_methods(scored, reference="a", **_ERRORS).iloc[0]
    ranks = rank_methods(scored, **_ERRORS).set_index("method")
    true_rank = np.arange(1, len(_METHODS) + 1)
    ranks = ranks.loc[list(_METHODS)]
    in_rank = (ranks["low"] <= true_rank) & (true_rank <= ranks["high"])
    ratio = ratios(draws, names, values["d"][:, None], values["a"][:, None])
    keys, of_classes = resampled_scores(sums_of(*classes(random, shape, of), names), draws, names)
    twin = values["a"] + 0.3 * (draw(random, shape, len(of)) - draw(random, shape, len(of)))
    null = compare_methods({"a": scored["a"], "twin": mean(twin)}, reference="a", **_ERRORS)
    found = {
        "mean": holds(mean(effects(random, shape, of)), 0.0),
        "ratio": holds(ratio, (5 + _METHODS["d"]) / 5),
        "difference": bool(difference["low"] <= -_METHODS["b"] <= difference["high"]),
        "rank": float(in_rank.mean()),
        "best in best set": bool(ranks.loc["a", "in_best_set"]),
        "equal ones told apart": bool(null["p_value"].iloc[0] <= 0.05),
    }
    wanted = {
        "macro F1": (AS_CALLED, "overall", "", "macro_f1"),
        "AUROC": ("", "class", "up", "auroc"),
    }
    for name, key in wanted.items():
        at = keys.index(key)
        one = Versions(of_classes.values[at : at + 1], of_classes.n_resamples, of_classes.present)
        found[name] = holds(one, population(shape)[name])
    return {name: float(value) for name, value in found.items()}


def some_tables(shape: str, n: int, numbers: range) -> list[dict[str, float]]:
    """Return the same of several tables."""
    return [one_table(shape, n, number) for number in numbers]


def measure_intervals(session: Session, *, n_tables: int = N_TABLES) -> None:
    """Simulate all tables; write down how often intervals hold the truth."""
    record = session.record("intervals")
    with ProcessPoolExecutor(2) as pool:
        for shape in SHAPES:
            for n in SIZES:
                key = {"shape": shape, "clusters": n, "tables": n_tables}
                if not record.find(key):
                    record.add(key, {"coverage": _coverage(pool.submit, shape, n, n_tables)})


def _coverage(submit: Callable[..., Any], shape: str, n: int, n_tables: int) -> dict[str, float]:
    starts = range(0, n_tables, _AT_ONCE)
    parts = [range(at, min(at + _AT_ONCE, n_tables)) for at in starts]
    waiting = [submit(some_tables, shape, n, part) for part in parts]
    rows = [row for one in waiting for row in one.result()]
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
