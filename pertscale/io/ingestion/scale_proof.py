"""What values prove about how they were made: log1p of counts per 10,000, or something else.

Normalised counts of a cell are whole multiples of one unit, total / sum of the cell's counts. So a
form of the values (log1p, log2, square root …) is right if its inverse gives such multiples, and a
total is right if it is a whole multiple of the unit, whichever genes were kept. Values that were
never normalised are whole numbers themselves. Rounding is taken into account, so that a proof is a
proof; where values are too coarse nothing is proved.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from pertscale.io.sources import CsrBlock
from pertscale.schema import TARGET_TOTAL

#: Cells of a block whose values are compared with each other.
_ROWS: Final = 300
#: Rounding of float32 arithmetic on the way to a value, relative.
_ARITHMETIC: Final = 3e-7
#: A number known less precisely than this counts neither as whole nor as not whole.
_LEAST_PRECISION: Final = 0.1
#: The smallest count of a cell is searched up to this one.
_MOST_SMALLEST: Final = 4
#: How many informative cells there have to be, and the share of them that has to agree.
_CELLS_NEEDED: Final = 8
_AGREEING: Final = 0.8
#: Probability that numbers are whole by chance, below which they count as whole.
_CHANCE: Final = 1e-9
#: By this much cells may exceed 10,000, from rounding.
_ABOVE: Final = 1.002
#: Totals that are named where the values prove them.
_TOTALS: Final = (
    *(1e3, 2e3, 2.5e3, 3e3, 4e3, 5e3),
    *(1e4, 1.5e4, 2e4, 2.5e4, 3e4, 4e4, 5e4),
    *(1e5, 2e5, 5e5, 1e6),
)


@dataclass(frozen=True)
class Form:
    """One way in which counts are transformed.

    Attributes
    ----------
    name
        Of the transformed values.
    inverse, slope
        What they were made from, and how fast that changes with them.
    back
        Python that undoes it, of X.
    """

    name: str
    inverse: Callable[[np.ndarray], np.ndarray]
    slope: Callable[[np.ndarray], np.ndarray]
    back: str


LOG1P: Final = Form("log1p", np.expm1, np.exp, "numpy.expm1(X)")
FORMS: Final = (
    LOG1P,
    Form("log2(1 + x)", lambda x: np.exp2(x) - 1, lambda x: np.log(2) * np.exp2(x), "2.0**X - 1"),
    Form("log10(1 + x)", lambda x: 10**x - 1, lambda x: np.log(10) * 10**x, "10.0**X - 1"),
    Form("values without a logarithm", lambda x: x, np.ones_like, "X"),  # their squares fit, too
    Form("square roots", np.square, lambda x: 2 * x, "X**2"),
    Form(
        "log1p of log1p",
        lambda x: np.expm1(np.expm1(x)),
        lambda x: np.exp(np.expm1(x) + x),
        "numpy.expm1(numpy.expm1(X))",
    ),
)


@dataclass(frozen=True, eq=False)
class Evidence:
    """Values of some cells, or of a part of their genes.

    Attributes
    ----------
    blocks
        With values of float64 that are finite and not negative.
    whole
        Whether the rows are whole cells.
    """

    blocks: Sequence[CsrBlock]
    whole: bool

    @cached_property
    def _values(self) -> np.ndarray:
        return np.concatenate([block.data for block in self.blocks])

    @cached_property
    def _rounding(self) -> tuple[float, float]:
        """Relative and absolute rounding of the values: bits and decimals they were cut to."""
        values = self._values[self._values > 0].astype(np.float32)
        used = int(np.bitwise_or.reduce(values.view(np.uint32) & 0x7FFFFF)) if len(values) else 0
        bits = 24 if used & 1 else 24 - ((used & -used).bit_length() - 1 if used else 23)
        decimals = 0.0
        for digits in (1, 2, 3, 4):
            scaled = self._values * 10.0**digits
            if np.abs(scaled - np.round(scaled)).max(initial=0.0) < 0.02:
                decimals = 0.5 * 10.0**-digits
                break
        return 1.5 * 2.0**-bits, decimals

    @cached_property
    def rows(self) -> list[np.ndarray]:
        """Distinct values above zero of some rows, ascending."""
        found = []
        for block in self.blocks:
            filled = np.flatnonzero(np.diff(block.indptr))
            step = max(1, len(filled) // _ROWS)
            for row in filled[::step]:
                values = np.unique(block.data[block.indptr[row] : block.indptr[row + 1]])
                found.append(values[values > 0].astype(np.float64))
        return [values for values in found if len(values)]

    @cached_property
    def sums(self) -> np.ndarray:
        """Sum of each row that is not empty, before log1p."""
        parts = []
        for block in self.blocks:
            starts = block.indptr[:-1][np.diff(block.indptr) > 0]
            if len(starts):
                parts.append(np.add.reduceat(np.expm1(block.data.astype(np.float64)), starts))
        found = np.concatenate(parts)
        return found[found > 0]

    @property
    def common_sum(self) -> float | None:
        """Sum of all cells, where they are whole and have the same."""
        median = float(np.median(self.sums))
        same = float(np.abs(self.sums / median - 1).max()) < 1e-2
        return median if self.whole and same else None

    def undone(self, form: Form, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the values before the transformation, and the error of each."""
        relative, absolute = self._rounding
        with np.errstate(over="ignore"):
            found = form.inverse(values)
            off = form.slope(values) * (values * relative + absolute) + found * _ARITHMETIC
        told = np.isfinite(found) & np.isfinite(off) & (found > 0)
        return found[told], off[told]

    def is_whole_numbers(self, form: Form) -> bool:
        """Whether the untransformed values are whole numbers: counts that were never normalised."""
        found, off = self.undone(form, np.unique(np.concatenate(self.rows)))
        near = (off < _LEAST_PRECISION) & (found > 0.5)
        distance = np.abs(found - np.round(found))[near]
        chance = np.log(2 * off[near] + 1e-12).sum()
        return bool((distance <= off[near]).all() and chance < np.log(_CHANCE))

    def units(self, form: Form) -> tuple[np.ndarray, np.ndarray, int]:
        """Return units of the rows that are multiples of one, their errors, and how many are not.

        Rows that can't tell, as they have one value only or too coarse ones, are left out.
        """
        units, errors, failed = [], [], 0
        for values in self.rows:
            found, off = self.undone(form, values)
            if len(found) < 2:
                continue
            smallest, error = found[0], off[0]
            ratio = found[1:] / smallest
            ratio_off = ratio * (off[1:] / found[1:] + error / smallest)
            for count in range(1, _MOST_SMALLEST + 1):
                near = count * ratio_off < _LEAST_PRECISION
                if np.log(2 * count * ratio_off[near]).sum() > np.log(1 / 20):
                    break
                wanted = count * ratio[near]
                if (np.abs(wanted - np.round(wanted)) <= count * ratio_off[near]).all():
                    units.append(smallest / count)
                    errors.append(error / count)
                    break
            else:
                failed += 1
        return np.array(units), np.array(errors), failed

    def is_normalised(self, form: Form) -> bool | None:
        """Whether the untransformed values are multiples of a unit per cell; None if unknown."""
        units, _, failed = self.units(form)
        if len(units) + failed < _CELLS_NEEDED:
            return None
        return len(units) >= _AGREEING * (len(units) + failed)

    @property
    def most_allowed(self) -> float:
        """Upper limit of the sum of a cell whose counts were divided to 10,000, with rounding."""
        relative, absolute = self._rounding
        return TARGET_TOTAL * (_ABOVE + 10 * relative + absolute)

    @cached_property
    def _depths(self) -> tuple[np.ndarray, np.ndarray]:
        """Counts that cells had if they were divided to 10,000, with errors; sharp ones only."""
        units, errors, _ = self.units(LOG1P)
        depth = TARGET_TOTAL / units
        off = depth * errors / units
        sharp = off < _LEAST_PRECISION
        return depth[sharp], off[sharp]

    @property
    def is_coarse(self) -> bool:
        """Whether the values are rounded so much that they can't tell the cells' totals."""
        return len(self._depths[0]) < _CELLS_NEEDED

    @cached_property
    def total(self) -> float | None:
        """Total that cells were divided to before log1p; 0 if unusual, None if unclear."""
        depth, off = self._depths
        if len(np.unique(np.round(depth, 2))) < _CELLS_NEEDED:
            return None  # cells of equal depth fit every total that makes it a whole number
        for total in (*(TARGET_TOTAL / k for k in (7, 5, 3, 2)), *_TOTALS):
            factor = total / TARGET_TOTAL
            known = factor * off < _LEAST_PRECISION
            scaled = depth[known] * factor
            if total * _ABOVE < self.sums.max() or known.sum() < _CELLS_NEEDED:
                continue
            whole = np.abs(scaled - np.round(scaled)) <= factor * off[known] + 1e-3
            if whole.mean() >= 0.95:
                return total
        return 0.0
