"""Whether a prediction is nearer to its own truth than to those of other perturbations.

Distances of all predictions to all truths are n² · genes operations: they are computed for a few
predictions at a time, in threads, and of equal predictions, such as those of a mean, once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

import numpy as np
import pandas as pd
from dask.system import CPU_COUNT
from numpy.typing import NDArray

from pertscale.evaluation._kernels.retrieval import count_nearer, distances

#: Truths of a panel of :class:`Truths`: with 1,000 genes 1 MB, which stays in a processor's cache.
_WIDTH: Final = 128
#: Predictions whose distances to all truths are held at a time, by each thread.
_ROWS: Final = 16
N_THREADS: Final = min(CPU_COUNT, 16)


class Truths:
    """True changes, laid out so that a gene of many perturbations is read at once.

    Parameters
    ----------
    truth : ndarray (perturbation, gene)
    control : ndarray (gene,)
    genes : ndarray of int
        The genes that are compared. Of these one copy is kept.
    """

    def __init__(self, truth: NDArray, control: np.ndarray, genes: np.ndarray) -> None:
        self.n = len(truth)
        self._panels = np.zeros((-(-self.n // _WIDTH), len(genes), _WIDTH))
        self._length = np.empty(self.n)
        for i, panel in enumerate(self._panels):
            rows = slice(i * _WIDTH, min((i + 1) * _WIDTH, self.n))
            change = truth[rows, genes] - control[genes]
            panel[:, : len(change)] = change.T
            self._length[rows] = np.linalg.norm(change, axis=1)

    def ranks(self, delta: NDArray, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Return where the own truth stands among all by its distance to the prediction.

        1: no other truth is nearer; 0: all others are; ties count half, so a prediction that is the
        same for all has 0.5 on average. By L1 distance, and by cosine of the changes.

        Parameters
        ----------
        delta : ndarray (prediction, gene)
            Predicted changes from the control.
        rows : ndarray (prediction,), int
            Which truth is the own one.

        Returns
        -------
        dict of str to ndarray (prediction,)
            ``rank_l1, rank_cosine``; NaN where there is nothing to compare. Memory: distances of
            16 predictions to all truths, per thread.
        """
        found = {name: np.full(len(rows), np.nan) for name in ("rank_l1", "rank_cosine")}
        if self.n < 2 or not self._panels.shape[1] or not len(rows):
            return found
        first, same_as = _distinct(delta)
        parts = list(_parts(first, same_as))
        nearer = np.empty((2, len(rows)))
        work = partial(self._count, delta, rows, nearer)
        if len(parts) == 1:
            work(parts[0])
        else:
            with ThreadPoolExecutor(N_THREADS) as pool:
                list(pool.map(work, parts))
        for values, counted in zip(found.values(), nearer, strict=True):
            values[:] = 1 - counted / (self.n - 1)
        return found

    def _count(
        self, delta: NDArray, rows: np.ndarray, nearer: NDArray, part: tuple[np.ndarray, ...]
    ) -> None:
        """Count the nearer truths of the predictions of a part, ties half."""
        distinct, members, which = part
        l1, dot = (np.empty((len(distinct), self._panels.shape[0] * _WIDTH)) for _ in range(2))
        distances(self._panels, delta[distinct], l1, dot)
        cosine = np.divide(
            -dot[:, : self.n],
            self._length,
            out=np.zeros((len(distinct), self.n)),
            where=self._length > 0,
        )
        for counted, distance in zip(nearer, (l1, cosine), strict=True):
            counted[members] = count_nearer(distance, self.n, which, rows[members])


def _distinct(values: NDArray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first of each group of equal rows, and the group of each row."""
    values = np.ascontiguousarray(values + 0.0)  # and no -0
    keys = [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in values]
    same_as, _ = pd.factorize(np.array(keys, object))
    _, first = np.unique(same_as, return_index=True)
    return first, same_as


def _parts(first: np.ndarray, same_as: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield some distinct predictions, all rows that equal one of them, and which."""
    order = np.argsort(same_as, kind="stable")
    start = np.searchsorted(same_as[order], np.arange(len(first) + 1))
    for at in range(0, len(first), _ROWS):
        end = min(at + _ROWS, len(first))
        members = order[start[at] : start[end]]
        yield first[at:end], members, same_as[members] - at
