"""A split that was given, on the screens it is used for: which of its names they have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from pertscale.conditions import name_of, targets
from pertscale.errors import InputError
from pertscale.events import emit
from pertscale.io.aliases import read_aliases
from pertscale.predictions import canonical_names
from pertscale.progress import say
from pertscale.screen import Screen
from pertscale.splits import Split
from pertscale.splits.split import PARTS

#: Names that a message shows.
_MOST_NAMED = 5


def on_screen(split: Split, screen: Screen, aliases: Any) -> Split:
    """Return the split with the screen's names; those that it does not have stay as they are.

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
    labels = [name for part in PARTS for name in getattr(split, part)]
    known = set(screen.perturbations)
    other = {} if aliases is None else read_aliases(aliases)
    called = {}
    for label, name in zip(
        labels, canonical_names(labels, screen.perturbations, screen.genes), strict=True
    ):
        by_alias = name_of(other.get(target, target) for target in targets(label))
        found = name if name is not None else by_alias
        called[label] = found if found in known else label
    parts: dict[str, Any] = {
        part: tuple(dict.fromkeys(called[name] for name in getattr(split, part))) for part in PARTS
    }
    same = all(parts[part] == getattr(split, part) for part in PARTS)
    return split if same else replace(split, **parts)


def check_names(split: Split, screens: Sequence[Screen], aliases: Any, *, quiet: bool) -> None:
    """Tell which names of a split none of the screens has.

    Raises
    ------
    InputError
        If these are more than half of them.
    """
    names, known = _names(split), {name for one in screens for name in one.perturbations}
    unknown = set(names)
    for screen in screens:  # a name that is found is replaced, or is one of the screen's
        unknown &= set(_names(on_screen(split, screen, aliases))) - set(screen.perturbations)
    lacking, n = [name for name in names if name in unknown], len(names)
    if not lacking:
        return
    where = "the screen" if len(screens) == 1 else "any screen"
    told = f"split {split.name!r}: {len(lacking)} of its {n} names are no perturbation of {where}"
    if len(lacking) > n / 2:
        raise InputError(
            f"{told}, such as {_some(lacking)}; there are {_some(sorted(known))}. Check that the "
            "split is for this screen, write its names as the screen does, or pass aliases= with "
            "other names of genes"
        )
    emit("split_names", split=split.name, n=n, not_in_screen=lacking)
    say(f"{told}, and are left out: {_some(lacking)} (coverage.parquet has all)", quiet=quiet)


def coverage(
    split: Split, screen: Screen, context: str, tested: Sequence[str], *, quiet: bool
) -> dict[str, Any]:
    """Return a row of the coverage table; tell how many perturbations are in no part.

    Parameters
    ----------
    split : Split
        With the screen's names.
    screen : Screen
    context : str
    tested : sequence of str
        Perturbations of the context that can be in a part.
    """
    named, known = _names(split), set(screen.perturbations)
    inside = set(named)
    nowhere = [name for name in tested if name not in inside]
    elsewhere = sum(name in known for name in named) - sum(name in inside for name in tested)
    notes = []
    if elsewhere:
        notes.append(f"{elsewhere} of its names are not tested in this context")
    if nowhere:
        notes.append(f"{len(nowhere)} perturbations are in no part: not trained on, not scored")
        say(
            f"{context}: {len(nowhere)} of {len(tested)} perturbations are in no part of split "
            f"{split.name!r}; nothing is trained or scored on them: {_some(nowhere)}",
            quiet=quiet,
        )
    return {
        "what": "split", "name": split.name, "context": context, "split": split.name,
        "n_perturbations": len(tested), "n_perturbations_predicted": len(tested) - len(nowhere),
        "perturbations_missing": ",".join(nowhere),
        "n_genes": screen.n_genes, "n_genes_predicted": screen.n_genes, "genes_missing": "",
        "not_in_screen": ",".join(name for name in named if name not in known),
        "note": "; ".join(notes),
    }  # fmt: skip


def _names(split: Split) -> list[str]:
    return [name for part in PARTS for name in getattr(split, part)]


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    more = ", …" if len(listed) > _MOST_NAMED else ""
    return ", ".join(listed[:_MOST_NAMED]) + more
