"""What scores of changes would be if no perturbation had an effect (method O7).

Where truth and prediction are both changes from one measured control, they share its noise. With
few control cells that alone makes them agree. For means over cells of equal variance, the truth of
a perturbation with n cells and the mean of training perturbations, both measured from c control
cells, correlate by ::

    r = (1/c) / sqrt((1/c + v) (1/c + 1/n)),    v = Σ 1/nⱼ / p²

where v is the variance of the mean of p training perturbations with nⱼ cells each (1/(n p) where
all have n). The variance of a gene cancels out, so r holds over genes, and their signs agree with
probability 1/2 + arcsin(r)/π. Measured from the training mean instead, truth and control share the
noise of that mean: the same with v in place of 1/c, and the other way round.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

import numpy as np

from pertscale.arguments import checked
from pertscale.errors import ArgumentError, InputError

Controls = Literal["split", "shared"]
CONTROLS: Final[tuple[str, ...]] = get_args(Controls)


def check_controls(controls: str) -> None:
    """Raise an ArgumentError for another value of ``controls=``."""
    if controls not in CONTROLS:
        raise ArgumentError(
            f"controls={controls!r} is not one of {', '.join(CONTROLS)}: whether predicted and "
            "true changes are measured from halves of the control cells, or both from all of them"
        )


@checked
def no_effect(
    n_cells: np.ndarray, *, n_control: float, n_training: np.ndarray
) -> dict[str, np.ndarray]:
    """Return what scores of each perturbation would be if none had an effect.

    Parameters
    ----------
    n_cells : ndarray (perturbation,)
        Cells that the truth of each held-out perturbation is the mean of.
    n_control : float
        Control cells.
    n_training : ndarray
        Cells of each training perturbation.

    Returns
    -------
    dict of str to ndarray (perturbation,)
        By metric: ``pearson_delta`` and ``direction`` of a prediction that is the mean of the
        training perturbations, and ``pearson_delta_mean`` of one that is the control. Models that
        are fitted on fewer perturbations, or that predict changes from elsewhere, share less noise
        with the truth. Other metrics of changes have no such form.

    Raises
    ------
    InputError
        If a number of cells is not above zero, or there is no training perturbation.

    Examples
    --------
    >>> expected = ps.evaluation.no_effect(
    ...     np.array([50, 200]), n_control=200, n_training=np.full(30, 50)
    ... )
    >>> expected["pearson_delta"].round(2)  # what the mean reaches though nothing has an effect
    array([0.42, 0.66])
    """
    cells, training = (np.asarray(n, np.float64) for n in (n_cells, n_training))
    if not len(training):
        raise InputError("there is no training perturbation to take the mean of")
    if not (n_control > 0 and (cells > 0).all() and (training > 0).all()):
        raise InputError("numbers of cells have to be above zero")
    control, mean = 1 / n_control, float((1 / training).sum()) / len(training) ** 2
    of_control = _shared(control, mean, 1 / cells)
    return {
        "pearson_delta": of_control,
        "direction": 0.5 + np.arcsin(of_control) / np.pi,
        "pearson_delta_mean": _shared(mean, control, 1 / cells),
    }


@checked
def no_effect_elsewhere(n: int) -> dict[str, np.ndarray]:
    """Return the same for `n` perturbations whose predictions share no control with the truth.

    Such are effects in other contexts, which were measured from the controls there, and changes
    from another half of the control cells.

    Examples
    --------
    >>> ps.evaluation.no_effect_elsewhere(2)
    {'pearson_delta': array([0., 0.]), 'direction': array([0.5, 0.5])}
    """
    return {"pearson_delta": np.zeros(n), "direction": np.full(n, 0.5)}


def _shared(common: float, prediction: float, truth: np.ndarray) -> np.ndarray:
    """Return the correlation of two differences from the same noisy profile, by variances."""
    return np.asarray(common / np.sqrt((common + prediction) * (common + truth)))
