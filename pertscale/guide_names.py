"""Guides and transcripts: which target the name of a perturbation belongs to.

Screens name guides in their own ways (``ZAP70_2``, ``GENE_pDS100``, ``sgGENE-A``, or with the
protospacer). What an ending means follows from all labels of a file together: where most names that
are not a gene contain exactly one gene of the screen, that is their target, and names of the same
form whose gene is not read out are read alike. Many symbols have a hyphen (HLA-A, NKX2-5,
RPS10-NUDT3): after one only endings count that guides are known to have.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from pertscale.perturbation_names import name_of, targets

#: Endings that number the guides or transcripts of a target, and what the stem must look like.
_ENDINGS = (
    re.compile(r"(?P<stem>.+?)_[+-]_\d[\d.]*(?:-[\w/]+)?"),  # CPQ_+_97657557.23-P1P2
    re.compile(r"(?P<stem>.+?)_P\d(?:P\d)?"),  # ZNF143_P1P2
    re.compile(r"(?P<stem>.+?)[_-](?:s?g|sgRNA|gRNA|guide)[_-]?\d+", re.IGNORECASE),
    re.compile(r"(?P<stem>.+?)[_.]\d+"),
    re.compile(r"(?P<stem>[A-Z0-9][A-Z0-9.-]*)(?:sg|g)\d+"),  # STAT1g2, but not the mouse's Atg5
    re.compile(r"(?P<stem>.+?)-\d+"),
)
#: Endings that number guides only after a gene of the screen, with a separator or without.
_OF_A_GENE = (
    re.compile(
        r"(?P<stem>.+)-(?:(?:s?g|sgRNA|gRNA|crRNA|guide|sh|KO|KD|tss|v|i)?\d+|KO|KD|P\dP?\d?"
        r"|[ACGT]{15,})",
        re.IGNORECASE,
    ),
    re.compile(r"(?P<stem>.+?)(?:sg|g)\d+"),
)
#: After ``sg`` a letter does, too: sgGENE-A.
_LETTER = re.compile(r"(?P<stem>.+)-[A-Za-z]")
#: Families whose symbols end in a hyphen and a number or letter: NKX2-1 and NKX2-5 are two genes.
_NUMBERED_FAMILY = re.compile(
    r"(?:sg)?(?:NKX\d|KRTAP\d+|ERV\w+|MIR\d+\w*|HLA|SNORD\d+|MT|H2)", re.IGNORECASE
)
_SEPARATORS = re.compile(r"[_\s:#()\[\]{}/|~;,]+")
#: What differs between the guides of one form: protospacers, numbers, letters that count.
_VARIABLE = re.compile(r"(?P<seq>[ACGT]{15,})|(?P<number>\d+)|(?P<letter>(?<=[_-])[A-Za-z]\Z)")
_PATTERNS = {"seq": r"[ACGT]{15,}", "number": r"\d+", "letter": r"[A-Za-z]"}
#: What a gene that is not read out may be called: no separator inside.
_STEM = r"(?P<stem>[A-Za-z][A-Za-z0-9.-]*?[A-Za-z0-9])"
#: How many names establish a form, and which share of the names that are not genes has to have one.
_SHOWING = 3
_SHARE = 0.5
_ENSEMBL_VERSION = re.compile(r"(ENS[A-Z]*G\d+)\.\d+")


def target_group(
    names: Iterable[str], genes: Iterable[str], *, ids: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the target behind each perturbation, where labels are guides or transcripts.

    ``ZAP70_1`` and ``ZAP70_2`` both belong to ``ZAP70``. A stem counts if it is a gene, if at least
    two targets share it, or if the name has a form that most others have (see the module). Splits
    keep a group together, and ``targets(group)`` are the genes to look up. A name that is not a
    guide's is its own group.

    Parameters
    ----------
    names
        Canonical names, as :meth:`Grammar.canonical` gives them; all those of a file.
    genes
        Names of the genes of the screen; a name that is a gene is never cut.
    ids
        Other names of genes, such as Ensembl ids → genes.

    Returns
    -------
    dict
        Canonical name → canonical name of the group.
    """
    names, called = list(names), called_genes(genes, ids)
    each = list(dict.fromkeys(target for name in names for target in targets(name)))
    groups = _groups(each, called)
    return {name: name_of(groups[target] for target in targets(name)) for name in names}


def called_genes(genes: Iterable[str], ids: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the gene of every name of one; arguments are those of :func:`target_group`."""
    called = {**{gene: gene for gene in genes}, **(ids or {})}
    return called | {gene: gene for gene in called.values()}


def group_alone(name: str, called: Mapping[str, str]) -> str:
    """Return what :func:`target_group` does of a name that no others are with.

    `called` is of :func:`called_genes`, which for many genes takes longer than a name.
    """
    groups = _groups(list(dict.fromkeys(targets(name))), called)
    return name_of(groups[target] for target in targets(name))


def _groups(each: Sequence[str], called: Mapping[str, str]) -> dict[str, str]:
    """Return the group of each target; `called` has the gene of every name of one."""
    groups = {target: _gene(target, called) or _numbered_gene(target, called) for target in each}
    odd = [target for target in each if not groups[target]]
    groups |= _of_common_form(odd, called)
    left = [target for target in each if not groups[target]]
    sharing: defaultdict[str, set[str]] = defaultdict(set)
    for target in each:
        for stem in (target, *_stems(target, called)):
            sharing[stem].add(target)
    for target in left:
        shared = (stem for stem in _stems(target, called) if len(sharing[stem]) > 1)
        groups[target] = next(shared, target)
    return groups


def _gene(name: str, called: Mapping[str, str]) -> str:
    """Return the gene that a name is, by symbol or Ensembl id in any version; ``""`` if none."""
    match = _ENSEMBL_VERSION.fullmatch(name)
    return called.get(name, "") or (called.get(match[1], "") if match else "")


def _numbered_gene(target: str, called: Mapping[str, str]) -> str:
    """Return the gene that a name is a numbered guide of; ``""`` if of none."""
    return next((gene for stem in _stems(target, called) if (gene := _gene(stem, called))), "")


def _stems(target: str, called: Mapping[str, str]) -> Iterator[str]:
    """Yield the genes that a name may be a guide of, most specific ending first."""
    for ending in _ENDINGS:
        match = ending.fullmatch(target)
        stem = match["stem"].rstrip("_-") if match else ""
        if stem and (stem in called or not _NUMBERED_FAMILY.fullmatch(stem)):
            yield stem


# --- forms that the names of a file have in common ------------------------------------------------


def _of_common_form(odd: Sequence[str], called: Mapping[str, str]) -> dict[str, str]:
    """Return the target of names that hold one gene, or have the form of those that do.

    ``""`` for the others; for all, where those of such a form are too few to be the rule.
    """
    nothing = dict.fromkeys(odd, "")
    prefix = _common_prefix(odd, called)
    held = {target: one for target in odd if (one := _held(target, prefix, called))}
    shown = Counter(_form(target, as_spelled) for target, (_, as_spelled) in held.items())
    forms = [re.compile(form) for form, n in shown.items() if n >= min(_SHOWING, len(held))]
    found: dict[str, str] = {}
    for target in odd:
        gene = held[target][0] if target in held else ""
        stems = (m["stem"] for form in forms if (m := form.fullmatch(target)))
        unread = (stem for stem in stems if not _NUMBERED_FAMILY.fullmatch(stem))
        found[target] = gene or next(unread, "")
    of_a_form = sum(any(form.fullmatch(target) for form in forms) for target in odd)
    return found if of_a_form and of_a_form >= _SHARE * len(odd) else nothing


def _common_prefix(names: Sequence[str], called: Mapping[str, str]) -> str:
    """Return what most names start with, up to a hyphen: ``KO-``; ``""`` for nothing or a gene."""
    starts = Counter(name.partition("-")[0] for name in names if "-" in name)
    start, n = starts.most_common(1)[0] if starts else ("", 0)
    is_prefix = n >= max(_SHOWING, _SHARE * len(names)) and not _gene(start, called)
    return f"{start}-" if is_prefix else ""


def _held(target: str, prefix: str, called: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the one gene that a name contains, with its spelling there; None for 0 or several."""
    found: dict[str, str] = {}
    for piece in _pieces(target.removeprefix(prefix)):
        rest = piece.removeprefix("sg").lstrip("-")
        after_sg = rest != piece
        for text in (piece, rest) if after_sg else (piece,):
            stems = [m["stem"] for ending in _OF_A_GENE if (m := ending.fullmatch(text))]
            letter = _LETTER.fullmatch(text) if after_sg and text == rest else None
            stems += [letter["stem"]] if letter else []
            spelled = next((name for name in (text, *stems) if _gene(name, called)), "")
            if spelled:
                found.setdefault(_gene(spelled, called), spelled)
                break
    return next(iter(found.items())) if len(found) == 1 else None


def _pieces(target: str) -> Iterator[str]:
    """Yield what stands between separators; numbers and single letters are not genes."""
    for piece in _SEPARATORS.split(target):
        if len(piece) > 1 and not piece.isdigit():
            yield piece


def _form(target: str, gene: str) -> str:
    """Return the pattern of names that differ in the gene and in what counts the guides."""
    before, _, after = target.partition(gene)
    return _pattern(before) + _STEM + _pattern(after)


def _pattern(text: str) -> str:
    parts, start = [], 0
    for match in _VARIABLE.finditer(text):
        parts += [re.escape(text[start : match.start()]), _PATTERNS[str(match.lastgroup)]]
        start = match.end()
    return "".join([*parts, re.escape(text[start:])])
