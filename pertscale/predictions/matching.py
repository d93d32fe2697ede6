"""Names of perturbations in predictions, in terms of a screen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pertscale.errors import InputError
from pertscale.io.guards.damage import naming_file
from pertscale.perturbation_names import Grammar, is_control_word, resolve, targets
from pertscale.schema import CONTROL


def canonical_names(
    labels: Sequence[str],
    perturbations: Sequence[str],
    genes: Iterable[str],
    controls: Sequence[str] = (),
) -> list[str | None]:
    """Return the screen's perturbation, or ``control``, that each label of a file means.

    None for what is no perturbation of the screen. `controls` are labels that are control; without
    them, words that always are.
    """
    wanted = set(perturbations)
    known = {*genes, *(t for name in perturbations for t in targets(name))}
    grammar = Grammar.of(labels, known, controls or tuple(filter(is_control_word, labels)))
    # GEARS and scGPT write the control as an empty name (method 0.2)
    return [resolve(label, grammar, wanted) if label.strip() else CONTROL for label in labels]


def match_rows(
    labels: Sequence[str], perturbations: Sequence[str], genes: Sequence[str], where: str
) -> tuple[dict[str, int], tuple[str, ...]]:
    """Return canonical name → row, and the labels that are no perturbation of the screen."""
    rows: dict[str, int] = {}
    unmatched = []
    with naming_file(where):
        names = canonical_names(labels, perturbations, genes)
    for row, (label, name) in enumerate(zip(labels, names, strict=True)):
        if name is None:
            unmatched.append(label)
        elif name in rows:
            raise InputError(
                f"{name!r} is predicted twice, as {labels[rows[name]]!r} and {label!r}; keep one "
                f"({where})"
            )
        else:
            rows[name] = row
    return rows, tuple(unmatched)
