"""How much U varies where there is an effect (method P2), which a test does not divide by.

Perturbed and control cells are taken to follow one normal distribution, moved by the effect, of
which a cell shows what lies above a bound and nothing below: a gene that all cells express is
shifted, one that hardly any does is expressed by more or fewer cells.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from scipy.special import ndtr, ndtri

#: Shares of the cells that express a gene, and shifts in standard deviations, that are tabled.
_SHARES: Final = np.concatenate([np.geomspace(0.001, 0.5, 30), 1 - np.geomspace(0.45, 0.001, 20)])
_SHIFTS: Final = np.linspace(-4, 4, 81)
#: Values of theta in the table; ½ is one of them.
_THETAS: Final = np.linspace(0, 1, 201)
#: Quantiles that stand for a distribution.
_N_QUANTILES: Final = 2000


def spread_with_effect(
    theta: float | NDArray[np.float64],
    sigma_theta: NDArray[np.float64],
    untied: NDArray[np.float64],
    n_cells: NDArray[np.float64],
    n_control: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the standard deviation of U/(n1 n2) where its expectation is theta.

    Parameters
    ----------
    theta : float or ndarray
    sigma_theta, untied : ndarray
        The standard deviation without an effect, and what it would be if no two cells tied. What
        the first is smaller by tells which share of the cells expresses the gene.
    n_cells, n_control : ndarray

    Returns
    -------
    ndarray
        `sigma_theta` where theta is ½; NaN where that is.
    """
    tied = np.clip((sigma_theta / untied) ** 2, 0, 1)
    share = 1 - np.cbrt(1 - tied)
    of_cells, of_control = _table()
    row = _place(share)
    column = np.asarray(np.interp(theta, _THETAS, np.arange(len(_THETAS))))
    half = np.array(float(np.searchsorted(_THETAS, 0.5)))

    def variance(at: NDArray[np.float64]) -> NDArray[np.float64]:
        first, second = (_between(table, row, at) for table in (of_cells, of_control))
        return np.asarray(first / n_cells + second / n_control)

    return np.asarray(sigma_theta * np.sqrt(variance(column) / variance(half)))


def _between(
    table: NDArray[np.float64], row: NDArray[np.float64], column: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return values between the rows and columns of a table; one column serves all rows at once."""
    if column.ndim:
        where = np.stack(np.broadcast_arrays(row, column))
        return np.asarray(map_coordinates(table, where, order=1))
    lower = min(int(column), table.shape[1] - 2)
    share = float(column) - lower
    values = (1 - share) * table[:, lower] + share * table[:, lower + 1]
    return np.asarray(np.interp(row, np.arange(len(table)), values))


def _place(share: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the row of the table of each share, between two of them; the first for a NaN."""
    inside = np.clip(np.nan_to_num(share), _SHARES[0], _SHARES[-1])
    odds, tabled = (np.log(x / (1 - x)) for x in (inside, _SHARES))
    return np.asarray(np.interp(odds, tabled, np.arange(len(tabled))))


@cache
def _table() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return variances of the places of cells among controls and the reverse, (share, theta)."""
    rows = [_of_share(share) for share in _SHARES]
    return np.stack([row[0] for row in rows]), np.stack([row[1] for row in rows])


def _of_share(share: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return both for one share, (theta,)."""
    bound = ndtri(1 - share)
    values = ndtri((np.arange(_N_QUANTILES) + 0.5) / _N_QUANTILES)
    theta, cells, control = np.empty((3, len(_SHIFTS)))
    for i, shift in enumerate(_SHIFTS):
        place = _places(values + shift, bound, 0.0)
        theta[i], cells[i] = place.mean(), place.var()
        control[i] = _places(values, bound, shift).var()
    return np.interp(_THETAS, theta, cells), np.interp(_THETAS, theta, control)


def _places(values: NDArray[np.float64], bound: float, shift: float) -> NDArray[np.float64]:
    """Return which part of a shifted group lies below each value, ties half."""
    return np.where(values <= bound, ndtr(bound - shift) / 2, ndtr(values - shift))
