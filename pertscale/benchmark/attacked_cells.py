"""Attacks on the test of predicted cells, through the same files and the same test as others'."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pertscale._computing import compute
from pertscale.evaluation import ATTACKS, Attack
from pertscale.hashing import seed_from
from pertscale.io.store.matrix import normalise
from pertscale.predictions.cells import label_predicted_cells
from pertscale.predictions.predictions import read_predictions
from pertscale.schema import CELL, CONTROL, GENE, LOG1P_1E4, Label
from pertscale.screen import Screen
from pertscale.storage.scratch import scratch_root

#: Control cells that predicted cells are drawn from.
_MOST_CONTROLS: Final = 1000
#: Predicted values of an attack that are in memory, at most: perturbations beyond are left out.
_MOST_VALUES: Final = 50_000_000
#: Class scores of a pair that has no predicted cells.
_NON_DE: Final = np.array([0, 1, 0], np.float32)


def _rescaled(made: NDArray) -> NDArray[np.float32]:
    """Return cells in log1p expression with the total that files of it have to have."""
    values = np.expm1(np.asarray(made, np.float64))
    return normalise(values, values.sum(axis=1, keepdims=True))


@dataclass(frozen=True, eq=False, kw_only=True)
class CellSource:
    """Control cells of a context, and how many cells of each perturbation were measured.

    Attributes
    ----------
    screen : Screen
    context : str
    control : ndarray (gene,)
        Mean log1p expression of the controls.
    n_cells : dict of str to int
    """

    screen: Screen
    context: str
    control: np.ndarray
    n_cells: Mapping[str, int]

    def affordable(self, held_out: tuple[str, ...]) -> tuple[str, ...]:
        """Return the first perturbations whose cells fit into memory, at least one."""
        values = np.cumsum([self.n_cells[name] for name in held_out]) * self.screen.n_genes
        return held_out[: max(1, int((values <= _MOST_VALUES).sum()))]

    def controls(self) -> NDArray[np.float32]:
        """Return some control cells, evenly spaced, in log1p expression."""
        first, last = self.screen.control_rows(self.context)
        rows = np.unique(
            np.linspace(first, last - 1, min(_MOST_CONTROLS, last - first)).astype(int)
        )
        cells = self.screen.to_xarray()["expression"].isel({CELL: rows})
        return np.asarray(compute(cells.data)[0])

    def test(
        self, held_out: tuple[str, ...], multiple: np.ndarray
    ) -> dict[str, tuple[NDArray, tuple[NDArray, NDArray]]]:
        """Return profiles and classes of each attack: its cells are written, read and tested.

        `multiple` is that of the control which training perturbations are in the mean, (gene,).
        """
        cells = self.controls()
        found = {}
        with tempfile.TemporaryDirectory(dir=scratch_root()) as folder:
            for name, attack in ATTACKS.items():
                if attack.kind == "cells":
                    file = Path(folder) / f"{name}.h5ad"
                    self._write(file, name, attack, held_out, cells, multiple)
                    found[name] = self._tested(file, attack, held_out)
        return found

    def _write(
        self,
        file: Path,
        name: str,
        attack: Attack,
        held_out: tuple[str, ...],
        cells: NDArray,
        multiple: np.ndarray,
    ) -> None:
        """Write the cells of an attack as a file that somebody hands in."""
        import anndata
        from scipy import sparse

        parts, labels = [], []
        for one in held_out:
            random = np.random.default_rng(seed_from(name, one))
            made = attack.make(cells, multiple, self.n_cells[one], random)
            parts.append(sparse.csr_matrix(_rescaled(made)))
            labels += [one] * len(made)
        if attack.own_controls is not None:
            made = attack.own_controls(cells, multiple)
            parts.append(sparse.csr_matrix(_rescaled(made)))
            labels += [CONTROL] * len(made)
        obs = pd.DataFrame({"perturbation": labels}, index=[f"cell{i}" for i in range(len(labels))])
        var = pd.DataFrame(index=pd.Index(self.screen.genes.to_numpy(object), name=GENE))
        anndata.AnnData(sparse.vstack(parts, format="csr"), obs, var).write_h5ad(file)

    def _tested(
        self, file: Path, attack: Attack, held_out: tuple[str, ...]
    ) -> tuple[NDArray, tuple[NDArray, NDArray]]:
        how: Any = "observed" if attack.own_controls is None else "in_file"
        given = read_predictions(
            file,
            scale=LOG1P_1E4,
            control=how,
            context=self.context,
            perturbation="perturbation",
            control_label=CONTROL,
        )
        tested = label_predicted_cells(
            given,
            self.screen,
            file.with_suffix(""),
            controls={self.context: self.control},
            quiet=True,
        )[self.context]
        labels, scores = tested.classes(held_out)
        missing = labels == Label.UNTESTED  # counts as unchanged, as in any file
        labels[missing], scores[missing] = Label.NON_DE, _NON_DE
        return tested.profiles(held_out).astype(np.float64), (labels, scores)
