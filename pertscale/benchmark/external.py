"""What does not come from here: predictions in files, put on the screen of a benchmark."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from pertscale.benchmark.units.predictors import given_params
from pertscale.errors import ArgumentError, InputError
from pertscale.hashing import digest
from pertscale.io.gene_aliases import Aliases
from pertscale.predictions.cells import (
    OtherContextError,
    PredictedContext,
    gene_ids,
    label_predicted_cells,
)
from pertscale.predictions.predictions import (
    CELLS,
    EXPRESSION,
    OnScreen,
    Predictions,
    read_predictions,
)
from pertscale.schema import Label
from pertscale.screen import Screen
from pertscale.splits import Split
from pertscale.storage.folder_names import slug

#: Of one method: a file, what was read of one, several of these, or one per split by its name.
PredictionsLike = (
    str | os.PathLike[str] | Predictions | Sequence[Predictions] | Mapping[str, Any]
)  # fmt: skip


def read_all(
    predictions: Mapping[str, PredictionsLike] | None, aliases: Aliases | None = None
) -> dict[str, list[Predictions]]:
    """Read what was passed as ``predictions=``, by method; `aliases` where a file has none."""
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


def join(files: Sequence[OnScreen], held_out: Sequence[str]) -> OnScreen:
    """Return files that predict different perturbations of one split as one.

    What several have of a training perturbation is the first one's.

    Raises
    ------
    InputError
        If several predict one that is held out, or if they are not read alike.
    """
    if len(files) == 1:
        return files[0]
    first, *others = files
    for other in others:
        mine, theirs = given_params(first), given_params(other)
        for what in mine | theirs:
            if what != "file" and mine.get(what) != theirs.get(what):
                raise InputError(
                    f"{first.name} was read as {what}={mine.get(what)!r}, {other.name} as "
                    f"{what}={theirs.get(what)!r}; files of one method and split are read alike"
                )
    for name in held_out:
        twice = [one.predictions.source for one in files if name in one.rows]
        if len(twice) > 1:
            raise InputError(
                f"{name!r} is predicted twice for the same split, in {twice[0]} and in {twice[1]}; "
                "keep one, or say with split= and context= what each file is for"
            )
    return Joined(
        first.predictions, tuple(files), first.genes,
        tuple(sorted({label for one in files for label in one.unmatched})),
        "; ".join(dict.fromkeys(one.note for one in files if one.note)),
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Joined(OnScreen):
    """Files of one method that predict different perturbations of a split; see :func:`join`."""

    predictions: Predictions
    files: tuple[OnScreen, ...]
    genes: tuple[str, ...]
    unmatched: tuple[str, ...]
    note: str

    @property
    def name(self) -> str:
        """Names of the files."""
        return ", ".join(one.name for one in self.files)

    @cached_property
    def key(self) -> str:
        """Hash of all files."""
        return digest("joined", [one.key for one in self.files])

    @cached_property
    def rows(self) -> Mapping[str, int]:
        """What is predicted, with the number of the first file that has it."""
        pairs = [(name, i) for i, one in enumerate(self.files) for name in one.rows]
        return dict(reversed(pairs))

    @property
    def has_gene(self) -> np.ndarray:
        """Which genes of the screen some file has."""
        return np.logical_or.reduce([one.has_gene for one in self.files])

    def classes(self, perturbations: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return labels and class scores of each perturbation from the file that has it."""
        labels = np.full((len(perturbations), len(self.genes)), Label.UNTESTED, np.int8)
        scores = np.full((*labels.shape, 3), np.nan, np.float32)
        for one, at, names in self._shares(perturbations):
            labels[at], scores[at] = one.classes(names)
        return labels, scores

    def profiles(self, perturbations: Sequence[str]) -> np.ndarray:
        """Return profiles of each perturbation from the file that has it."""
        out = np.full((len(perturbations), len(self.genes)), np.nan, np.float32)
        for one, at, names in self._shares(perturbations):
            out[at] = one.profiles(names)
        return out

    def _shares(
        self, perturbations: Sequence[str]
    ) -> Iterator[tuple[OnScreen, list[int], list[str]]]:
        for i, one in enumerate(self.files):
            at = [k for k, name in enumerate(perturbations) if self.rows.get(name) == i]
            if at:
                yield one, at, [perturbations[k] for k in at]


@dataclass
class Outsiders:
    """Predictions of all methods on one screen.

    Attributes
    ----------
    files : dict
        As :func:`read_all` returns them.
    screen : Screen
    controls : dict of str to ndarray (n_genes,)
        Mean log1p expression of the controls, by context.
    alone : bool
        Whether it is the only screen.
    coverage : list of dict
        What was asked for and what there is (:data:`pertscale.schema.COVERAGE_COLUMNS`).
    found : dict
        What :meth:`find` has found, by method, context and split.
    """

    files: dict[str, list[Predictions]]
    screen: Screen
    controls: Mapping[str, np.ndarray]
    alone: bool = True
    cells: dict[tuple[str, int], dict[str, PredictedContext]] = field(default_factory=dict)
    coverage: list[dict[str, Any]] = field(default_factory=list)
    found: dict[tuple[str, str, str], OnScreen | None] = field(default_factory=dict)

    def label_cells(self, folder: Any, **how: Any) -> None:
        """Test the predicted cells of all methods; `how` is of :func:`label_predicted_cells`.

        With several screens, cells of other contexts are those of another screen.
        """
        for name, files in self.files.items():
            for i, predictions in enumerate(files):
                if predictions.kind == CELLS:
                    inputs = digest(predictions.key, self.screen.fingerprint)
                    place = folder / f"{slug(name)}-{inputs[:12]}"
                    try:
                        self.cells[name, i] = label_predicted_cells(
                            predictions, self.screen, place, controls=self.controls, **how
                        )
                    except OtherContextError:
                        if self.alone:
                            raise
                        self.cells[name, i] = {}

    def find(self, name: str, context: str, split: Split) -> OnScreen | None:
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
                    mine.profiles(held_out)  # values that can't be used are an error now
                row = {"what": "prediction", "name": name, "context": context, "split": split.name}
                self.coverage.append({**row, **mine.coverage(held_out)})
        return self.found[key]

    def meant_for(self, name: str) -> str:
        """Return the contexts and splits that a method's files are for, in words."""
        told = []
        for predictions in self.files[name]:
            if predictions.kind == CELLS:
                pairs = [(str(predictions.options["context"] or ""), predictions.options["split"])]
            else:
                pairs = [(part.context, part.split) for part in predictions.parts]
            told += [f"context {c or 'any'!r} and split {s or 'any'!r}" for c, s in pairs]
        return "; ".join(dict.fromkeys(told))

    def _one(self, name: str, i: int, context: str, split: Split) -> OnScreen | None:
        predictions = self.files[name][i]
        if predictions.kind == CELLS:
            meant = predictions.options["split"] in ("", split.name)
            return self.cells[name, i].get(context) if meant else None
        return predictions.align(
            context, split.name,
            perturbations=self.screen.perturbations,
            genes=list(self.screen.genes),
            control=self.controls[context],
            gene_ids=gene_ids(self.screen),
        )  # fmt: skip
