"""Files of one method that predict different perturbations, as one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pertscale.errors import InputError
from pertscale.hashing import digest
from pertscale.predictions.predictions import AlignedPredictions, Predictions
from pertscale.schema import Label


def join(files: Sequence[AlignedPredictions], held_out: Sequence[str]) -> AlignedPredictions:
    """Return files that predict different perturbations of one split as one.

    Of a training perturbation that several files have, the first one counts.

    Raises
    ------
    InputError
        If several predict a held-out perturbation, or if they are not read alike.
    """
    if len(files) == 1:
        return files[0]
    first, *others = files
    for other in others:
        mine, theirs = first.params(), other.params()
        for what in mine | theirs:
            of_each = what == "file" or what.startswith("n_")  # its name, numbers of its cells
            if not of_each and mine.get(what) != theirs.get(what):
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
    return JoinedPredictions(
        first.predictions,
        tuple(files),
        first.genes,
        tuple(sorted({label for one in files for label in one.unmatched})),
        "; ".join(dict.fromkeys(one.note for one in files if one.note)),
    )


@dataclass(frozen=True, eq=False)
class JoinedPredictions(AlignedPredictions):
    """Files of one method that predict different perturbations of a split; see :func:`join`."""

    predictions: Predictions
    files: tuple[AlignedPredictions, ...]
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
        """Perturbation → number of the first file that predicts it."""
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
    ) -> Iterator[tuple[AlignedPredictions, list[int], list[str]]]:
        for i, one in enumerate(self.files):
            at = [k for k, name in enumerate(perturbations) if self.rows.get(name) == i]
            if at:
                yield one, at, [perturbations[k] for k in at]
