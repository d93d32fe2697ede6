"""Areas under the ROC and the precision-recall curve, from scores that arrive in blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pertscale.evaluation._kernels import pack_keys, sort_distinct
from pertscale.schema import CLASSES, Label

#: Distinct scores that a :class:`RankCounts` holds before it rounds them (16 bytes each).
MAX_DISTINCT: Final = 2**24
#: Distinct scores that may wait before they are merged; merging less often costs less time.
_MIN_PENDING: Final = 2**20
_SCORE_BITS: Final = np.uint64(32)
_SCORE_MASK: Final = np.uint64(2**32 - 1)
#: Key of a missing score: that of minus infinity.
_MISSING: Final = np.uint64(0x007FFFFF)


@dataclass(frozen=True)
class Tally:
    """Distinct keys of some pairs, ascending, and how often each occurs."""

    positive: tuple[NDArray[np.uint64], NDArray[np.int64]]
    negative: tuple[NDArray[np.uint64], NDArray[np.int64]]


def tally_class(truth: NDArray[np.integer], scores: NDArray[np.floating], *, column: int) -> Tally:
    """Count the scores of a class among its pairs and among all others.

    Parameters
    ----------
    truth
        Labels, shape (perturbation, gene); untested pairs are left out.
    scores
        Class scores, shape (perturbation, gene, 3).
    column
        Position of the class.
    """
    return _tally(truth, scores, column, by_row=False)


def tally_rows(truth: NDArray[np.integer], scores: NDArray[np.floating]) -> Tally:
    """Count, in every row, ``1 - score of non_de`` among changed genes and among the others.

    The order is that of the negated score, without the digits that the subtraction would lose.
    """
    return _tally(truth, scores, CLASSES.index(Label.NON_DE), by_row=True)


def _tally(
    truth: NDArray[np.integer], scores: NDArray[np.floating], column: int, *, by_row: bool
) -> Tally:
    truth = np.ascontiguousarray(truth, dtype=np.int8)
    bits = np.ascontiguousarray(scores, dtype=np.float32).view(np.uint32)
    positive, negative = (np.empty(truth.size, np.uint64) for _ in range(2))
    n_positive, n_negative = pack_keys(
        truth,
        bits,
        column,
        int(CLASSES[column]),
        int(Label.UNTESTED),
        by_row,
        positive,
        negative,
    )
    return Tally(_distinct(positive[:n_positive]), _distinct(negative[:n_negative]))


def _distinct(keys: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return the distinct keys, ascending, and their counts; `keys` is overwritten."""
    counts = np.empty(len(keys), np.int64)
    n = sort_distinct(keys, np.empty_like(keys), counts)
    return keys[:n].copy(), counts[:n].copy()


class RankCounts:
    """How often each score occurs among positives and negatives, for one or many rankings.

    The two areas depend on nothing else, so pairs can be added in blocks, in any order, and are
    not kept: memory is 16 bytes per *distinct* score of a ranking, which for votes of neighbours
    or class frequencies is far fewer than the pairs.

    Parameters
    ----------
    n_rankings
        Number of separate rankings, for example one per perturbation.
    max_distinct
        Limit on the distinct scores. Beyond it, scores are rounded down to as many leading bits
        of the float32 as fit the limit, the same whatever the order of the blocks;
        `rounded_bits` says how many bits went. Peak memory is about four times 16 bytes times
        this limit.

    Attributes
    ----------
    rounded_bits : int
        0 as long as the areas are exact.

    Examples
    --------
    >>> counts = ps.evaluation.RankCounts()
    >>> counts.add([0.9, 0.8, 0.3, 0.1], positive=np.array([True, False, True, False]))
    >>> float(counts.auroc()[0]), round(float(counts.average_precision()[0]), 3)
    (0.75, 0.833)
    """

    def __init__(self, *, n_rankings: int = 1, max_distinct: int = MAX_DISTINCT) -> None:
        self.n_rankings = n_rankings
        self.max_distinct = max_distinct
        self.rounded_bits = 0
        self._positive = _Counts()
        self._negative = _Counts()

    def add(
        self, scores: ArrayLike, *, positive: NDArray[np.bool_], ranking: ArrayLike = 0
    ) -> None:
        """Add pairs.

        Parameters
        ----------
        scores
            Scores, float32 precision, shape (n,); higher means more likely positive. A missing
            score (NaN) ranks below every other, tied with the other missing ones.
        positive
            Whether each pair is a positive, shape (n,).
        ranking
            Number of the ranking each pair belongs to, shape (n,), or one for all.
        """
        keys = (np.asarray(ranking, dtype=np.uint64) << _SCORE_BITS) | _ordered_bits(scores)
        self.add_tally(Tally(_distinct(keys[positive]), _distinct(keys[~positive])))

    def add_tally(self, tally: Tally) -> None:
        """Add pairs that were counted before, by :func:`tally_class` or :func:`tally_rows`."""
        self._positive.add(*tally.positive)
        self._negative.add(*tally.negative)
        if max(self._positive.n_pending, self._negative.n_pending) > max(
            _MIN_PENDING, self._positive.n_merged, self._negative.n_merged
        ):
            self._merge_pending()

    def remove_tally(self, tally: Tally) -> None:
        """Take out pairs that were added."""
        for held, (keys, counts) in (
            (self._positive, tally.positive),
            (self._negative, tally.negative),
        ):
            held.add(keys, -counts)

    def auroc(self) -> NDArray[np.float64]:
        """Return the area under the ROC curve of each ranking, shape (n_rankings,).

        Tied scores count half, as in scikit-learn. NaN where positives or negatives are absent.
        """
        self._merge_pending()
        positive, counts, below, above = self._against_negatives()
        ranking = (positive >> _SCORE_BITS).astype(np.intp)
        n_positive, n_negative = self._totals()
        # below + equal / 2, times two to stay in integers: twice the Mann-Whitney U
        twice_u = np.zeros(self.n_rankings, dtype=np.int64)
        np.add.at(twice_u, ranking, counts * (below + n_negative[ranking] - above))
        return _undefined_as_nan(twice_u / 2, n_positive * n_negative)

    def average_precision(self) -> NDArray[np.float64]:
        """Return the average precision of each ranking, shape (n_rankings,).

        The sum over distinct scores of precision times gain in recall, without interpolation, as
        in scikit-learn. NaN where positives or negatives are absent.
        """
        self._merge_pending()
        positive, counts, below, _ = self._against_negatives()
        ranking = (positive >> _SCORE_BITS).astype(np.intp)
        n_positive, n_negative = self._totals()
        before_ranking = np.cumsum(n_positive) - n_positive
        positives_below = np.cumsum(counts) - counts - before_ranking[ranking]
        true_positives = n_positive[ranking] - positives_below
        false_positives = n_negative[ranking] - below
        gain = counts * (true_positives / (true_positives + false_positives))
        total = np.bincount(ranking, weights=gain, minlength=self.n_rankings)
        return _undefined_as_nan(total, np.where(n_negative > 0, n_positive, 0))

    def reversed(self) -> RankCounts:
        """Return the rankings the other way round: of the negatives, by the negated score.

        Of a class's scores, this is the ranking of all that is not of the class. Missing scores
        stay last.
        """
        self._merge_pending()
        found = RankCounts(n_rankings=self.n_rankings, max_distinct=self.max_distinct)
        found.rounded_bits = self.rounded_bits
        missing = _MISSING & self._mask()
        for tally, mine in ((found._positive, self._negative), (found._negative, self._positive)):
            has_score = mine.keys & _SCORE_MASK != missing
            tally.add(np.where(has_score, mine.keys ^ _SCORE_MASK, mine.keys), mine.counts)
        return found

    def distinct(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the distinct scores of a single ranking, ascending, and how many pairs have each.

        Missing scores are NaN, and come first. Scores that were rounded are the largest of those
        that became the same.
        """
        self._merge_pending()
        both = _Counts()
        for tally in (self._positive, self._negative):
            both.add(tally.keys, tally.counts)
        both.merge_pending(self._mask())
        scores = _scores_of_bits(both.keys | ~self._mask())
        scores[both.keys == _MISSING & self._mask()] = np.nan
        return scores, both.counts

    def _mask(self) -> np.uint64:
        return np.uint64(2**64 - 2**self.rounded_bits)

    def _merge_pending(self) -> None:
        tallies = (self._positive, self._negative)
        for tally in tallies:
            tally.merge_pending(self._mask())
        # Rounding is nested, and a part that needs it means the whole needs it: the number of bits
        # that remain depends on the scores alone, not on when they came.
        while sum(tally.n_merged for tally in tallies) > self.max_distinct and (
            self.rounded_bits < int(_SCORE_BITS)
        ):
            self.rounded_bits += 1
            for tally in tallies:
                tally.round_down(self._mask())

    def _totals(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return self._positive.totals(self.n_rankings), self._negative.totals(self.n_rankings)

    def _against_negatives(
        self,
    ) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return distinct positives: key, count, negatives of the ranking below, and above."""
        keys, counts = self._positive.keys, self._positive.counts
        negative = self._negative.keys
        cumulative = np.concatenate([[0], np.cumsum(self._negative.counts)])
        first_key = keys >> _SCORE_BITS << _SCORE_BITS
        last_key = first_key | np.uint64(2**32 - 1)
        start = cumulative[np.searchsorted(negative, first_key, side="left")]
        left = cumulative[np.searchsorted(negative, keys, side="left")]
        right = cumulative[np.searchsorted(negative, keys, side="right")]
        stop = cumulative[np.searchsorted(negative, last_key, side="right")]
        return keys, counts, left - start, stop - right


class _Counts:
    """Sorted distinct keys with counts; new ones wait in a list until merging pays."""

    def __init__(self) -> None:
        self.keys = np.empty(0, dtype=np.uint64)
        self.counts = np.empty(0, dtype=np.int64)
        self.n_pending = 0
        self._pending: list[tuple[NDArray[np.uint64], NDArray[np.int64]]] = []

    @property
    def n_merged(self) -> int:
        return len(self.keys)

    def add(self, keys: NDArray[np.uint64], counts: NDArray[np.int64]) -> None:
        self._pending.append((keys, counts))
        self.n_pending += len(keys)

    def merge_pending(self, mask: np.uint64) -> None:
        if self.n_pending:
            parts = [(self.keys, self.counts), *self._pending]
            keys, counts = (np.concatenate(column) for column in zip(*parts, strict=True))
            self._set(keys & mask, counts)
        self._pending, self.n_pending = [], 0

    def round_down(self, mask: np.uint64) -> None:
        self._set(self.keys & mask, self.counts)

    def totals(self, n_rankings: int) -> NDArray[np.int64]:
        total = np.zeros(n_rankings, dtype=np.int64)
        np.add.at(total, (self.keys >> _SCORE_BITS).astype(np.intp), self.counts)
        return total

    def _set(self, keys: NDArray[np.uint64], counts: NDArray[np.int64]) -> None:
        if not len(keys):
            return
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        first = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
        sums = np.add.reduceat(counts[order], first)
        self.keys, self.counts = keys[first[sums > 0]], sums[sums > 0]  # some were taken out


def _ordered_bits(scores: ArrayLike) -> NDArray[np.uint64]:
    """Map float32 scores to integers of the same order; NaN goes below all others."""
    values = np.asarray(scores, dtype=np.float32)
    values = np.where(np.isnan(values), np.float32(-np.inf), values) + np.float32(0)  # -0 is 0
    bits = values.view(np.uint32)
    negative = bits >> np.uint32(31) == 1
    return np.where(negative, ~bits, bits | np.uint32(2**31)).astype(np.uint64)


def _scores_of_bits(keys: NDArray[np.uint64]) -> NDArray[np.float32]:
    """Return the scores of keys, the inverse of :func:`_ordered_bits`."""
    bits = (keys & _SCORE_MASK).astype(np.uint32)
    return np.where(bits >> np.uint32(31) == 1, bits ^ np.uint32(2**31), ~bits).view(np.float32)


def _undefined_as_nan(numerator: NDArray, denominator: NDArray) -> NDArray[np.float64]:
    out = np.full(len(denominator), np.nan)
    return np.divide(numerator, denominator, out=out, where=denominator > 0)
