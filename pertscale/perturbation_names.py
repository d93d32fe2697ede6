"""Names of perturbations: which are control, which name no perturbation, which are combinations.

A perturbation is a set of targets (method 0.2). Its canonical name is the sorted targets joined
by ``+``; the control is ``control``. Files spell the same thing in many ways (``A+ctrl``,
``ctrl+A``, ``B_A``, ``A|B``, ``A_B__A_B``, ``NT-3``); this module reads the spellings and
nothing else: it knows no files and no tables.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace

from pertscale.errors import InputError
from pertscale.schema import COMBINATION_SEPARATOR, CONTROL

# --- words --------------------------------------------------------------------------------

_NUMBER = r"(?:[-_ ]?\d+)?"
_OF = r"(?:[-_ ](?:controls?|ctrls?|guides?|s?grnas?))?"
#: Spellings that mean control in every data set. Compared without case.
_CONTROL_WORD = re.compile(
    rf"""(?:
      (?:controls?|ctrls?){_NUMBER}
    | (?:control[-_ ])?non[-_ ]?target(?:ing|s)?{_OF}{_NUMBER}
    | (?:ntc?|nt[-_ ]?(?:g|sg|ctrl|control)|sg[-_]?ntc?){_NUMBER}
    | neg(?:ative)?[-_ ]?(?:ctrls?|controls?){_NUMBER}
    | safe[-_ ]?target(?:ing|s)?{_OF}{_NUMBER}
    | scrambled?{_NUMBER}
    | unperturbed
    )""",
    re.IGNORECASE | re.VERBOSE,
)
#: Spellings that are control in some data sets and a perturbation in others: only suggested.
_SUGGESTED_CONTROL = re.compile(
    rf"""(?:
      (?:sg)?(?:aavs1|rosa26|e?gfp|mcherry|lacz|luciferase|luc|rluc|tdtomato|bfp){_NUMBER}
    | intergenic.*
    | safe[-_ ]?harbou?r{_NUMBER}
    | vehicle | mock | untreated | wt | wild[-_ ]?type | dmso.* | \[\('dmso.*
    | 6[23]\(mod\).* | gal4-4.*
    )""",
    re.IGNORECASE | re.VERBOSE,
)
_MISSING_WORDS = frozenset({"", "nan", "none", "na", "n/a", "<na>", "null", "nat", "-"})
_UNASSIGNED_WORDS = frozenset(
    {
        "unassigned", "not assigned", "unknown", "undetermined", "unmapped", "negative", "*", "?",
        "no guide", "no sgrna", "no grna", "noguide", "no call", "undetected",
    }
)  # fmt: skip
_MULTIPLET_WORDS = frozenset(
    {"doublet", "doublets", "multiplet", "multiplets", "ambiguous", "multiple", "multi"}
)
#: Names of "no second gene" in a combination, whatever the controls of the screen are.
_EMPTY_PARTNER = re.compile(r"(?:ctrls?|controls?|neg_?ctrl\d*)", re.IGNORECASE)
#: Partners that only guide tables write, so ``X_ctrl`` means X even if X isn't known.
_GUIDE_PARTNER = re.compile(r"(?:ctrl|neg_?ctrl\d*)", re.IGNORECASE)
_SYMBOL = re.compile(r"[A-Z][A-Z0-9.-]*(?:orf\d+)?")


def is_control_word(word: str) -> bool:
    """Return whether a label means control in every data set: ``ctrl``, ``NT-3``, ``NegCtrl0``."""
    return _CONTROL_WORD.fullmatch(word.strip()) is not None


def is_suggested_control(word: str) -> bool:
    """Return whether a label is control in some data sets: ``AAVS1``, ``DMSO``. Ask the user."""
    return _SUGGESTED_CONTROL.fullmatch(word.strip()) is not None


def left_out_reason(word: str) -> str | None:
    """Return why a label names no perturbation (missing, unassigned, multiplet), or None."""
    plain = re.sub(r"[-_ ]+", " ", word.strip().lower()).strip() or word.strip()
    if plain in _MISSING_WORDS:
        return "missing"
    if plain in _UNASSIGNED_WORDS:
        return "unassigned"
    return "multiplet" if plain in _MULTIPLET_WORDS else None


def is_unassigned_word(word: str) -> bool:
    """Return whether a label says that the cell has no known perturbation. Never control."""
    return left_out_reason(word) is not None


# --- combinations --------------------------------------------------------------------------

#: Text in which a separator does not separate: what stands in brackets, genotypes (``MYC+/-``), and
#: the strand in a guide's name (before a position in the genome, which has four digits or more).
_WHOLE = (
    r"\((?:[^()]|\([^()]*\))*\)|\[(?:[^\[\]]|\[[^\[\]]*\])*\]|\{[^{}]*\}"
    r"|(?<=[^\W_])[+-]/[+-]|(?<=[^+|,;&])_[+-]_(?=\d{4})"
)
#: A plus that is a sign of the name before it (``Ca2+``, ``Ca2++MYC``), or of the whole (``+MYC``).
_SIGN = r"(?<=[^\s+])\++(?=\s*[+|,;&]|\Z)|\A\+(?=[^\s+|,;&][^+|,;&]*\Z)"
#: A comma between the positions of a chemical name: ``1,25-dihydroxy…``, ``N,N-dimethyl…``.
_LOCANT = r"(?<=[\dNOSP'])(?:,(?:\d+'?[A-Za-z]?|[NOSP]'?))+(?=-)"
_PLUS = re.compile(rf"({_WHOLE}|{_SIGN})|[+]")
_DECORATION = re.compile(r"\A[\s_]+|[\s_]+\Z")
_WEAK = {mark: re.compile(rf"({_WHOLE}|{_LOCANT})|[{mark}]") for mark in ("|", ";", ",", "&")}
_ONLY_MARKS = re.compile(r"[\s+|;,&]*")
#: Labels that have to join known names by ``-``, and the share of them in which a name occurs that
#: is joined with others too, before ``-`` is taken for a join without a control to prove it.
_MIN_JOINED = 3
_JOINED_SHARE = 0.5


@dataclass(frozen=True)
class Grammar:
    """Reads the labels of a screen as sets of targets.

    Parameters
    ----------
    known
        Names that are genes or targets. ``A_B`` is split only where both halves are known; ``|``,
        ``,``, ``;`` and ``&`` don't split inside a known name.
    controls
        Labels that are control, spelled as in the file. ``ctrl``, ``control`` and ``NegCtrl0``
        always stand for "no second gene", and alone for control (method 0.2).
    hyphens
        Whether ``A-B`` of known names is a combination too. Most such names are one gene, as
        RPS10-NUDT3: the labels of the file have to show it (:meth:`of`).
    blanks
        Whether ``A+`` is A and nothing. Else the plus belongs to the name, as in ``Ca2+``.
    """

    known: frozenset[str]
    controls: frozenset[str]
    hyphens: bool = False
    blanks: bool = False

    @classmethod
    def of(cls, labels: Iterable[str], genes: Iterable[str], controls: Iterable[str]) -> Grammar:
        """Return the grammar that the labels of a file show, taken together.

        ``-`` joins names where some are joined with a control (``A-ctrl``), or where most names
        that are joined are joined with several others. An empty half is nothing only where
        combinations are written with ``+`` and no name stands alone.
        """
        labels = list(labels)
        controls = frozenset(controls)
        plain = cls(known_targets(labels, genes), controls)
        perturbed = [text for text in labels if text not in controls and not is_control_word(text)]
        return replace(
            plain, hyphens=_hyphens_join(perturbed, plain), blanks=_has_blanks(perturbed)
        )

    def parse(self, label: str) -> tuple[str, ...] | None:
        """Return the sorted targets of a label; ``()`` for control, None for no label.

        Examples
        --------
        >>> Grammar(frozenset("AB"), frozenset()).parse("B_A")
        ('A', 'B')
        """
        text = label.strip()
        if text in self.controls:
            return ()
        if is_unassigned_word(text) or _ONLY_MARKS.fullmatch(text):
            return None
        tokens = [self._without_sign(token) for token in self._tokens(text)]
        is_control = self._is_partner if len(tokens) > 1 else self._is_control
        targets: set[str] = set()
        seen_control = False
        for token in tokens:
            reason = left_out_reason(token)
            if is_control(token):
                seen_control = True
            elif reason is None:
                targets.add(token)
            elif reason != "missing":  # A + doublet: nobody knows what the cell got
                return None
        return _read_back(targets) if targets or seen_control else None

    def canonical(self, label: str) -> str:
        """Return the canonical name of a label: ``A+B``, or ``control``.

        Raises
        ------
        InputError
            The label says that there is no known perturbation.
        """
        found = self.parse(label)
        if found is None:
            raise InputError(f"label {label!r} names no perturbation; leave such cells out")
        return name_of(found)

    def _is_control(self, token: str) -> bool:
        return token in self.controls or _EMPTY_PARTNER.fullmatch(token) is not None

    def _is_partner(self, token: str) -> bool:
        """In a combination every control word is "no second gene", chosen as control or not."""
        return token in self.controls or is_control_word(token)

    def _is_known(self, token: str) -> bool:
        return token in self.known or self._is_partner(token)

    def _without_sign(self, token: str) -> str:
        """Return ``A`` for ``A+`` where that is A and nothing; ``ctrl+`` always is."""
        bare = token.strip("+").strip()
        return bare if self.blanks or self._is_partner(bare) or left_out_reason(bare) else token

    def _tokens(self, text: str) -> Iterator[str]:
        """Cut at separators: ``+`` first, then the weaker ones, then joins of known names."""
        for part in self._strong_parts(text):
            yield from self.cut_joined(part)

    def _strong_parts(self, text: str) -> Iterator[str]:
        """Cut at the separators that join whatever stands around them."""
        for part in _cut(text, _PLUS):
            yield from self._cut_weak(part, tuple(_WEAK))

    def _cut_weak(self, text: str, marks: tuple[str, ...]) -> Iterator[str]:
        if not marks or self._is_known(text):
            yield text
            return
        pieces = _cut(text, _WEAK[marks[0]])
        for piece in _glue(pieces, marks[0], self._is_known):
            yield from self._cut_weak(piece, marks[1:])

    def cut_joined(self, text: str) -> list[str]:
        """Split ``A_B``, ``A-B`` and the guide form ``A_B__A_B``; else the text as it is."""
        if self._is_known(text):
            return [text]
        half, twice = text[: (len(text) - 2) // 2], "__"
        if half and text == half + twice + half:
            return self.cut_joined(half)
        return self._split_known(text) or self._split_partner(text) or [text]

    def _split_known(self, text: str) -> list[str] | None:
        """Split at the first ``_`` or ``-`` that leaves known names only on both sides."""
        for at, mark in enumerate(text):
            left, rest = text[:at], text[at + 1 :]
            if mark not in "_-" or not self._is_known(left):
                continue
            if self._is_known(rest):
                further: list[str] | None = [rest]
            else:
                further = self._split_known(rest)
            if further is not None and self._joins(mark, left, further[0]):
                return [left, *further]
        return None

    def _joins(self, mark: str, left: str, right: str) -> bool:
        """Whether a mark between two known names joins them; a control proves that it does."""
        return mark == "_" or self.hyphens or self._is_partner(left) or self._is_partner(right)

    @staticmethod
    def _split_partner(text: str) -> list[str] | None:
        """``KIAA1804_NegCtrl0``: the partner proves the join, even of an unknown symbol."""
        left, _, right = text.partition("_")
        for target, partner in ((left, right), (right, left)):
            if _GUIDE_PARTNER.fullmatch(partner) and _SYMBOL.fullmatch(target):
                return [target, partner]
        return None


def _read_back(found: Iterable[str]) -> tuple[str, ...]:
    """Return targets as their canonical name tells them: ``C)`` and ``(A`` are one, ``(A+C)``."""
    return tuple(sorted(set(targets(name_of(found)))))


def _hyphens_join(labels: Iterable[str], plain: Grammar) -> bool:
    """Whether the labels of a file show that ``-`` joins names."""
    lenient = replace(plain, hyphens=True)
    partners: defaultdict[str, set[str]] = defaultdict(set)
    joined: list[tuple[str, ...]] = []
    for part in (part for label in labels for part in plain._strong_parts(label)):
        names = lenient.cut_joined(part)
        if "-" not in part or len(names) < 2:
            continue
        if names != plain.cut_joined(part):
            joined.append(tuple(names))
            for name in names:
                partners[name].update(names)
        elif f"{names[0]}-" in part and any(map(plain._is_partner, names)):
            return True
    # each is among its own partners: with two others there are three
    shared = sum(any(len(partners[name]) > 2 for name in names) for names in joined)
    return shared >= _MIN_JOINED and shared >= _JOINED_SHARE * len(joined)


def _has_blanks(labels: Iterable[str]) -> bool:
    """Whether the labels of a file show that an empty half beside a plus is nothing."""
    with_plus = [label.strip() for label in labels if "+" in label]
    bare = any("+" not in label and not is_unassigned_word(label) for label in labels)
    return not bare and any(len(_cut(label, _PLUS)) > 1 for label in with_plus)


def one_name(label: str, grammar: Grammar) -> bool:
    """Whether a label could be read as several known names joined by ``-``, and is not."""
    if "-" not in label or grammar.hyphens:
        return False
    lenient = replace(grammar, hyphens=True)
    return lenient.parse(label) != grammar.parse(label)


def _cut(text: str, separator: re.Pattern[str]) -> list[str]:
    """Cut at matches without a group; the group marks text that stays whole."""
    pieces, start = [], 0
    for match in separator.finditer(text):
        if match.group(1) is None:
            pieces.append(text[start : match.start()])
            start = match.end()
    if not pieces:
        return [text]
    # what the separator was decorated with: "A + B", "A_+_B"
    return [_DECORATION.sub("", piece) for piece in (*pieces, text[start:])]


def _glue(pieces: list[str], mark: str, known: Callable[[str], bool]) -> Iterator[str]:
    """Join neighbouring pieces again where together they are a known name, longest first."""
    at = 0
    while at < len(pieces):
        stop = len(pieces)
        while stop > at + 1 and not known(mark.join(pieces[at:stop])):
            stop -= 1
        yield mark.join(pieces[at:stop])
        at = stop


def name_of(targets: Iterable[str]) -> str:
    """Return the canonical name of a set of targets; ``control`` for none."""
    return COMBINATION_SEPARATOR.join(sorted(set(targets))) or CONTROL


def targets(canonical_name: str) -> tuple[str, ...]:
    """Return the targets of a canonical name; ``()`` for control."""
    if canonical_name == CONTROL:
        return ()
    return tuple(_cut(canonical_name, _PLUS))


def resolve(label: str, grammar: Grammar, perturbations: Collection[str]) -> str | None:
    """Return the perturbation of a screen, or ``control``, that a label of another file means.

    None where it means none. What the screen has decides where a label can be read in two ways:
    ``A-B`` is A+B if the screen has that, and no perturbation of this name.
    """
    if label in perturbations:
        return label
    for reading in (grammar, replace(grammar, hyphens=True)):
        parsed = reading.parse(label)
        name = None if parsed is None else name_of(parsed)
        if name == CONTROL or name in perturbations:
            return name
    return None


def known_targets(labels: Iterable[str], genes: Iterable[str]) -> frozenset[str]:
    """Return the names that may be halves of a combination: genes, and plain labels.

    A label without any separator is a target by itself, and so is what stands whole beside a
    control or a sure separator: ``KIAA1804_NegCtrl0``, ``RPS10-NUDT3+ctrl``. Labels like ``A_B``
    prove nothing.
    """
    bare = Grammar(frozenset(), frozenset())
    found = {gene for gene in genes if not is_unassigned_word(gene)}
    for label in labels:
        parsed = bare.parse(label)
        if parsed is not None:
            joined = len(list(bare._strong_parts(label.strip()))) > 1
            found.update(t for t in parsed if not re.search(r"[_|,;&-]", t) or joined)
    return frozenset(word for word in found if not is_control_word(word))
