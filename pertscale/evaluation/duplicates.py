"""The interpolated duplicate: a replicate where it knows, the mean of the others where not (O3)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from pertscale.arguments import checked
from pertscale.errors import InputError


@checked
def interpolated_duplicate(
    replicate: NDArray, others: NDArray, adjusted: NDArray
) -> NDArray[np.float64]:
    """Return a replicate, gene by gene as far as it is known to differ from the others.

    ``a * replicate + (1 - a) * others`` with ``a = 1 - adjusted``. A replicate alone is as noisy
    where nothing happens as where much does; the mean of the other perturbations is not.

    Parameters
    ----------
    replicate : ndarray (perturbation, gene)
        Profiles of cells of the same perturbations that the truth is not made of.
    others : ndarray (perturbation, gene)
        Mean over all other perturbed cells.
    adjusted : ndarray (perturbation, gene)
        Adjusted p-value of the replicate's cells against these.

    Returns
    -------
    ndarray (perturbation, gene)

    Raises
    ------
    InputError
        If shapes differ.

    References
    ----------
    Miller et al. (2025), https://doi.org/10.1101/2025.10.20.683304

    Examples
    --------
    >>> replicate, others = np.array([[1.0, 1.0]]), np.array([[0.0, 0.0]])
    >>> ps.evaluation.interpolated_duplicate(replicate, others, np.array([[0.25, 1.0]]))
    array([[0.75, 0.  ]])
    """
    arrays = [np.asarray(x, np.float64) for x in (replicate, others, adjusted)]
    if len({x.shape for x in arrays}) > 1:
        shapes = ", ".join(str(x.shape) for x in arrays)
        raise InputError(f"replicate, others, adjusted have shapes {shapes}; needed is the same")
    one, rest, q = arrays
    return (1 - q) * one + q * rest


def welch_p_values(
    mean: NDArray, variance: NDArray, n: NDArray, *, others: tuple[NDArray, NDArray, NDArray]
) -> NDArray[np.float64]:
    """Return two-sided p-values of Welch's test from moments; 1 where nothing varies.

    Parameters
    ----------
    mean, variance, n : ndarray
        Of one group of cells, and how many there are; they broadcast.
    others : tuple of ndarray
        The same of the other group.
    """
    other_mean, other_variance, other_n = others
    one, two = variance / n, other_variance / other_n
    with np.errstate(invalid="ignore", divide="ignore"):
        t = (mean - other_mean) / np.sqrt(one + two)
        df = (one + two) ** 2 / (one**2 / (n - 1) + two**2 / (other_n - 1))
        p = 2 * student.sf(np.abs(t), df)
    return np.where(one + two > 0, p, 1.0)
