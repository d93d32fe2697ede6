"""Logistic regression per gene: all genes in batches against one scikit-learn fit per gene.

``python logistic.py [PERTURBATIONS DIMENSIONS GENES]`` prints the CPU seconds of both and their
ratio. scikit-learn fits a sample of the genes, with its defaults and with a tolerance that gives
the accuracy of pertscale; its time is extrapolated. Labels are planted, and 5 % are untested.
"""

from __future__ import annotations

import sys
import time

import numpy as np
from sklearn.linear_model import LogisticRegression

from pertscale.baselines import LogisticPerGene

SHAPE = (500, 100, 8_000)
SAMPLE = 20
UNTESTED = -128
#: Settings of scikit-learn.
PEERS = {"defaults": {}, "as accurate": {"tol": 1e-10, "max_iter": 10_000}}


def draw(perturbations: int, dimensions: int, genes: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw unit vectors of falling variance, and labels that depend on them."""
    random = np.random.default_rng(0)
    falling = 1 / np.arange(1, dimensions + 1)
    X = falling * (random.standard_normal((perturbations, dimensions)) + 0.3)
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    signal = X @ random.standard_normal((dimensions, genes))
    signal = signal / signal.std(axis=0) + 0.75 * random.standard_normal(signal.shape)
    cut = random.uniform(1.25, 2.9, genes)
    y = (signal > cut).astype(np.int8) - (signal < -cut).astype(np.int8)
    y[random.random(y.shape) < 0.05] = UNTESTED
    return X, y.astype(np.int8)


def peer_seconds(X: np.ndarray, y: np.ndarray, settings: dict[str, float]) -> float:
    """CPU seconds of scikit-learn for all genes, from a sample of them."""
    genes = np.linspace(0, y.shape[1] - 1, SAMPLE).astype(int)
    started = time.process_time()
    for gene in genes:
        rows = y[:, gene] != UNTESTED
        LogisticRegression(**settings).fit(X[rows], y[rows, gene])
    return (time.process_time() - started) * y.shape[1] / len(genes)


def main() -> None:
    """Print the comparison."""
    shape = tuple(int(size) for size in sys.argv[1:4]) or SHAPE
    X, y = draw(*shape)
    LogisticPerGene().fit(X, y[:, :10])
    started = time.process_time()
    LogisticPerGene(normalize=False).fit(X, y)
    ours = time.process_time() - started
    print(f"{shape[0]} perturbations, {shape[1]} dimensions, {shape[2]} genes: CPU seconds")
    print(f"pertscale {ours:.1f}")
    for name, settings in PEERS.items():
        theirs = peer_seconds(X, y, settings)
        print(f"scikit-learn, {name} {theirs:.1f}, ratio {theirs / ours:.1f}")


if __name__ == "__main__":
    main()
