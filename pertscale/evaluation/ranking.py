"""Areas under the ROC and the precision-recall curve, from scores that arrive in blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pertscale.errors import InputError
from pertscale.evaluation._kernels.ranking import (
    average_precision,
    count_distinct,
    merge_counts,
    pack_scores,
    roc_area,
    round_keys,
)
from pertscale.evaluation.resampling.bins import Bins
from pertscale.schema import CLASSES, Label

#: Distinct scores that a :class:`RankCounts` holds before it rounds them (12 bytes each).
MAX_DISTINCT: Final = 2**24
#: Distinct scores that may wait before they are merged; merging less often costs less time.
_MIN_PENDING: Final = 2**20
#: Pairs that can be counted: counts have 32 bits.
_MOST_PAIRS: Final = 2**32 - 1
_SCORE_BITS: Final = 32
#: Key of a missing score: that of minus infinity.
_MISSING: Final = np.uint32(0x007FFFFF)


@dataclass(frozen=True)
class Tally:
    """Distinct scores of some pairs, and how often each occurs.

    Attributes
    ----------
    keys : ndarray (n,), uint32
        Ascending integers in the order of the scores.
    counts : ndarray (n, 2), uint32
        Negatives and positives with each of them.
    n_pairs : int
    """

    keys: NDArray[np.uint32]
    counts: NDArray[np.uint32]
    n_pairs: int


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
    truth = np.ascontiguousarray(truth, dtype=np.int8)
    bits = np.ascontiguousarray(scores, dtype=np.float32).view(np.uint32)
    packed = np.empty(truth.size, np.uint64)
    n = pack_scores(truth, bits, column, int(CLASSES[column]), int(Label.UNTESTED), packed)
    return _tally(packed[:n])


def _tally(packed: NDArray[np.uint64]) -> Tally:
    """Count packed scores, which are sorted in place."""
    packed.sort()
    keys, counts = np.empty(len(packed), np.uint32), np.empty((len(packed), 2), np.uint32)
    n = count_distinct(packed, keys, counts)
    if n < len(packed) // 2:  # votes have few: do not keep the rest
        return Tally(keys[:n].copy(), counts[:n].copy(), len(packed))
    return Tally(keys[:n], counts[:n], len(packed))


class RankCounts:
    """How often each score occurs among positives and negatives.

    The two areas depend on nothing else, so pairs can be added in blocks, in any order, and are
    not kept: memory is 12 bytes per *distinct* score, which for votes of neighbours or class
    frequencies is far fewer than the pairs.

    Parameters
    ----------
    max_distinct
        Limit on the distinct scores. Beyond it, scores are rounded down to as many leading bits
        of the float32 as fit the limit, the same whatever the order of the blocks;
        `rounded_bits` says how many bits went. Peak memory is about three times 12 bytes times
        this limit.

    Attributes
    ----------
    rounded_bits : int
        0 as long as the areas are exact.

    Examples
    --------
    >>> counts = ps.evaluation.RankCounts()
    >>> counts.add([0.9, 0.8, 0.3, 0.1], positive=np.array([True, False, True, False]))
    >>> counts.auroc(), round(counts.average_precision(), 3)
    (0.75, 0.833)
    """

    def __init__(self, *, max_distinct: int = MAX_DISTINCT) -> None:
        self.max_distinct = max_distinct
        self.rounded_bits = 0
        self._merged = Tally(np.empty(0, np.uint32), np.empty((0, 2), np.uint32), 0)
        self._pending: list[Tally] = []
        self._n_pairs = 0

    def add(self, scores: ArrayLike, *, positive: NDArray[np.bool_]) -> None:
        """Add pairs.

        Parameters
        ----------
        scores
            Scores, float32 precision, shape (n,); higher means more likely positive. A missing
            score (NaN) ranks below every other, tied with the other missing ones.
        positive
            Whether each pair is a positive, shape (n,).

        Raises
        ------
        InputError
            Beyond 4,294,967,295 pairs.
        """
        bits = np.ascontiguousarray(scores, np.float32).view(np.uint32)[None, :, None]
        packed = np.empty(bits.size, np.uint64)
        pack_scores(positive.astype(np.int8)[None], bits, 0, 1, -1, packed)
        self.add_tally(_tally(packed))

    def add_tally(self, tally: Tally) -> None:
        """Add pairs that were counted before, by :func:`tally_class`."""
        self._n_pairs += tally.n_pairs
        if self._n_pairs > _MOST_PAIRS:
            raise InputError(
                f"{self._n_pairs:,} pairs are ranked together, and no more than {_MOST_PAIRS:,} "
                "can be; score fewer perturbations at a time"
            )
        self._pending.append(tally)
        if sum(len(one.keys) for one in self._pending) > max(_MIN_PENDING, len(self._merged.keys)):
            self._merge_pending()

    def remove_tally(self, tally: Tally) -> None:
        """Take out pairs that were added."""
        self._merge_pending()
        at = np.searchsorted(self._merged.keys, tally.keys & self._mask())
        # more than one of its scores may have become the same
        np.subtract.at(self._merged.counts, at, tally.counts)

    def auroc(self) -> float:
        """Return the area under the ROC curve.

        Tied scores count half, as in scikit-learn. NaN where positives or negatives are absent.
        """
        self._merge_pending()
        return float(roc_area(self._merged.counts))

    def average_precision(self) -> float:
        """Return the average precision.

        The sum over distinct scores of precision times gain in recall, without interpolation, as
        in scikit-learn. NaN where positives or negatives are absent.
        """
        self._merge_pending()
        return float(average_precision(self._merged.counts, 1, len(self._merged.counts)))

    def average_precision_reversed(self) -> float:
        """Return the average precision of the negatives, by the negated score.

        Of a class's scores, this ranks all that is not of the class. Missing scores stay last.
        """
        self._merge_pending()
        return float(average_precision(self._merged.counts, 0, self._n_missing))

    def distinct(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the distinct scores, ascending, and how many pairs have each.

        Missing scores are NaN, and come first. Scores that were rounded are the largest of those
        that became the same.
        """
        self._merge_pending()
        n, keys = self._merged.counts.sum(axis=1, dtype=np.int64), self._merged.keys
        if not n.all():  # some were taken out
            keys, n = keys[n > 0], n[n > 0]
        scores = _scores_of(keys | ~self._mask())
        scores[keys == _MISSING & self._mask()] = np.nan
        return scores, n

    def bins(self) -> Bins:
        """Return few bins of the scores; see :class:`Bins`."""
        self._merge_pending()
        keys, counts = self._merged.keys, self._merged.counts
        return Bins.of(keys, counts, missing=self._n_missing > 0)

    @property
    def _n_missing(self) -> int:
        """How many of the merged scores are that of missing ones, which is the lowest."""
        keys = self._merged.keys
        return int(len(keys) > 0 and keys[0] == _MISSING & self._mask())

    def _mask(self) -> np.uint32:
        return np.uint32(2**_SCORE_BITS - 2**self.rounded_bits)

    def _merge_pending(self) -> None:
        parts, self._pending = [self._merged, *self._pending], []
        if len(parts) == 1:
            return
        parts = [part for part in parts if len(part.keys)] or parts[:1]
        if self.rounded_bits:
            parts = [_rounded(part, self._mask()) for part in parts]
        while len(parts) > 1:  # in pairs, so that none is copied often
            pairs = zip(parts[::2], [*parts[1::2], None], strict=False)
            parts = [a if b is None else _merge(a, b) for a, b in pairs]
        self._merged = parts[0]
        # Rounding is nested, and a part that needs it means the whole needs it: the number of bits
        # that remain depends on the scores alone, not on when they came.
        while len(self._merged.keys) > self.max_distinct and self.rounded_bits < _SCORE_BITS:
            self.rounded_bits += 1
            self._merged = _rounded(self._merged, self._mask())


def _merge(a: Tally, b: Tally) -> Tally:
    n = len(a.keys) + len(b.keys)
    keys, counts = np.empty(n, np.uint32), np.empty((n, 2), np.uint32)
    n = merge_counts(a.keys, a.counts, b.keys, b.counts, keys, counts)
    return Tally(keys[:n], counts[:n], a.n_pairs + b.n_pairs)


def _rounded(tally: Tally, mask: np.uint32) -> Tally:
    n = round_keys(tally.keys, tally.counts, mask)
    return Tally(tally.keys[:n], tally.counts[:n], tally.n_pairs)


def _scores_of(keys: NDArray[np.uint32]) -> NDArray[np.float32]:
    """Return the scores of keys, which are in their order."""
    return np.where(keys >> np.uint32(31) == 1, keys ^ np.uint32(2**31), ~keys).view(np.float32)
