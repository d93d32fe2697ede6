"""Predictions of any model, and how they are put on a screen's genes and perturbations.

A file is read into :class:`Predictions` as it is: names as it spells them, values on its own scale.
:meth:`Predictions.align` puts one context and split on a screen: perturbations by the grammar of
names, genes by name, values as mean log1p expression beside the screen's own control. What is
missing is NaN, and counted; nothing is filled in here.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pertscale import display
from pertscale.arguments import checked
from pertscale.errors import ArgumentError, InputError
from pertscale.gene_names import match_genes
from pertscale.hashing import digest
from pertscale.io.gene_aliases import Aliases, read_aliases
from pertscale.io.long_tables import CODES, Codes
from pertscale.predictions.files import (
    CLASS_SCORES,
    EXPRESSION,
    LABELS,
    PredictionTable,
    read_parts,
)
from pertscale.predictions.files.arrays import gene_list
from pertscale.predictions.matching import match_rows
from pertscale.predictions.profile_scale import (
    common_factor,
    factor_note,
    is_another_total,
    total_named,
)
from pertscale.predictions.scales import (
    DELTA,
    EXPRESSION_SCALES,
    LFC,
    ExpressionScale,
    check_values,
    distance_from_control,
    to_log1p,
)
from pertscale.schema import CONTROL, COUNTS, LOG1P_1E4, MOST_LOG1P, Label
from pertscale.splits import Split
from pertscale.storage.files import states
from pertscale.storage.publish import local_copy

CELLS: Final = "cells"
#: Profiles are on a scale if they lie this near to the control, in lengths of the control, and
#: twice as near as on any other.
_NEAR: Final = 0.35
#: Number of profiles that prove a scale.
_SAMPLED: Final = 64

#: Parts that a notebook shows.
_MOST_PARTS: Final = 12
_KINDS: Final = {
    EXPRESSION: "expression of each condition",
    LABELS: "classes",
    CLASS_SCORES: "probabilities of classes",
    CELLS: "single cells, which are tested like observed ones",
}

Control = Literal["observed", "in_file"]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Predictions:
    """What a file predicts; made by :func:`read_predictions`.

    Attributes
    ----------
    source : str
        File or folder.
    kind : {'expression', 'labels', 'class_scores', 'cells'}
    scale : str or None
        Of expression: 'log1p_1e4', 'counts', 'delta' or 'lfc'; None where it still has to be proved
        against a screen's control.
    control : {'observed', 'in_file'}
        What changes are measured from.
    parts : tuple of PredictionTable
        Contexts and splits that the file tells apart; empty for cells, which are read later.
    options : dict
        How the file is read; of cells, which are read later, all that is known.
    """

    source: str
    kind: str
    scale: str | None
    control: Control
    parts: tuple[PredictionTable, ...]
    options: dict[str, Any] = field(default_factory=dict)
    aliases: Aliases | None = None

    @property
    def name(self) -> str:
        """Name of the file or folder."""
        return Path(self.source).name

    @property
    def key(self) -> str:
        """Hash of the source's files (name, size, time) and of how they are read."""
        path = Path(self.source)
        names = [[p.context, p.split, list(p.perturbations), list(p.genes)] for p in self.parts]
        aliases = read_aliases(self.aliases)
        how = [self.kind, self.scale or "", self.control, self.options, names, aliases]
        return digest(str(path), states([path]), *how)

    def part(self, context: str, split: str) -> PredictionTable | None:
        """Return the part for a context and split; None if the file has none for them.

        A part that names no context or split is for any.
        """
        fitting = [
            part
            for part in self.parts
            if part.context in ("", context) and part.split in ("", split)
        ]
        if not fitting:
            return None
        return max(fitting, key=lambda p: (p.context == context, p.split == split))

    def check_split(self, context: str, split: Split, *, drawn: str) -> None:
        """Refuse predictions for a split that has the name of `split` but holds out others.

        Parameters
        ----------
        context : str
        split : Split
            What is to be scored.
        drawn : str
            How that came about, in words.

        Raises
        ------
        InputError
        """
        part = self.part(context, split.name)
        if part is None or part.split_hash in ("", split.hash):
            return
        raise InputError(
            f"predictions for split {split.name!r} of context {context!r} are for others than are "
            f"held out here: their split ({part.split_drawn}) has the hash {part.split_hash}, the "
            f"one of this run ({drawn}) {split.hash}; run the models and the benchmark with the "
            f"same options, or pass both the same split= ({self.source})"
        )

    def align(
        self,
        context: str,
        split: str,
        *,
        perturbations: Sequence[str],
        genes: Sequence[str],
        control: NDArray | None = None,
        gene_ids: Sequence[str] | None = None,
    ) -> AlignedTable | None:
        """Put the predictions on a screen.

        Parameters
        ----------
        context, split : str
            What they are to be scored on; None is returned if the file has nothing for it.
        perturbations : sequence of str
            Canonical names that may be asked for.
        genes : sequence of str
            Read-out genes of the screen.
        control : ndarray (n_genes,), optional
            The screen's control, mean log1p expression; needed for expression.
        gene_ids : sequence of str, optional
            Second names of the genes.

        Raises
        ------
        InputError
            No gene or no perturbation is found, a perturbation occurs twice, or the scale is
            contradicted by the values or can't be proved.
        """
        part = self.part(context, split)
        if part is None:
            return None
        aliases = read_aliases(self.aliases)
        match = match_genes(part.genes, genes, reference_ids=gene_ids, aliases=aliases)
        if not match.n_matched:
            raise InputError(
                f"none of the {len(part.genes)} genes (such as {part.genes[0]!r}) is a gene of the "
                f"screen (such as {genes[0]!r}); pass aliases=, or turn the table if rows and "
                f"columns are swapped ({self.source})"
            )
        rows, unmatched = match_rows(part.perturbations, perturbations, genes, self.source)
        if not set(rows) - {CONTROL}:
            raise InputError(
                f"none of the {len(part.perturbations)} conditions (such as "
                f"{part.perturbations[0]!r}) is a perturbation of the screen (such as "
                f"{perturbations[0]!r}) ({self.source})"
            )
        counts = match.account["how"].value_counts()
        note = ", ".join(f"{n} genes: {how}" for how, n in counts.items())
        return AlignedTable(
            predictions=self,
            part=part,
            position=match.position,
            rows_by_name=rows,
            unmatched=unmatched,
            gene_account=match.account,
            control=control,
            genes=tuple(genes),
            note=note,
        )

    def __repr__(self) -> str:
        scale = "" if self.kind != EXPRESSION else f", {self.scale or 'scale to be proved'}"
        sizes = "; ".join(
            " ".join(filter(None, [p.context, p.split, f"{len(p.perturbations)} x {len(p.genes)}"]))
            for p in self.parts
        )
        sizes = f", {sizes}" if sizes else ""
        return f"<Predictions {self.name}: {self.kind}{scale}{sizes}>"

    def _repr_html_(self) -> str:
        facts = {
            "what": _KINDS.get(self.kind, self.kind),
            "scale": (self.scale or "to be proved against a screen") if self.kind != LABELS else "",
            "changes from": "the screen's control" if self.control == "observed" else "its own",
            "read with": ", ".join(f"{k}={v!r}" for k, v in self.options.items() if v),
        }
        shown = self.parts[:_MOST_PARTS]
        rows = [
            (p.context or "any", p.split or "any", f"{len(p.perturbations):,}", f"{len(p.genes):,}")
            for p in shown
        ]
        table = display.table(["context", "split", "conditions", "genes"], rows, text=2)
        hidden = len(self.parts) - len(shown)
        notes = [note for part in shown for note in part.notes]
        return display.card(
            "Predictions",
            self.name,
            display.facts(facts),
            table if rows else "",
            display.line(f"and {hidden:,} more parts") if hidden else "",
            display.details("notes of the reader", display.bullets(notes)) if notes else "",
        )


class AlignedPredictions(ABC):
    """Predictions on a screen's genes and perturbations, from any kind of file.

    Attributes
    ----------
    predictions : Predictions
    genes : tuple of str
        Read-out genes of the screen.
    unmatched : tuple of str
        Labels of the file that are no perturbation of the screen.
    note : str
        What users should know, beside what is missing.
    """

    predictions: Predictions
    genes: tuple[str, ...]
    unmatched: tuple[str, ...]
    note: str

    @property
    def name(self) -> str:
        """Name of the file, or of the files."""
        return self.predictions.name

    @cached_property
    def key(self) -> str:
        """Hash of the files, as they were on first access, and of how they are read."""
        return self.predictions.key

    @property
    @abstractmethod
    def rows(self) -> Mapping[str, int]:
        """Canonical names of what is predicted, the file's own control among them, with rows."""

    @property
    @abstractmethod
    def has_gene(self) -> np.ndarray:
        """Which genes of the screen are predicted, (n_genes,) bool."""

    @abstractmethod
    def classes(self, perturbations: Sequence[str]) -> tuple[NDArray, NDArray]:
        """Return labels int8 (perturbation, gene) and class scores float32 (…, 3).

        Labels are ``Label.UNTESTED`` and scores NaN where nothing is predicted.
        """

    @abstractmethod
    def profiles(self, perturbations: Sequence[str]) -> NDArray:
        """Return mean log1p expression (perturbation, gene), float32; NaN where there is none."""

    def params(self) -> dict[str, Any]:
        """Return what the record of a run says: the file, and what its values are measured from."""
        params = {
            "file": self.name,
            "kind": self.predictions.kind,
            "scale": self.predictions.scale,
            "control": self.predictions.control,
        }
        return params | ({"clip": True} if self.predictions.options.get("clip") else {})

    def coverage(self, perturbations: Sequence[str]) -> dict[str, Any]:
        """Return how many of some perturbations and genes are predicted, and what is missing."""
        lost = [p for p in perturbations if p not in self.rows]
        genes_lost = [g for g, there in zip(self.genes, self.has_gene, strict=True) if not there]
        return {
            "n_perturbations": len(perturbations),
            "n_perturbations_predicted": len(perturbations) - len(lost),
            "perturbations_missing": ",".join(lost),
            "n_genes": len(self.genes),
            "n_genes_predicted": len(self.genes) - len(genes_lost),
            "genes_missing": ",".join(genes_lost),
            "not_in_screen": ",".join(self.unmatched),
            "note": self.note,
        }


@dataclass(frozen=True, eq=False, kw_only=True)
class AlignedTable(AlignedPredictions):
    """A part of a file on a screen's genes; values are computed when they are asked for.

    Attributes
    ----------
    position : ndarray of intp
        Position of each gene of the file in the screen; -1 where there is none.
    """

    predictions: Predictions
    part: PredictionTable
    position: np.ndarray
    rows_by_name: dict[str, int]
    unmatched: tuple[str, ...]
    gene_account: pd.DataFrame
    control: NDArray | None
    genes: tuple[str, ...]
    note: str = ""

    @property
    def rows(self) -> Mapping[str, int]:
        """Canonical perturbation → row of the part."""
        return self.rows_by_name

    @property
    def has_gene(self) -> np.ndarray:
        """Which genes of the screen the file has, (n_genes,) bool."""
        there = np.zeros(len(self.genes), bool)
        there[self.position[self.position >= 0]] = True
        return there

    def classes(self, perturbations: Sequence[str]) -> tuple[NDArray, NDArray]:
        """Return labels and class scores; a file of labels has scores of 0 and 1."""
        if self.part.kind == LABELS:
            labels = self._placed(perturbations, int(Label.UNTESTED), np.int8)
            scores = np.stack([labels == c for c in (-1, 0, 1)], axis=2).astype(np.float32)
            scores[labels == Label.UNTESTED] = np.nan
            return labels, scores
        scores = self._placed(perturbations, np.nan, np.float32)
        best = np.nan_to_num(scores, nan=-1.0)[:, :, [1, 2, 0]].argmax(axis=2)  # ties: non-DE, up
        labels = np.array([0, 1, -1], np.int8)[best]
        labels[np.isnan(scores).any(axis=2)] = Label.UNTESTED
        return labels, scores

    def profiles(self, perturbations: Sequence[str]) -> NDArray:
        """Return mean log1p expression of some perturbations, float32; NaN where there is none."""
        assert self.control is not None
        scale, control = self.proved_scale(), self.control
        values = self._placed(perturbations, np.nan, np.float32)
        check_values(values, scale, perturbations, self.predictions.source)
        found = to_log1p(values, scale, control)
        if self.predictions.control == "in_file" and scale in (LOG1P_1E4, COUNTS):
            if CONTROL not in self.rows:
                raise InputError(
                    f"control='in_file' was asked for, but there is no control among the conditions"
                    f" ({self.predictions.source})"
                )
            own = to_log1p(self._placed([CONTROL], np.nan, np.float32), scale, control)
            found = control + (found - own)
        return found.astype(np.float32)

    def proved_scale(self) -> str:
        """Return the declared scale, or the one that the values and the control prove.

        Raises InputError if none or several fit.
        """
        return self.predictions.scale or self._proved

    def coverage(self, perturbations: Sequence[str]) -> dict[str, Any]:
        """Return what there is and what is missing; the note tells the scale of expression."""
        found = super().coverage(perturbations)
        if self.part.kind != EXPRESSION or self.control is None:
            return found
        scale = self.proved_scale()
        how = "declared" if self.predictions.scale else "proved against the control"
        notes = [found["note"], f"read as {scale}, {how}"]
        if scale == LOG1P_1E4:
            notes.append(factor_note(common_factor(self._sampled, self.control)))
        return {**found, "note": "; ".join(filter(None, notes))}

    @cached_property
    def _sampled(self) -> NDArray:
        """Profiles of some perturbations, as the file has them."""
        names = [n for n in self.rows if n != CONTROL][:_SAMPLED]
        return self._placed(names, np.nan, np.float32)

    @cached_property
    def _proved(self) -> str:
        """The scale that the values have, as the control shows."""
        assert self.control is not None
        values, where = self._sampled, self.predictions.source
        if np.isnan(values).all():
            raise InputError(
                "there is no value for any perturbation and gene of the screen, all are missing "
                f"({where})"
            )
        negative = np.nanmin(values, initial=0) < 0
        read = {
            scale: to_log1p(values, scale, self.control)
            for scale in ((LOG1P_1E4,) if negative else (LOG1P_1E4, COUNTS))
        }
        known = {scale: distance_from_control(found, self.control) for scale, found in read.items()}
        best, *others = sorted(known, key=known.__getitem__)
        fits = known[best] < _NEAR and all(known[o] > 2 * known[best] for o in others)
        other = _other_total(values, self.control, read[best] if fits else None, best)
        if other:
            near = f"{best} (their distance from the control is {known[best]:.2f}), and as "
            raise InputError(
                f"the values can be read as {near if fits else ''}{other}, since the most "
                "expressed genes differ from the control by one factor. Write them per 10,000: of "
                "cells, numpy.log1p(counts / counts.sum() * 10000), then the mean; "
                f"or declare scale= ({', '.join(EXPRESSION_SCALES)}) to score them as they are "
                f"({where})"
            )
        if fits:
            return best
        seen = ", ".join(f"{distance:.2f} as {scale}" for scale, distance in known.items())
        raise InputError(
            f"the scale of the values can't be proved: they differ from the screen's control by "
            f"{seen}, in lengths of the control; declare it with scale= "
            f"({', '.join(EXPRESSION_SCALES)}) ({where})"
        )

    def _placed(self, perturbations: Sequence[str], missing: float, dtype: Any) -> NDArray:
        """Return rows of the file in the screen's order of genes."""
        known = np.flatnonzero([name in self.rows for name in perturbations])
        at = np.array([self.rows[n] for n in perturbations if n in self.rows], np.intp)
        source = self.part.values[at] if len(at) else np.empty((0, *self.part.values.shape[1:]))
        found = np.asarray(source, dtype)
        shape = (len(perturbations), len(self.genes), *found.shape[2:])
        out = np.full(shape, missing, dtype)
        here = self.position >= 0
        out[np.ix_(known, self.position[here])] = found[:, here]
        return out


# --- reading --------------------------------------------------------------------------------------


@checked
def read_predictions(
    path: str | os.PathLike[str],
    *,
    scale: ExpressionScale | None = None,
    control: Control = "observed",
    context: str | None = None,
    split: str | None = None,
    genes: str | os.PathLike[str] | Sequence[str] | None = None,
    aliases: Aliases | None = None,
    codes: Codes | None = None,
    layer: str | None = None,
    perturbation: str | None = None,
    control_label: str | Sequence[str] = (),
    context_column: str | None = None,
    clip: bool = False,
    allow_pickle: bool = False,
) -> Predictions:
    """Read the predictions of a model, in any of many formats.

    Parameters
    ----------
    path
        Single cells: ``.h5ad`` or AnnData-Zarr; never loaded whole. One row per condition: h5ad,
        AnnData-Zarr, Zarr over (perturbation, gene), a wide csv/tsv/parquet (rows are conditions),
        ``.npz``; the second paper's folder (``all_predictions.json``, ``gene_names.json``);
        a dictionary condition → vector (``.pkl``, ``.npz``), such as GEARS'. Long csv/parquet with
        ``perturbation, gene`` and ``value``, or ``label``, or ``p_down, p_non_de, p_up``; further
        columns ``context`` and ``split`` tell parts apart.
    scale : {'log1p_1e4', 'counts', 'delta', 'lfc'}, optional
        Of expression: mean log1p of counts per 10,000; mean counts, which are scaled to 10,000 and
        logged (the log of a mean, as the mean of logs is not known); change of mean log1p
        expression from control; log2 fold change of its ``expm1``. Without it, the scale has to be
        proved against the screen's control, which only the first two can be.
    control : {'observed', 'in_file'}
        What changes are measured from: the screen's own controls, or those that the file brings.
        The latter is recorded with every score.
    context, split : str, optional
        What the predictions are for, where the file does not say.
    genes : list or path, optional
        Names of the values in their order, where the file does not carry them: dictionaries of
        vectors, and h5ad that only numbers its genes, as STATE's.
    aliases : path or mapping, optional
        Other names of genes → names of the screen's.
    codes : str, optional
        Meaning of integer classes: 'pertscale', 'synthpert' or 'up_first'.
    layer : str, optional
        NDArray of an AnnData file, or variable of a dataset.
    perturbation, control_label, context_column : optional
        Columns and control labels of files of cells, where they can't be told.
    clip : bool
        Whether values below zero of predicted cells are read as zero, instead of being refused
        (method G1); the account says so.
    allow_pickle : bool
        Whether a pickle of plain numbers may be read; nothing in it is run.

    Returns
    -------
    Predictions

    Raises
    ------
    NotFoundError, CorruptFileError
        The path is missing or damaged.
    InputError
        The content is not a prediction, or has values that its scale can't have.

    Notes
    -----
    Memory: the values as float32, one row of text at a time; Zarr stays on disk.

    Examples
    --------
    >>> wide = pd.DataFrame({"HBG1": [1.5, 1.0], "ACTB": [2.0, 2.1]}, index=["GATA1", "KLF1+ctrl"])
    >>> wide.to_parquet("mine.parquet")
    >>> ps.read_predictions("mine.parquet", scale="log1p_1e4").kind
    'expression'
    """
    if scale is not None and scale not in EXPRESSION_SCALES:
        raise ArgumentError(f"scale={scale!r} is not one of {', '.join(EXPRESSION_SCALES)}")
    if codes is not None and codes not in CODES:
        raise ArgumentError(f"codes={codes!r} is not one of {', '.join(CODES)}")
    if control not in ("observed", "in_file"):
        raise ArgumentError(f"control={control!r} is not 'observed' or 'in_file'")
    path = local_copy(path)
    parts = read_parts(
        path,
        genes=genes,
        codes=codes,
        layer=layer,
        perturbation=perturbation,
        allow_pickle=allow_pickle,
    )
    where = str(Path(path).absolute())
    if parts is None:
        options = {
            "layer": layer,
            "perturbation": perturbation,
            "control_label": list(
                [control_label] if isinstance(control_label, str) else control_label
            ),
            "context_column": context_column,
            "context": context,
            "split": split or "",
            "clip": clip,
            "genes": None if genes is None else gene_list(genes),
        }
        if scale in (DELTA, LFC):
            raise ArgumentError(f"single cells are counts or log1p_1e4, not {scale} ({path})")
        return Predictions(
            source=where,
            kind=CELLS,
            scale=scale,
            control=control,
            parts=(),
            options=options,
            aliases=aliases,
        )
    if clip:
        raise ArgumentError(
            f"clip=True is for predicted cells; values of conditions are taken as they are ({path})"
        )
    kind = parts[0].kind
    if kind != EXPRESSION and scale is not None:
        raise ArgumentError(f"scale={scale!r} is for expression, but the file has {kind} ({path})")
    named = tuple(
        replace(part, context=part.context or context or "", split=part.split or split or "")
        for part in parts
    )
    return Predictions(
        source=where,
        kind=kind,
        scale=scale if kind == EXPRESSION else kind,
        control=control,
        parts=named,
        options={"codes": codes, "layer": layer},
        aliases=aliases,
    )


# --- scales ---------------------------------------------------------------------------------------


def _other_total(values: NDArray, control: NDArray, read: NDArray | None, scale: str) -> str:
    """Return another total that values may be log1p of, in words; ``""`` if that is no reading.

    Parameters
    ----------
    values : ndarray
        As the file has them.
    control : ndarray (n_genes,)
    read : ndarray, optional
        How they are read as `scale`, where that fits.
    scale : str
    """
    if np.nanmax(values, initial=0) > MOST_LOG1P:
        return ""
    factor = common_factor(values, control)
    if not is_another_total(factor):
        return ""
    there = np.log1p(np.maximum(np.expm1(values.astype(np.float64)) / factor, 0))
    distance = distance_from_control(there, control)
    if read is None:
        is_reading = distance < _NEAR
    elif scale == LOG1P_1E4:
        is_reading = distance < distance_from_control(read, control)
    else:  # small counts are read alike either way
        own = distance_from_control(read, control)
        is_reading = (
            distance < 2 * own and distance_from_control(there - read + control, control) > own / 2
        )
    return total_named(factor) if is_reading else ""
