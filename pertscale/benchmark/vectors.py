"""Which vectors a unit gets: the embedding that was given, or those learned from its training part.

They are listed here, and made by tasks; see :mod:`pertscale.benchmark.units.learned`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pertscale.benchmark.state import RunRecord, ScreenRun
from pertscale.benchmark.units.learned import LearnedVectors, TrainingProfiles, Vectors, any_covered
from pertscale.schema import CONTROL, WORK_DIR
from pertscale.splits import Split

#: Principal components that are learned from the training part (method H4).
TRAINING_DIM = 10
TOO_FEW = "too few training perturbations to learn an embedding from; pass embedding="


def vectors_for(run: ScreenRun, context: str, split: Split) -> Vectors | str:
    """Return the vectors for a split, or why there are none."""
    key = context, split.name
    if key not in run.vectors:
        given = run.options.embedding
        found = given or learned_from(run, context, split.train) or TOO_FEW
        if isinstance(found, str):
            return found
        run.vectors[key] = found
    return run.vectors[key]


def learned_from(run: ScreenRun, context: str, training: Sequence[str]) -> LearnedVectors | None:
    """Return what is learned from some perturbations of a context; None if they are too few."""
    parts = [TrainingProfiles(run.profiles[context], (CONTROL, *training))]
    return learned(run.record, parts, list(run.labels.genes))


def learned(
    record: RunRecord, parts: Sequence[TrainingProfiles], genes: Sequence[str]
) -> LearnedVectors | None:
    """Return vectors of genes from some profiles; None if these are too few.

    The same ones are one object, which a process makes or reads once.
    """
    dim = min(TRAINING_DIM, sum(len(part.names) for part in parts) - 1, len(genes) - 1)
    if dim < 1:
        return None
    found = LearnedVectors(tuple(parts), tuple(genes), dim, record.folder / WORK_DIR / "vectors")
    return record.learned.setdefault(found.hash, found)


def has_none(
    vectors: Vectors, training: Sequence[str], *, targets: Mapping[str, Sequence[str]] | None = None
) -> str | None:
    """Return that no training perturbation has a vector, where that is so."""
    if any_covered(vectors, training, targets=targets):
        return None
    return f"embedding {vectors.name!r} has none of the training perturbations"
