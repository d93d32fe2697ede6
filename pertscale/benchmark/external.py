"""Predictions from files, aligned to the screen of a benchmark."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pertscale.benchmark.run_log import RunLog
from pertscale.errors import ArgumentError
from pertscale.hashing import digest
from pertscale.io.gene_aliases import Aliases
from pertscale.predictions.cells import (
    CellPredictions,
    OtherContextError,
    label_predicted_cells,
)
from pertscale.predictions.joined import join
from pertscale.predictions.predictions import (
    CELLS,
    CLASS_SCORES,
    EXPRESSION,
    LABELS,
    AlignedPredictions,
    Predictions,
    read_predictions,
)
from pertscale.screen import Screen
from pertscale.splits import Split
from pertscale.splits.rule import SplitRule
from pertscale.storage.folder_names import slug
from pertscale.versions import PREDICTIONS_VERSION

#: Predictions of one method: a file, what was read of one, several of these, or one per split by
#: name.
PredictionsLike = str | os.PathLike[str] | Predictions | Sequence[Predictions] | Mapping[str, Any]


def read_all(
    predictions: Mapping[str, PredictionsLike] | None, aliases: Aliases | None = None
) -> dict[str, list[Predictions]]:
    """Read what was passed as ``predictions=``, by method; `aliases` if a file has none."""
    if predictions is None:
        return {}
    return {
        str(name): [
            replace(one, aliases=aliases) if one.aliases is None else one for one in _read(found)
        ]
        for name, found in predictions.items()
    }


def _read(found: Any) -> list[Predictions]:
    if isinstance(found, Predictions):
        return [found]
    if isinstance(found, str | os.PathLike):
        return [read_predictions(found)]
    if isinstance(found, Mapping):
        return [_for_split(one, str(split)) for split, one in found.items()]
    if isinstance(found, list | tuple):
        return [one for each in found for one in _read(each)]
    raise ArgumentError(
        f"predictions= has a {type(found).__name__}; needed is a file, what "
        "pertscale.read_predictions returned, a list of these, or split name → one of these"
    )


def _for_split(found: Any, split: str) -> Predictions:
    if not isinstance(found, Predictions):
        return read_predictions(found, split=split)
    if found.kind == CELLS:
        return replace(found, options={**found.options, "split": split})
    return replace(found, parts=tuple(replace(part, split=split) for part in found.parts))


@dataclass(kw_only=True)
class ExternalPredictions:
    """Predictions of all methods on one screen.

    Attributes
    ----------
    files : dict
        As :func:`read_all` returns them.
    screen : Screen
    controls : dict of str to ndarray (n_genes,)
        Mean log1p expression of the controls, by context.
    rule : SplitRule
        How splits are drawn.
    min_cells : int
        Cells that perturbations of splits have, at least.
    min_knockdown : float, optional
        As of the run: perturbations of splits have it, where it is given.
    alone : bool
        Whether it is the only screen.
    coverage : list of dict
        What was asked for and what is predicted (:data:`pertscale.schema.COVERAGE_COLUMNS`).
    found : dict
        What :meth:`find` has found, by method, context and split.
    """

    files: dict[str, list[Predictions]]
    screen: Screen
    controls: Mapping[str, np.ndarray]
    rule: SplitRule
    min_cells: int
    min_knockdown: float | None = None
    alone: bool = True
    cells: dict[tuple[str, int], dict[str, CellPredictions]] = field(default_factory=dict)
    coverage: list[dict[str, Any]] = field(default_factory=list)
    found: dict[tuple[str, str, str], AlignedPredictions | None] = field(default_factory=dict)

    def label_cells(self, folder: Any, **how: Any) -> None:
        """Test the predicted cells of all methods; `how` is of :func:`label_predicted_cells`.

        With several screens, cells of other contexts are those of another screen.
        """
        for name, files in self.files.items():
            for i, predictions in enumerate(files):
                if predictions.kind == CELLS:
                    inputs = digest(PREDICTIONS_VERSION, predictions.key, self.screen.fingerprint)
                    place = folder / f"{slug(name)}-{inputs[:12]}"
                    try:
                        self.cells[name, i] = label_predicted_cells(
                            predictions, self.screen, place, controls=self.controls, **how
                        )
                    except OtherContextError:
                        if self.alone:
                            raise
                        self.cells[name, i] = {}

    def find(self, name: str, context: str, split: Split) -> AlignedPredictions | None:
        """Return a method's predictions for a context and split, None where it has none.

        Raises
        ------
        InputError
            For values that can't be used.
        """
        key = (name, context, split.hash)
        if key not in self.found:
            asked = (self._one(name, i, context, split) for i in range(len(self.files[name])))
            there = [one for one in asked if one is not None]
            held_out = list(split.held_out)
            mine = join(there, held_out) if there else None
            self.found[key] = mine
            if mine is not None:
                if mine.predictions.kind == EXPRESSION:
                    mine.profiles(held_out)  # unusable values are an error here, not later
                row = {"what": "prediction", "name": name, "context": context, "split": split.name}
                self.coverage.append({**row, **mine.coverage(held_out)})
        return self.found[key]

    def for_split(
        self, context: str, split: Split, *, log: RunLog, where: str = "", task: str = ""
    ) -> dict[str, AlignedPredictions]:
        """Return the predictions of all methods for a split; `log` says which have none, and why.

        `where` and `task` are words for that, where `context` is not enough.
        """
        predictions = {}
        step = f"{task}, {split.name}" if task else split.name
        held_out = set(split.held_out)
        for name in self.files:
            aligned = self.find(name, context, split)
            if aligned is not None and held_out & set(aligned.rows):
                predictions[name] = aligned
                continue
            reason = (
                f"its files are for {self.intended_for(name)}"
                if aligned is None
                else "it predicts none of the held-out perturbations; see splits/"
            )
            log.skip(f"{name} ({step})", where or context, reason)
        return predictions

    def intended_for(self, name: str) -> str:
        """Return the contexts and splits that a method's files are for, in words."""
        told = []
        for predictions in self.files[name]:
            if predictions.kind == CELLS:
                pairs = [(str(predictions.options["context"] or ""), predictions.options["split"])]
            else:
                pairs = [(part.context, part.split) for part in predictions.parts]
            told += [f"context {c or 'any'!r} and split {s or 'any'!r}" for c, s in pairs]
        return "; ".join(dict.fromkeys(told))

    def _one(self, name: str, i: int, context: str, split: Split) -> AlignedPredictions | None:
        predictions = self.files[name][i]
        if predictions.kind == CELLS:
            meant = predictions.options["split"] in ("", split.name)
            return self.cells[name, i].get(context) if meant else None
        drawn = self.rule.in_words(
            split, min_cells=self.min_cells, min_knockdown=self.min_knockdown
        )
        predictions.check_split(context, split, drawn=drawn)
        return predictions.align(
            context,
            split.name,
            perturbations=self.screen.perturbations,
            genes=list(self.screen.genes),
            control=self.controls[context],
            gene_ids=self.screen.gene_ids,
        )


def with_profiles(given: Mapping[str, AlignedPredictions]) -> dict[str, AlignedPredictions]:
    """Return those of some predictions that have profiles of expression, not only classes."""
    return {
        name: predictions
        for name, predictions in given.items()
        if predictions.predictions.kind not in (LABELS, CLASS_SCORES)
    }
