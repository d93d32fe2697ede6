"""Multinomial ridge regressions of many genes on one design, by Newton's method. Arrays only.

All genes share the design, so its singular vectors are the basis of the weights. There the Hessian
at the intercepts alone is diagonal, once the contrasts of each gene's classes are chosen well, and
is a preconditioner for conjugate gradients. What remains are products of the design with the
weights of a batch of genes. Where the design has few columns, the Hessians of a batch are one
product with their pairs, and solved at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from pertscale.baselines.classifiers._kernels.softmax import bend, three_classes, two_classes
from pertscale.schema import CLASSES

Floats = NDArray[np.float64]

#: Squared error of the scores in units of their standard error at which a gene is done, for C <= 1.
_TOLERANCE: Final = 1e-14
#: Newton steps after which a gene is given up; ten are usual.
_MAX_STEPS: Final = 100
#: Genes times rows (or dimensions) of a batch: its arrays take half a megabyte each.
_BATCH: Final = 2**15
_MIN_GENES: Final = 32
#: Columns of a design up to which Newton's equations are written out.
_NARROW: Final = 16

#: Orthonormal contrasts of three classes, and the single one of two, as scikit-learn penalises it.
_THREE: Final = np.array([[-1, -1], [0, 2], [1, -1]]) / np.sqrt([2, 6])
_TWO: Final = np.array([[-0.5], [0.5]])


@dataclass(frozen=True)
class DesignMatrix:
    """A training embedding in its singular basis, after a column of ones for the intercept."""

    matrix: Floats  # (row, 1 + rank)
    mean_squares: Floats  # of the columns
    mean: Floats  # of the embedding
    rotation: Floats  # (dimension, rank)
    products: Floats | None  # (row, pair) of every two columns, where there are few

    @classmethod
    def of(cls, X: Floats) -> Self:
        """Return the design of an embedding, shape (row, dimension)."""
        mean = X.mean(axis=0)
        left, singular, right = np.linalg.svd(X - mean, full_matrices=False)
        scale = np.abs(X).max(initial=0) * np.sqrt(X.size)
        kept = singular > 10 * np.finfo(np.float64).eps * scale
        matrix = _with_ones(left[:, kept] * singular[kept])
        one, other = np.triu_indices(matrix.shape[1])
        products = matrix[:, one] * matrix[:, other] if matrix.shape[1] <= _NARROW else None
        return cls(matrix, np.square(matrix).mean(axis=0), mean, right[kept].T, products)

    def features(self, X: Floats) -> Floats:
        """Return the rows of further vectors, shape (n, 1 + rank)."""
        return _with_ones((X - self.mean) @ self.rotation)


def ridge_path(
    design: DesignMatrix, y: NDArray[np.int8], penalties: Sequence[float]
) -> Iterator[Floats]:
    """Fit every gene for one C after the other, each from the solution before.

    Minimises the log loss plus ``|weights|^2 / (2 C)``, the intercept being free, over the classes
    that a gene has: all three with a weight vector each; of two with one for both, as scikit-learn
    does. A single class has probability 1.

    Parameters
    ----------
    design
        Of the rows of `y`.
    y
        Labels, shape (row, gene); untested ones carry no weight.
    penalties
        The values of C.

    Yields
    ------
    ndarray of float64, shape (3, 1 + rank, gene)
        Weights in the basis of the design: ``design.features(X) @ weights`` are log probabilities
        up to a constant. Absent classes have an intercept of -inf, genes without labels of NaN.
    """
    present = np.stack([(y == code).any(axis=0) for code in CLASSES])
    start = np.zeros((len(CLASSES), design.matrix.shape[1], y.shape[1]))
    start[:, 0] = np.where(present, 0.0, np.where(present.any(axis=0), -np.inf, np.nan))
    batches = [batch for classes in (2, 3) for batch in _batches(design, y, present, classes)]
    solutions = [
        (genes, classes, _path(design, problem, penalties)) for genes, classes, problem in batches
    ]
    for _ in penalties:
        weights = start.copy()
        for genes, classes, path in solutions:
            weights[classes, :, genes[:, None]] = next(path)
        yield weights


def probabilities(logits: Floats, *, axis: int) -> Floats:
    """Return the softmax of log probabilities up to a constant."""
    odds = np.exp(logits - logits.max(axis=axis, keepdims=True))
    return odds / odds.sum(axis=axis, keepdims=True)


@dataclass(frozen=True)
class _Problem:
    """What the genes of a batch are fitted to. Their scores are (gene, contrast, row)."""

    contrasts: Floats  # (gene, class, contrast), orthogonal
    codes: NDArray[np.int8]  # (gene, row): the class, from 0; -1 if untested
    shares: Floats  # (gene, class)

    @classmethod
    def of(cls, codes: NDArray[np.int8]) -> Self:
        """Set up genes with the same number of classes."""
        counts = np.stack([(codes == code).sum(axis=1) for code in range(codes.max() + 1)], axis=1)
        shares = counts / counts.sum(axis=1, keepdims=True)
        return cls(_uncorrelated_contrasts(shares), codes, shares)

    def intercepts(self) -> Floats:
        """Return the scores of the class shares, shape (gene, contrast)."""
        length = np.square(self.contrasts).sum(axis=1)
        return np.einsum("gck,gc->gk", self.contrasts, np.log(self.shares)) / length

    def take(self, genes: NDArray) -> Self:
        """Return the problem of some of the genes."""
        return replace(self, **_taken(self, genes))


@dataclass(frozen=True)
class _Point:
    """Weights, and the objective of every gene and its derivatives there."""

    weights: Floats  # (gene, contrast, 1 + rank)
    objective: Floats  # (gene,)
    gradient: Floats  # (gene, contrast, 1 + rank)
    curvature: Floats  # (gene, pair of contrasts, row), of the loss by the scores
    variance: Floats  # (gene, contrast): sums of that of equal pairs

    @classmethod
    def at(cls, weights: Floats, design: DesignMatrix, problem: _Problem, penalty: Floats) -> Self:
        """Evaluate the objective at some weights."""
        n_genes, n_contrasts = weights.shape[:2]
        scores = _project(weights, design.matrix.T)
        slope = np.empty_like(scores)
        curvature = np.empty((n_genes, n_contrasts * (n_contrasts + 1) // 2, scores.shape[2]))
        variance, losses = np.empty((n_genes, n_contrasts)), np.empty(n_genes)
        classes = two_classes if n_contrasts == 1 else three_classes
        classes(problem.contrasts, problem.codes, scores, slope, curvature, variance, losses)
        objective = losses + (penalty * weights**2).sum(axis=(1, 2)) / 2
        gradient = _project(slope, design.matrix) + penalty * weights
        return cls(weights, objective, gradient, curvature, variance)

    def take(self, genes: NDArray) -> Self:
        """Return the point of some of the genes."""
        return replace(self, **_taken(self, genes))

    def put(self, genes: NDArray, other: Self) -> None:
        """Replace what belongs to some of the genes."""
        for name, values in vars(self).items():
            values[genes] = getattr(other, name)


def _taken(record: object, genes: NDArray) -> dict[str, NDArray]:
    return {name: values[genes] for name, values in vars(record).items()}


def _with_ones(X: Floats) -> Floats:
    return np.concatenate([np.ones((len(X), 1)), X], axis=1)


def _uncorrelated_contrasts(shares: Floats) -> Floats:
    """Return contrasts in which the class covariance is diagonal, (gene, class, contrast)."""
    if shares.shape[1] == 2:
        return np.tile(_TWO, (len(shares), 1, 1))
    mean = shares @ _THREE
    covariance = np.einsum("ci,gc,cj->gij", _THREE, shares, _THREE)
    covariance -= mean[:, :, None] * mean[:, None]
    return _THREE @ np.linalg.eigh(covariance)[1]


def _batches(
    design: DesignMatrix, y: NDArray[np.int8], present: NDArray[np.bool_], n_classes: int
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp], _Problem]]:
    """Yield genes, the positions (gene, class) of their classes, and the problem."""
    chosen = np.flatnonzero(present.sum(axis=0) == n_classes)
    step = max(_MIN_GENES, _BATCH // max(design.matrix.shape))
    for start in range(0, len(chosen), step):
        genes = chosen[start : start + step]
        classes = np.nonzero(present[:, genes].T)[1].reshape(len(genes), n_classes)
        labels, own = y[:, genes].T, np.array(CLASSES)[classes]
        codes = np.full(labels.shape, -1, dtype=np.int8)
        for code in range(n_classes):
            codes[labels == own[:, code, None]] = code
        yield genes, classes, _Problem.of(codes)


def _path(design: DesignMatrix, problem: _Problem, penalties: Sequence[float]) -> Iterator[Floats]:
    """Yield the weights of every class present, (gene, class, 1 + rank), for every C."""
    n_genes, _, n_contrasts = problem.contrasts.shape
    weights = np.zeros((n_genes, n_contrasts, design.matrix.shape[1]))
    weights[:, :, 0] = problem.intercepts()
    for C in penalties:
        weights = _minimise(design, problem, weights, C)
        yield problem.contrasts @ weights


def _minimise(design: DesignMatrix, problem: _Problem, weights: Floats, C: float) -> Floats:
    """Take Newton steps until every gene is done; those that are leave the batch."""
    penalty = np.full(design.matrix.shape[1], 1 / C)
    penalty[0] = 0
    tolerance = _TOLERANCE / max(1.0, C)
    result = weights.copy()
    live = np.arange(len(weights))
    point = _Point.at(weights, design, problem, penalty)
    for _ in range(_MAX_STEPS):
        diagonal = point.variance[:, :, None] * design.mean_squares + penalty
        error = (np.square(point.gradient) / diagonal).sum(axis=(1, 2))
        more = error > tolerance
        if not more.all():
            result[live[~more]] = point.weights[~more]
            live, problem, point = live[more], problem.take(more), point.take(more)
            diagonal, error = diagonal[more], error[more]
        if not len(live):
            return result
        precision = np.clip(np.sqrt(error), 0.1 * np.sqrt(tolerance / error), 0.1)
        step = _exact_step(design, point, penalty)
        if step is None:
            step = _newton_step(design.matrix, point, diagonal, penalty, precision)
        point = _after(step, point, design, problem, penalty)
    result[live] = point.weights
    return result


def _exact_step(design: DesignMatrix, point: _Point, penalty: Floats) -> Floats | None:
    """Solve Newton's equations of a design with few columns; None where they say too little."""
    if design.products is None:
        return None
    n_genes, n_contrasts, n_columns = point.gradient.shape
    sums = _project(point.curvature, design.products)[:, _number_of_pairs(n_contrasts)]
    blocks = sums[..., _number_of_pairs(n_columns)]  # (gene, contrast, contrast, column, column)
    size = n_contrasts * n_columns
    hessian = blocks.swapaxes(2, 3).reshape(n_genes, size, size)
    hessian[:, np.arange(size), np.arange(size)] += np.tile(penalty, n_contrasts)
    try:
        found = np.linalg.solve(hessian, -point.gradient.reshape(n_genes, size, 1))
    except np.linalg.LinAlgError:
        return None
    step: Floats = np.asarray(found).reshape(point.gradient.shape)
    downhill = (point.gradient * step).sum(axis=(1, 2)) < 0
    return step if downhill.all() else None


def _number_of_pairs(n: int) -> NDArray[np.intp]:
    """Return where each of n with each is among the pairs of ``np.triu_indices(n)``."""
    numbers = np.empty((n, n), dtype=np.intp)
    one, other = np.triu_indices(n)
    numbers[one, other] = numbers[other, one] = np.arange(len(one))
    return numbers


def _newton_step(
    matrix: Floats, point: _Point, diagonal: Floats, penalty: Floats, precision: Floats
) -> Floats:
    """Solve Newton's equations by conjugate gradients, every gene to its own relative precision."""
    step, bent = np.zeros_like(point.gradient), np.empty((*diagonal.shape[:2], len(matrix)))
    residual = -point.gradient
    scaled = residual / diagonal
    direction = scaled
    size = (residual * scaled).sum(axis=(1, 2))
    enough = precision**2 * size
    live = size > 0
    while live.any():
        bend(point.curvature, _project(direction, matrix.T), bent)
        image = _project(bent, matrix) + penalty * direction
        length = np.where(live, size / (direction * image).sum(axis=(1, 2)), 0)[:, None, None]
        step += length * direction
        residual -= length * image
        scaled = residual / diagonal
        before, size = size, (residual * scaled).sum(axis=(1, 2))
        direction = scaled + (size / before)[:, None, None] * direction
        live &= size > enough
    return step


def _after(
    step: Floats, point: _Point, design: DesignMatrix, problem: _Problem, penalty: Floats
) -> _Point:
    """Go the full step where it lowers the objective, else a part of it that is sure to.

    With a step that changes the differences of logits by at most r, the curvature along it grows
    by at most exp(r t): t = log(1 + r) / r minimises the bound on the objective that follows.
    """
    there = _Point.at(point.weights + step, design, problem, penalty)
    promised = 1e-4 * (point.gradient * step).sum(axis=(1, 2))
    rounding = 1e-12 * np.abs(point.objective)
    far = ~(there.objective <= point.objective + promised + rounding)
    if far.any():
        step, problem = step[far], problem.take(far)
        change = problem.contrasts @ _project(step, design.matrix.T)
        reach = np.ptp(change, axis=1).max(axis=1)
        length = np.log1p(reach) / np.maximum(reach, np.finfo(np.float64).tiny)
        nearer = point.weights[far] + length[:, None, None] * step
        there.put(far, _Point.at(nearer, design, problem, penalty))
    return there


def _project(values: Floats, matrix: Floats) -> Floats:
    """Multiply the last axis with a matrix, all genes and contrasts in one product."""
    product = values.reshape(-1, len(matrix)) @ matrix
    return product.reshape(*values.shape[:2], matrix.shape[1])
