"""What the account says of how labels were read: combinations, spellings, targets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from pertscale.perturbation_names import Grammar, one_name, targets
from pertscale.schema import CONTROL

#: Examples that a sentence shows.
_MOST_SHOWN = 5


def reading_lines(labels: Sequence[str], canonical: Sequence[str], grammar: Grammar) -> list[str]:
    """Say which labels are combinations, which mean the same, and which could be read otherwise.

    Parameters
    ----------
    labels
        Different labels, as the file spells them.
    canonical
        What each was read as; ``""`` for one that is left out.
    grammar
        Which read them.
    """
    read = [(text, name) for text, name in zip(labels, canonical, strict=True) if name != ""]
    several = [pair for pair in read if len(targets(pair[1])) > 1]
    lines = [
        f"{len(mine)} labels are combinations, joined by {mark!r}: {_examples(mine)}"
        for mark, mine in sorted(_by_mark(several).items())
    ]
    spelled: defaultdict[str, list[str]] = defaultdict(list)
    for text, name in read:
        spelled[name].append(text)
    same = {n: texts for n, texts in spelled.items() if len(texts) > 1 and n != CONTROL}
    if same:
        shown = [f"{name}: {', '.join(map(repr, texts[:4]))}" for name, texts in same.items()]
        lines.append(f"{len(same)} perturbations have several labels: {_some(shown, '; ')}")
    whole = [text for text, _ in read if one_name(text, grammar)]
    if whole:
        lines.append(
            f"{len(whole)} labels join names of genes by '-' and are read as one name, since no "
            f"other label shows that '-' joins: {_some(map(repr, whole))}"
        )
    return lines


def guide_line(groups: Mapping[str, str]) -> list[str]:
    """Say how many perturbations are guides, where any are; parameters as of `target_line`."""
    guides = [name for name, group in groups.items() if name != group]
    if not guides:
        return []
    return [
        f"{len(guides)} of {len(groups)} perturbations are guides, such as {guides[0]!r} of "
        f"{groups[guides[0]]}; those of one target ({len(set(groups.values()))} groups) stay "
        "together in splits"
    ]


def target_line(groups: Mapping[str, str], genes: Collection[str]) -> str:
    """Say how many perturbations name genes of the screen, and show others.

    Parameters
    ----------
    groups
        Canonical name → target, as :func:`pertscale.guide_names.target_group` returns it.
    genes
        Genes of the screen.
    """
    lost = [name for name, group in groups.items() if not all(t in genes for t in targets(group))]
    line = f"{len(groups) - len(lost)} of {len(groups)} perturbations name genes of the screen"
    return f"{line}; not: {_some(map(repr, lost))}" if lost else line


def _by_mark(pairs: Iterable[tuple[str, str]]) -> dict[str, list[tuple[str, str]]]:
    """Sort labels by what joins the first target that the label names to what follows."""
    found: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for text, name in pairs:
        first = min(targets(name), key=text.find)
        rest = text[text.find(first) + len(first) :].strip(" _") or text
        found[rest[0] if rest[0] in "+|;,&-" else "_"].append((text, name))
    return found


def _examples(pairs: Sequence[tuple[str, str]]) -> str:
    return _some(repr(text) if text == name else f"{text!r} as {name}" for text, name in pairs)


def _some(texts: Iterable[str], between: str = ", ") -> str:
    """Join the first few; say that there are more."""
    listed = list(texts)
    more = [f"… ({len(listed) - _MOST_SHOWN} more)"] if len(listed) > _MOST_SHOWN else []
    return between.join([*listed[:_MOST_SHOWN], *more])
