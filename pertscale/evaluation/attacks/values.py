"""What attacks score, by the package's own rules (method R2).

Expression is scored as the benchmark scores files of others: what is not predicted counts as no
change, so that nothing is gained by leaving it out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pertscale.errors import InputError
from pertscale.evaluation.attacks.classes import Called
from pertscale.evaluation.attacks.known import Known
from pertscale.evaluation.attacks.registry import ATTACKS, Attack, Kind
from pertscale.evaluation.classification import ScoredPairs, scored_both
from pertscale.evaluation.expression import (
    N_GENES,
    evaluate_expression,
    top_genes,
    undefined_counts_as_none,
)
from pertscale.evaluation.operating_point import share_changed
from pertscale.evaluation.resampling.draws import Draws
from pertscale.evaluation.resampling.pairs import resampled_scores
from pertscale.evaluation.resampling.versions import Versions, mean_of, ratios
from pertscale.evaluation.target_genes import Targets
from pertscale.schema import CLASSES, Label

#: Names of what marks the other end of the scale.
TRUTH: Final = "truth"
REPLICATE: Final = "replicate"
#: Times that rows of a random attack are dealt out anew; of classes, where a row has many pairs.
_DEALS: Final = 50
_CLASS_DEALS: Final = 5
#: Says how many perturbations are not predicted, which is no score here: they count as unchanged.
_COUNT: Final = "n_without_prediction"

#: Columns that name a score of classes.
_OF_SCORE: Final = ["operating_point", "level", "group", "metric"]
#: Metric and operating point.
Key = tuple[str, str]
#: What one attack scores: the mean over perturbations, also resampled.
Scores = dict[Key, Versions]

#: Changes from the control (perturbation, gene), which pairs are tested, the share that is
#: differentially expressed in training → labels and class scores.
Classify = Callable[[NDArray, np.ndarray, float], Called]


@dataclass(frozen=True, eq=False, kw_only=True)
class AuditedClasses:
    """Classes of the audited perturbations, and how changes become classes.

    Attributes
    ----------
    train, truth : ndarray (perturbation, gene), int8
        Observed labels of the training and of the held-out perturbations; ``Label.UNTESTED`` where
        there is none.
    classify : callable
        The package's rule for files: ``(changes, tested, rate) → (labels, class scores)``, with
        changes from control (perturbation, gene), which of these pairs are tested, and the share of
        differentially expressed pairs in training.
    replicate : tuple of ndarray, optional
        Labels, and class scores with a last axis of 3, of an independent measurement.
    """

    train: NDArray[np.int8]
    truth: NDArray[np.int8]
    classify: Classify
    replicate: Called | None = None

    @property
    def rate(self) -> float:
        """Share of the tested training pairs that is differentially expressed."""
        return share_changed(self.train) or 0.0


@dataclass(frozen=True, eq=False, kw_only=True)
class Audited:
    """What attacks are scored on.

    Attributes
    ----------
    known : Known
    genes : sequence of str
    truth : ndarray (perturbation, gene)
        Observed profiles of what is held out.
    target_genes : mapping, optional
    targets : {'exclude', 'include'}
    replicate : ndarray (perturbation, gene), optional
    classes : AuditedClasses, optional
    draws : Draws
        Of all perturbations that any split holds out.
    turn : (int, int)
        Which of how many truths of the same perturbations this is: random attacks on expression
        are dealt out once for all of them.
    """

    known: Known
    genes: Sequence[str]
    truth: NDArray
    target_genes: Mapping[str, Sequence[str]] | None
    targets: Targets
    replicate: NDArray | None
    classes: AuditedClasses | None
    draws: Draws
    turn: tuple[int, int] = (0, 1)

    def __post_init__(self) -> None:
        wanted = (len(self.known.held_out), len(self.genes))
        given = {TRUTH: self.truth, REPLICATE: self.replicate}
        if self.classes is not None:
            given["labels of the truth"] = self.classes.truth
        for what, values in given.items():
            if values is not None and values.shape != wanted:
                raise InputError(
                    f"{what} has shape {values.shape}; with {wanted[0]} held-out perturbations and "
                    f"{wanted[1]} genes it has to be {wanted}"
                )

    def scores(self) -> dict[str, Scores]:
        """Return what each attack scores that needs no cells, and the ends of the scale."""
        found = self.expression_scores()
        if self.classes is not None:
            for name, scores in self.class_scores(self.classes).items():
                found[name] = found.get(name, {}) | scores
        return found

    def expression_scores(self) -> dict[str, Scores]:
        """Return the scores of expression."""
        ends = {TRUTH: self.truth, REPLICATE: self.replicate}
        predicted = self._predicted | {n: one for n, one in ends.items() if one is not None}
        return {name: self._expression(name, values) for name, values in predicted.items()}

    def class_scores(self, classes: AuditedClasses) -> dict[str, Scores]:
        """Return the scores of classes."""
        tested = classes.truth != Label.UNTESTED
        rate = share_changed(classes.truth) or 0.0
        called: dict[str, Called] = {
            name: attack.make(self.known, rate) for name, attack in of_kind("classes").items()
        }
        called[TRUTH] = classes.truth, _certain(classes.truth)
        if classes.replicate is not None:
            called[REPLICATE] = classes.replicate
        for name, predicted in self._predicted.items():
            change = predicted - self.known.control
            called[name] = classes.classify(change, tested, classes.rate)
        return {name: self._classes(name, *both, classes) for name, both in called.items()}

    def scores_of_cells(self, found: Mapping[str, tuple[NDArray, Called]]) -> dict[str, Scores]:
        """Return both of predicted cells, which were tested: profiles and classes by attack."""
        assert self.classes is not None
        return {
            name: self._expression(name, profiles) | self._classes(name, *called, self.classes)
            for name, (profiles, called) in found.items()
        }

    # --- one prediction -------------------------------------------------------------------------

    @cached_property
    def _predicted(self) -> dict[str, NDArray]:
        """What attacks on profiles predict."""
        return {
            name: np.asarray(attack.make(self.known, self.known.generator(name)), np.float64)
            for name, attack in of_kind("profiles").items()
        }

    def _expression(self, name: str, predicted: NDArray) -> Scores:
        """Score profiles; only the genes that count are looked at."""
        chosen, control = self._chosen, self.known.control[self._chosen]
        predicted = predicted[:, chosen]
        predicted = np.where(np.isnan(predicted), control, predicted)
        tables = (
            evaluate_expression(
                self.truth[:, chosen],
                values,
                control,
                background=self.known.mean[chosen],
                perturbations=self.known.held_out,
                genes=[self.genes[i] for i in chosen],
                targets=self.targets,
                target_genes=self.target_genes,
            )
            for (values,) in _dealt(name, _DEALS, predicted, turn=self.turn)
        )
        return _means([self._of_perturbations(table) for table in tables])

    def _of_perturbations(self, table: pd.DataFrame) -> Scores:
        """Return means over perturbations, also resampled; figures of all have no resamples."""
        names = self.known.held_out
        details = table[table["level"] == "perturbation"]
        metrics = list(dict.fromkeys(details["metric"]))
        values = details["value"].to_numpy(np.float64).reshape(len(names), len(metrics))
        counted = np.isfinite(values)
        none = np.array([undefined_counts_as_none(m) for m in metrics]) & counted.any(axis=0)
        found = ratios(self.draws, names, np.where(counted, values, 0.0), counted | none)
        scores = {(m, ""): _statistic(found, i) for i, m in enumerate(metrics)}
        overall = table[(table["level"] == "overall") & ~table["metric"].isin([*metrics, _COUNT])]
        for metric, value in zip(overall["metric"], overall["value"], strict=True):
            alone = np.full((1, found.values.shape[1]), np.nan)
            alone[0, 0] = value
            scores[metric, ""] = Versions(alone, found.n_resamples, found.present)
        return scores

    @cached_property
    def _chosen(self) -> np.ndarray:
        return np.sort(top_genes(self.known.control, N_GENES))

    def _classes(
        self, name: str, labels: NDArray, scores: NDArray, classes: AuditedClasses
    ) -> Scores:
        left_out = np.argwhere(self.known.asked) if self.targets == "exclude" else None
        both = (
            scored_both(
                classes.truth,
                called,
                perturbations=self.known.held_out,
                scores=its_scores,
                exclude=left_out,
                training_rate=classes.rate,
            )
            for called, its_scores in _dealt(name, _CLASS_DEALS, labels, scores)
        )
        return _means([self._of_pairs(scored) for _, scored in both])

    def _of_pairs(self, scored: ScoredPairs) -> Scores:
        assert scored.sums is not None
        keys, found = resampled_scores(scored.sums, self.draws, self.known.held_out)
        exact = scored.table.set_index(_OF_SCORE)["value"]
        found = found.shifted_to(np.array([exact[key] for key in keys]))
        of_all = [(i, key) for i, key in enumerate(keys) if key[1] == "overall"]
        return {(metric, point): _statistic(found, i) for i, (point, _, _, metric) in of_all}


def of_kind(kind: Kind) -> dict[str, Attack]:
    """Return the attacks of a kind by name."""
    return {name: attack for name, attack in ATTACKS.items() if attack.kind == kind}


def _dealt(
    name: str, most: int, *arrays: NDArray, turn: tuple[int, int] = (0, 1)
) -> Iterator[tuple[NDArray, ...]]:
    """Yield predictions; of a random attack with the rows moved on, evenly, so often at most.

    Which perturbation gets which row is chance, and a mean rank of few rows is far from a half by
    chance alone. When every perturbation has had every row, none is left. On several truths the
    deals take turns, at least one each.
    """
    if not (name in ATTACKS and ATTACKS[name].is_random):
        yield arrays
        return
    n, (mine, n_truths) = len(arrays[0]), turn
    starts = np.unique(np.linspace(0, n, min(n, most), endpoint=False).astype(int))
    for start in starts[mine % len(starts) :: n_truths]:
        yield tuple(np.roll(array, start, axis=0) for array in arrays)


def _statistic(found: Versions, i: int) -> Versions:
    return Versions(found.values[i : i + 1], found.n_resamples, found.present)


def _means(deals: Sequence[Scores]) -> Scores:
    """Return the means over deals."""
    return {key: mean_of([one[key] for one in deals]) for key in deals[0]}


def _certain(labels: NDArray[np.int8]) -> NDArray[np.float32]:
    """Return class scores of 0 and 1; none where there is no label."""
    scores = np.stack([labels == label for label in CLASSES], axis=-1).astype(np.float32)
    scores[labels == Label.UNTESTED] = np.nan
    return scores
