"""A given split on the screens or labels that it is used for: which of its names they have."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from pertscale.diagnostics.events import SplitNamesUnknown, emit
from pertscale.diagnostics.progress import say
from pertscale.errors import InputError, PertscaleWarning
from pertscale.io.gene_aliases import read_aliases
from pertscale.perturbation_names import name_of, targets
from pertscale.predictions.matching import canonical_names
from pertscale.screen import Screen
from pertscale.splits import Split
from pertscale.splits.split import PARTS

#: Names that a message shows.
_MOST_NAMED = 5


def on_screen(split: Split, screen: Screen, aliases: Any) -> Split:
    """Return the split with the screen's names; names that the screen lacks stay as they are.

    Parameters
    ----------
    split : Split
    screen : Screen
    aliases : path or mapping, optional
        Other names of genes → names.

    Raises
    ------
    InputError
        If names in different parts are one perturbation of the screen.
    """
    return _in_names_of(split, screen.perturbations, screen.genes, aliases)


def on_labels(
    split: Split,
    perturbations: Sequence[str],
    genes: Sequence[str],
    aliases: Any = None,
    *,
    context: str,
    can_alias: bool,
) -> Split:
    """Return the split with the names of a label table; warn of what is left out.

    Parameters
    ----------
    split : Split
    perturbations, genes : sequence of str
        Those of the table's context; of perturbations, those that were tested.
    aliases : path or mapping, optional
        Other names of genes → names.
    context : str
    can_alias : bool
        Whether the caller's user can pass aliases.

    Raises
    ------
    InputError
        If the labels lack more than half of the names, or names in different parts are one of
        their perturbations.
    """
    mine = _in_names_of(split, perturbations, genes, aliases)
    lacking, nowhere = left_out(mine, perturbations)
    told = []
    if lacking:
        told.append(_told(split, lacking, perturbations, f"the labels of {context}", can_alias))
    if nowhere:
        told.append(told_in_no_part(split, nowhere, len(perturbations), context))
    if told:
        warnings.warn("; ".join(told), PertscaleWarning, stacklevel=4)  # the user's line
    return mine


def left_out(split: Split, tested: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the names of a split that are not tested, and what is tested and in no part of it."""
    known, named = set(tested), set(_names(split))
    return [n for n in _names(split) if n not in known], [n for n in tested if n not in named]


def _in_names_of(
    split: Split, perturbations: Sequence[str], genes: Iterable[str], aliases: Any
) -> Split:
    labels, known = _names(split), set(perturbations)
    other = read_aliases(aliases)
    called = {}
    for label, name in zip(labels, canonical_names(labels, perturbations, genes), strict=True):
        by_alias = name_of(other.get(target, target) for target in targets(label))
        found = name if name is not None else by_alias
        called[label] = found if found in known else label
    parts: dict[str, Any] = {
        part: tuple(dict.fromkeys(called[name] for name in getattr(split, part))) for part in PARTS
    }
    same = all(parts[part] == getattr(split, part) for part in PARTS)
    return split if same else replace(split, **parts)


def check_names(
    split: Split,
    screens: Sequence[Screen],
    aliases: Any = None,
    *,
    quiet: bool,
    listed: str = "coverage.parquet",
    can_alias: bool = True,
) -> None:
    """Report the names of a split that none of the screens has.

    Parameters
    ----------
    split : Split
    screens : sequence of Screen
    aliases : path or mapping, optional
        Other names of genes → names.
    quiet : bool
    listed : str
        Where all of these names will be.
    can_alias : bool
        Whether the caller's user can pass aliases.

    Raises
    ------
    InputError
        If these are more than half of them.
    """
    names, known = _names(split), {name for one in screens for name in one.perturbations}
    unknown = set(names)
    for screen in screens:  # a name that is found is replaced, or is one of the screen's
        unknown &= set(_names(on_screen(split, screen, aliases))) - set(screen.perturbations)
    lacking = [name for name in names if name in unknown]
    if not lacking:
        return
    where = "the screen" if len(screens) == 1 else "any screen"
    told = _told(split, lacking, sorted(known), where, can_alias)
    emit(SplitNamesUnknown(split=split.name, n=len(names), not_in_screen=lacking))
    say(f"{told} ({listed} has all)", quiet=quiet)


def _told(
    split: Split, lacking: Sequence[str], known: Iterable[str], where: str, can_alias: bool
) -> str:
    """Return a sentence on names that are left out; refuse a split that is for something else."""
    n = len(_names(split))
    told = f"split {split.name!r}: {len(lacking)} of its {n} names are no perturbation of {where}"
    if len(lacking) > n / 2:
        way = ", or pass aliases= with other names of genes" if can_alias else ""
        raise InputError(
            f"{told}, such as {_some(lacking)}; there are {_some(known)}. Check that it is the "
            f"right split, and write its names so{way}"
        )
    return f"{told}, and are left out: {_some(lacking)}"


def told_in_no_part(split: Split, names: Sequence[str], n: int, context: str) -> str:
    """Return a sentence on perturbations, of `n` in a context, that are in no part of a split."""
    return (
        f"{context}: {len(names)} of {n} perturbations are in no part of split {split.name!r}; "
        f"nothing is trained or scored on them: {_some(names)}"
    )


def coverage(
    split: Split, screen: Screen, context: str, tested: Sequence[str], *, quiet: bool
) -> dict[str, Any]:
    """Return a row of the coverage table; print how many perturbations are in no part.

    Parameters
    ----------
    split : Split
        With the screen's names.
    screen : Screen
    context : str
    tested : sequence of str
        Perturbations of the context that can be in a part.
    """
    known = set(screen.perturbations)
    lacking, nowhere = left_out(split, tested)
    elsewhere = sum(name in known for name in lacking)
    notes = []
    if elsewhere:
        notes.append(f"{elsewhere} of its names are not tested in this context")
    if nowhere:
        notes.append(f"{len(nowhere)} perturbations are in no part: not trained on, not scored")
        say(told_in_no_part(split, nowhere, len(tested), context), quiet=quiet)
    return {
        "what": "split",
        "name": split.name,
        "context": context,
        "split": split.name,
        "n_perturbations": len(tested),
        "n_perturbations_predicted": len(tested) - len(nowhere),
        "perturbations_missing": ",".join(nowhere),
        "n_genes": screen.n_genes,
        "n_genes_predicted": screen.n_genes,
        "genes_missing": "",
        "not_in_screen": ",".join(name for name in lacking if name not in known),
        "note": "; ".join(notes),
    }


def _names(split: Split) -> list[str]:
    return [name for part in PARTS for name in getattr(split, part)]


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    more = ", …" if len(listed) > _MOST_NAMED else ""
    return ", ".join(listed[:_MOST_NAMED]) + more
