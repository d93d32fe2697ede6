"""The exponential function in plain arithmetic, so that compilers do several at a time."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from pertscale._jit import inline

_LOG2_E: Final = 1.4426950408889634
#: Logarithm of 2, as the sum of one with zeros at its end and the rest.
_LN2_HIGH: Final = 0.6931471803691238
_LN2_LOW: Final = 1.9082149292705877e-10
#: Added and subtracted, rounds to a whole number, whose bits it leaves at its end.
_ROUND: Final = 1.5 * 2**52


@inline
def exp(x: float) -> Any:
    """Return e^x for -700 <= x <= 700, to within two units of the last digit.

    x = k log 2 + r with a whole k: 2^k times the first 14 terms of the series of e^r.
    """
    shifted = np.float64(x * _LOG2_E + _ROUND)
    k = shifted - _ROUND
    r = (x - k * _LN2_HIGH) - k * _LN2_LOW
    r2 = r * r
    r4 = r2 * r2
    first = (r * (1 / 6) + 0.5) * r2 + r
    second = (r * (1 / 5040) + 1 / 720) * r2 + (r * (1 / 120) + 1 / 24)
    third = (r * (1 / 39916800) + 1 / 3628800) * r2 + (r * (1 / 362880) + 1 / 40320)
    fourth = r * (1 / 6227020800) + 1 / 479001600
    series = np.float64(1.0 + (first + r4 * (second + r4 * (third + r4 * fourth))))
    bits = (shifted.view(np.int64) << np.int64(52)) + series.view(np.int64)
    return np.int64(bits).view(np.float64)
