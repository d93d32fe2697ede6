"""Attacks on scores of expression: predicted profiles that know nothing of what is held out.

Each takes what is known and random numbers, and returns profiles (held-out perturbation, gene);
NaN is "not predicted".
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pertscale.evaluation.attacks.known import Known

Random = np.random.Generator


# --- floors ---------------------------------------------------------------------------------------


def no_change(known: Known, _: Random) -> NDArray:
    """Return the control."""
    return known.same(known.control)


def mean(known: Known, _: Random) -> NDArray:
    """Return the mean of the training perturbations."""
    return known.same(known.mean)


def label_only_control(known: Known, _: Random) -> NDArray:
    """Return the control, with the own target as far down (or up) as targets were in training."""
    return np.where(known.asked, known.expected_share * known.control, known.control)


def label_only_mean(known: Known, _: Random) -> NDArray:
    """Return the same on the mean of the training perturbations."""
    return np.where(known.asked, known.expected_share * known.control, known.mean)


# --- attacks --------------------------------------------------------------------------------------


def other_targets_raised(known: Known, random: Random) -> NDArray:
    """Return the label-only control, with the targets of all others the other way.

    Where perturbations are compared, this tells each from the rest by names alone.
    """
    share = known.expected_share
    others = known.asked.any(axis=0) & ~known.asked
    raised = known.control / share if share > 0 else 2 * known.control
    return np.where(others, raised, label_only_control(known, random))


def scaled(known: Known, factor: float) -> NDArray:
    """Return the control plus the mean change times a factor."""
    return known.same(known.control + factor * (known.mean - known.control))


def noise(known: Known, random: Random) -> NDArray:
    """Return the mean with noise of the spread that training perturbations have, gene by gene."""
    drawn = random.standard_normal((len(known.held_out), len(known.mean)))
    return known.mean + drawn * known.deviation


def hard_genes_left_out(known: Known, _: Random) -> NDArray:
    """Return the mean without the tenth of the genes that varies most over training."""
    bound = np.quantile(known.deviation, 0.9)
    return known.same(np.where(known.deviation > bound, np.nan, known.mean))


def perturbations_left_out(known: Known, random: Random) -> NDArray:
    """Return the mean for a half of the perturbations, any half: what is hard is not known."""
    predicted = known.same(known.mean)
    n = len(predicted)
    predicted[random.permutation(n)[: n // 2]] = np.nan
    return predicted


def best_constant_l2(known: Known, _: Random) -> NDArray:
    """Return the training perturbation that is nearest to the others, by L2."""
    squares = (known.change**2).sum(axis=1)
    distance = squares[:, None] + squares - 2 * known.change @ known.change.T
    return known.same(known.profiles[np.sqrt(np.maximum(distance, 0)).mean(axis=1).argmin()])


def best_constant_correlation(known: Known, _: Random) -> NDArray:
    """Return the training perturbation whose change correlates best with the others'."""
    centred = known.change - known.change.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    unit = np.divide(centred, length, out=np.zeros_like(centred), where=length > 0)
    return known.same(known.profiles[(unit @ unit.sum(axis=0)).argmax()])


def own_controls_shifted(known: Known, _: Random) -> NDArray:
    """Return the mean beside a control of its own that lies lower, all genes by a typical change.

    Changes are measured from that control (``control='in_file'``), so every gene seems to rise.
    """
    shift = float(np.abs(known.change).mean())
    own_control = known.control - shift
    return known.same(known.control + (known.mean - own_control))


def genes_in_another_order(known: Known, random: Random) -> NDArray:
    """Return the mean with its changes on the wrong genes."""
    change = known.mean - known.control
    return known.same(known.control + change[random.permutation(len(change))])


def any_training_perturbation(known: Known, random: Random) -> NDArray:
    """Return profiles of training perturbations, dealt out at random."""
    return known.profiles[random.integers(0, len(known.profiles), len(known.held_out))]


def most_similar_name(known: Known, _: Random) -> NDArray:
    """Return the training perturbation whose name has the longest beginning in common.

    That one is a neighbour in the alphabet; of two that are as similar, the one before.
    """
    order = sorted(range(len(known.names)), key=known.names.__getitem__)
    names = [known.names[i] for i in order]
    found = []
    for name, at in zip(known.held_out, np.searchsorted(names, known.held_out), strict=True):
        neighbours = [i for i in (int(at) - 1, int(at)) if 0 <= i < len(names)]
        best = max(neighbours, key=lambda i: _beginning(name, names[i]))
        found.append(order[best])
    return known.profiles[found]


def _beginning(one: str, other: str) -> int:
    """Return the number of letters at the beginning that are the same."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def four_cells(known: Known, random: Random) -> NDArray:
    """Return means of 4 cells: the mean with noise as of so few, by the level of each gene.

    A variance of a quarter of the level is that of log1p counts, about.
    """
    drawn = random.standard_normal((len(known.held_out), len(known.mean)))
    return np.maximum(known.mean + drawn * np.sqrt(np.maximum(known.mean, 0) / 4), 0)
