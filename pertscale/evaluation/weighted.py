"""Errors in which genes weigh as much as they set a perturbation apart, as scPertEval has them.

Arrays are (perturbation, gene): true and predicted changes, and the weights of
:func:`gene_weights`. Genes of weight 0 do not count.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pertscale.arguments import checked
from pertscale.errors import ArgumentError, InputError


@checked
def gene_weights(statistic: ArrayLike, *, exponent: float = 2.0) -> NDArray[np.float64]:
    """Return weights of genes by how much a perturbation differs there from the others.

    Parameters
    ----------
    statistic : array_like (perturbation, gene)
        Of a test of the perturbation's cells against those of all other perturbations, such as t.
        NaN weighs nothing.
    exponent : float
        Power of the absolute statistic, which is put on the scale from 0 to 1 first.

    Returns
    -------
    ndarray (perturbation, gene)
        Each row adds up to 1; NaN where all statistics are the same.

    Raises
    ------
    ArgumentError
        If the exponent is not above zero.

    References
    ----------
    Mejia et al. (2025), https://arxiv.org/abs/2506.22641

    Examples
    --------
    >>> ps.evaluation.gene_weights([[0.0, -2.0, 4.0, np.nan]])
    array([[0. , 0.2, 0.8, 0. ]])
    """
    if not exponent > 0:
        raise ArgumentError(f"exponent={exponent} has to be above zero")
    size = np.abs(np.asarray(statistic, np.float64))
    with np.errstate(invalid="ignore", divide="ignore"):
        low = np.nanmin(size, axis=-1, keepdims=True)
        scaled = (size - low) / (np.nanmax(size, axis=-1, keepdims=True) - low)
        powered = np.where(np.isnan(size), 0.0, scaled) ** exponent
        return np.asarray(powered / powered.sum(axis=-1, keepdims=True))


@checked
def weighted_mse(truth: ArrayLike, predicted: ArrayLike, weights: NDArray) -> NDArray[np.float64]:
    """Return the weighted mean of squared errors of each perturbation.

    Parameters
    ----------
    truth, predicted : array_like (perturbation, gene)
    weights : ndarray (perturbation, gene)
        As of :func:`gene_weights`.

    Returns
    -------
    ndarray (perturbation,)

    Raises
    ------
    InputError
        If shapes differ.

    Examples
    --------
    >>> ps.evaluation.weighted_mse([[1.0, 0.0]], [[0.0, 0.0]], np.array([[0.2, 0.8]]))
    array([0.2])
    """
    true, guess, w = _same_shape(truth, predicted, weights)
    return np.asarray((w * (true - guess) ** 2).sum(axis=-1))


@checked
def weighted_r2(truth: ArrayLike, predicted: ArrayLike, weights: NDArray) -> NDArray[np.float64]:
    """Return 1 less the weighted squared error over the weighted variance of the truth.

    Parameters, errors and shape as of :func:`weighted_mse`.

    Examples
    --------
    >>> ps.evaluation.weighted_r2([[1.0, 0.0]], [[0.5, 0.0]], np.array([[0.5, 0.5]]))
    array([0.5])
    """
    true, guess, w = _same_shape(truth, predicted, weights)
    with np.errstate(invalid="ignore", divide="ignore"):
        error, spread = ((w * x**2).sum(axis=-1) for x in (true - guess, _centred(true, w)))
        return np.asarray(1 - error / spread)


@checked
def weighted_pearson(
    truth: ArrayLike, predicted: ArrayLike, weights: NDArray
) -> NDArray[np.float64]:
    """Return the weighted correlation of truth and prediction; NaN where one is constant.

    Parameters, errors and shape as of :func:`weighted_mse`.

    Examples
    --------
    >>> weights = np.array([[0.5, 0.5, 0.0]])
    >>> ps.evaluation.weighted_pearson([[1.0, 0.0, 5.0]], [[2.0, 1.0, 0.0]], weights).round(6)
    array([1.])
    """
    true, guess, w = _same_shape(truth, predicted, weights)
    one, two = _centred(true, w), _centred(guess, w)
    scale = np.sqrt((w * one**2).sum(axis=-1) * (w * two**2).sum(axis=-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((w * one * two).sum(axis=-1) / scale)


def _centred(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    mean = (weights * values).sum(axis=-1, keepdims=True) / weights.sum(axis=-1, keepdims=True)
    return values - mean


def _same_shape(
    truth: ArrayLike, predicted: ArrayLike, weights: ArrayLike
) -> list[NDArray[np.float64]]:
    arrays = [np.asarray(x, np.float64) for x in (truth, predicted, weights)]
    if len({x.shape for x in arrays}) > 1:
        shapes = ", ".join(str(x.shape) for x in arrays)
        raise InputError(f"truth, predicted, weights have shapes {shapes}; needed is the same")
    return arrays
