"""Which column of a file plays which role, by name and content, with an account.

Names are tried in the order of the tables below; a column of perturbations also has to hold
control labels. Nothing is guessed where two readings differ: the error lists them. Explicit
choices win.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pandas as pd

from pertscale.errors import AmbiguousInputError, InputError, UnknownNameError, did_you_mean
from pertscale.io.ingestion.account_lines import reading_lines
from pertscale.io.ingestion.cell_labels import (
    CellColumns,
    DroppedLabel,
    Interpretation,
    interpret_labels,
    label_column,
    text_categories,
)
from pertscale.perturbation_names import (
    Grammar,
    is_control_word,
    is_suggested_control,
    is_unassigned_word,
    name_of,
)

__all__ = [
    "INDEX",
    "AccountLine",
    "CellColumns",
    "ColumnChoices",
    "DroppedLabel",
    "Interpretation",
    "Roles",
    "gene_ids",
    "gene_names",
    "infer_roles",
    "interpret",
    "label_column",
    "matching",
]

#: Stands for the index of the table of genes where a column is asked for.
INDEX: Final = "<index>"

_PERTURBATION = (
    "perturbation",
    "target_gene",
    "gene_target",
    "gene",
    "condition",
    "target",
    "target_gene_name",
    "perturbed_target_symbol",
    "perturbation_name",
    "pert",
    "guide_target",
)
_PAIR = ("perturbation_1", "perturbation_2")
_PERTURBATION_BY_GUIDE = ("guide_identity", "guide_id", "sgrna", "guide_ids")
_FLAG = ("control", "is_control", "control_nontargeting")
_CONTEXT = ("cell_line", "cell_type", "celltype", "cell_name", "context", "donor", "tissue")
_BATCH = ("batch", "gem_group", "batch_var", "replicate", "sample", "lane", "library")
_GUIDE = ("guide_id", "sgid_ab", "sgrna", "guide_identity", "grna", "guide")
_NOT_MODELLED = ("dose", "dose_val", "dose_value", "time", "timepoint", "treatment")
_GENE_NAME = (
    "gene_name",
    "gene_symbol",
    "gene_symbols",
    "symbol",
    "feature_name",
    "gene_short_name",
)
_GENE_ID = ("ensembl_id", "gene_id", "gene_ids", "feature_id", "ensembl")
#: Labels that say that something was done and not what: such a column does not label perturbations.
_GENERIC = frozenset({"perturbed", "targeting", "treated", "ko", "kd", "knockout", "stimulated"})
_ENSEMBL = re.compile(r"ENS[A-Z]*G\d{6,}(\.\d+)?(_PAR_Y)?")
#: What becomes of columns that no computation uses.
_KEPT: Final = {"batch": " (kept, not used in any test)"}


@dataclass(frozen=True, kw_only=True)
class ColumnChoices:
    """What the user says; None and () where the file decides.

    Parameters
    ----------
    perturbation
        Column of the perturbations, or the two columns of a combination.
    control
        Labels that are control.
    context, batch, guide
        Columns of cells.
    gene_name, gene_id
        Columns of genes, or :data:`INDEX`.
    """

    perturbation: str | tuple[str, str] | None = None
    control: tuple[str, ...] = ()
    context: str | None = None
    batch: str | None = None
    guide: str | None = None
    gene_name: str | None = None
    gene_id: str | None = None

    def arguments(self) -> dict[str, Any]:
        """Return them as :func:`pertscale.io.ingest` takes them."""
        return {name: value for name, value in vars(self).items() if name != "gene_id"}


@dataclass(frozen=True)
class AccountLine:
    """One sentence on a choice that was made."""

    role: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Roles:
    """Columns and labels that were chosen; None where a role has no column.

    Attributes
    ----------
    perturbation
        One column, or two whose labels are combined.
    controls
        Labels that are control, as the file spells them.
    context, batch, guide
        Columns of cells.
    gene_name, gene_id
        Columns of genes, or :data:`INDEX`.
    account
        What was chosen, why, and what else there was.
    guides_only
        Whether the perturbations are guides because no other column has control labels.
    """

    perturbation: str | tuple[str, str]
    controls: tuple[str, ...]
    context: str | None = None
    batch: str | None = None
    guide: str | None = None
    gene_name: str
    gene_id: str | None = None
    account: tuple[AccountLine, ...] = ()
    guides_only: bool = False


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    """One reading of the perturbations. `problem` says why it can't be taken."""

    column: str | tuple[str, str]
    labels: pd.Categorical
    counts: np.ndarray
    canonical: tuple[str, ...]  # per category; "" = left out
    controls: tuple[str, ...]
    how: str
    problem: str = ""
    are_guides: bool = False

    @property
    def viable(self) -> bool:
        return bool(self.controls) and not self.problem and bool(self.perturbations)

    @property
    def perturbations(self) -> set[str]:
        return set(self.canonical) - {"", name_of(())}

    def describe(self) -> str:
        shown = _examples(list(self.labels.categories), self.counts)
        return f"{_name(self.column)}: {len(self.labels.categories)} values ({shown})"


def infer_roles(
    columns: CellColumns, genes: pd.DataFrame, explicit: ColumnChoices | None = None
) -> Roles:
    """Find out which column plays which role.

    Parameters
    ----------
    columns
        Columns of the cells; one is in memory at a time, besides its candidates' codes.
    genes
        Table of the genes: index = names in the file.
    explicit
        What the user chose; it wins.

    Raises
    ------
    AmbiguousInputError
        Several columns or labels fit and differ; the message lists them and the argument.
    InputError
        No column holds perturbations with controls.
    UnknownNameError
        A column or label that was chosen isn't there.
    """
    explicit = explicit or ColumnChoices()
    account: list[AccountLine] = []
    gene_name, gene_id = _gene_roles(genes, explicit, columns.where, account)
    names = _names_of_genes(genes, gene_name, gene_id)
    chosen = _choose_perturbation(columns, names, explicit, account)
    taken = (chosen.column,) if isinstance(chosen.column, str) else chosen.column
    roles = {
        role: _plain_role(columns, role, spellings, getattr(explicit, role), taken, account)
        for role, spellings in (("context", _CONTEXT), ("batch", _BATCH), ("guide", _GUIDE))
    }
    used = (*taken, *(name for name in roles.values() if name is not None))
    _note_not_modelled(columns, used, account)
    return Roles(
        perturbation=chosen.column,
        controls=chosen.controls,
        context=roles["context"],
        batch=roles["batch"],
        guide=roles["guide"],
        gene_name=gene_name,
        gene_id=gene_id,
        account=tuple(account),
        guides_only=chosen.are_guides,
    )


def interpret(labels: pd.Series, roles: Roles, genes: pd.DataFrame) -> Interpretation:
    """Read the labels of all cells as perturbations.

    Parameters
    ----------
    labels
        (n_cells,) as :func:`label_column` returns them.
    roles
        The chosen columns and controls.
    genes
        Table of the genes.

    Raises
    ------
    InputError
        No cell is control.
    """
    names = _names_of_genes(genes, roles.gene_name, roles.gene_id)
    return interpret_labels(labels, controls=roles.controls, genes=names)


def gene_names(genes: pd.DataFrame, roles: Roles) -> np.ndarray:
    """Return the names of the genes, (n_genes,); duplicates and empty ones stay (method A5)."""
    return _gene_values(genes, roles.gene_name)


def gene_ids(genes: pd.DataFrame, roles: Roles) -> np.ndarray | None:
    """Return the Ensembl ids without their version, (n_genes,); None where there are none."""
    if roles.gene_id is None:
        return None
    ids = [str(value) for value in _gene_values(genes, roles.gene_id)]
    return np.array([i.split(".")[0] if _ENSEMBL.fullmatch(i) else i for i in ids], dtype=object)


# --- perturbations ------------------------------------------------------------------------------


def _choose_perturbation(
    columns: CellColumns, genes: Sequence[str], explicit: ColumnChoices, account: list[AccountLine]
) -> _Candidate:
    flag = None if explicit.control else _control_flag(columns)
    if explicit.perturbation is not None:
        wanted = explicit.perturbation
        for name in (wanted,) if isinstance(wanted, str) else wanted:
            _check_there(name, columns.names, "perturbation", columns.where)
        candidates = [_candidate(columns, wanted, genes, explicit.control, flag)]
    else:
        candidates = [
            _candidate(columns, name, genes, explicit.control, flag)
            for name in _perturbation_columns(columns.names)
        ]
    viable = [c for c in candidates if c.viable and (explicit.perturbation or not _is_generic(c))]
    if (
        not viable and explicit.perturbation is None
    ):  # whether guides tell targets: io/ingestion/targets.py
        guides = matching(columns.names, _PERTURBATION_BY_GUIDE)
        read = (_candidate(columns, name, genes, explicit.control, flag) for name in guides)
        viable = [replace(one, are_guides=True) for one in read if one.viable]
    if not viable:
        raise _nothing_viable(columns, candidates, explicit)
    first = viable[0]
    differing = [c for c in viable[1:] if not _same_labelling(first, c)]
    if differing:
        listed = "; ".join(c.describe() for c in [first, *differing])
        raise AmbiguousInputError(
            f"{columns.where}: several columns could be the perturbations and differ: {listed}. "
            f"Pass one of them, e.g. perturbation={first.column!r}"
        )
    _check_controls_there(first, explicit, columns.where)
    account.extend(_perturbation_account(first, viable[1:], candidates, explicit, genes))
    return first


def _perturbation_columns(names: Sequence[str]) -> list[str | tuple[str, str]]:
    """Columns that may hold perturbations, preferred ones first; the pair comes last."""
    found: list[str | tuple[str, str]] = [*matching(names, _PERTURBATION)]
    pair = [next(iter(matching(names, (part,))), None) for part in _PAIR]
    if pair[0] is not None:
        found.append(pair[0] if pair[1] is None else (pair[0], pair[1]))
    return found


def _candidate(
    columns: CellColumns,
    column: str | tuple[str, str],
    genes: Sequence[str],
    control: tuple[str, ...],
    flag: tuple[str, np.ndarray] | None,
) -> _Candidate:
    """Read one column under the controls that the user, a flag column or the words give."""
    labels = label_column(columns, column).array
    assert isinstance(labels, pd.Categorical)
    words = [str(label) for label in labels.categories]
    codes = np.asarray(labels.codes)
    counts = np.bincount(codes[codes >= 0], minlength=len(words))
    problem = ""
    if control:
        controls, how = [w for w in words if w in control], "as chosen by control="
    elif flag is not None:
        flagged = np.bincount(codes[(codes >= 0) & flag[1]], minlength=len(words))
        controls = [
            w for w, n in zip(words, flagged, strict=True) if n and not is_unassigned_word(w)
        ]
        how = f"as flagged by column {flag[0]!r}"
        problem = _flag_problem(column, flag[0], words, counts, flagged)
    else:
        controls, how = [w for w in words if is_control_word(w)], "by their names"
    grammar = Grammar.of(words, genes, controls)
    parsed = [grammar.parse(word) for word in words]
    if not control and flag is None:
        # ctrl+ctrl and NegCtrl1_NegCtrl0 are control as well
        controls = [w for w, found in zip(words, parsed, strict=True) if found == ()]
    canonical = tuple("" if found is None else name_of(found) for found in parsed)
    return _Candidate(
        column=column,
        labels=labels,
        counts=counts,
        canonical=canonical,
        controls=tuple(controls),
        how=how,
        problem=problem,
    )


def _is_generic(candidate: _Candidate) -> bool:
    """Whether a column only says that something was done: control against perturbed."""
    return {name.lower() for name in candidate.perturbations} <= _GENERIC


def _flag_problem(
    column: str | tuple[str, str],
    flag: str,
    words: Sequence[str],
    counts: np.ndarray,
    flagged: np.ndarray,
) -> str:
    """Say where a 0/1 column and the labels contradict each other."""
    for word, n, n_flagged in zip(words, counts.tolist(), flagged.tolist(), strict=True):
        if is_unassigned_word(word):
            continue
        if 0 < n_flagged < n or (n_flagged == 0 and is_control_word(word)):
            return (
                f"column {flag!r} marks {n_flagged} of the {n} cells labelled {word!r} in column "
                f"{_name(column)} as control; pass control= with the control labels"
            )
    return ""


def _control_flag(columns: CellColumns) -> tuple[str, np.ndarray] | None:
    """Return the first 0/1 column that marks controls, as booleans per cell."""
    for name in matching(columns.names, _FLAG):
        values = text_categories(columns.load(name))
        kinds = {str(level).lower().removesuffix(".0") for level in values.categories}
        if kinds and kinds <= {"0", "1", "true", "false"} and kinds & {"1", "true"}:
            on = [str(v).lower().removesuffix(".0") in ("1", "true") for v in values.categories]
            return name, np.array([*on, False])[np.asarray(values.codes)]
    return None


def _same_labelling(one: _Candidate, other: _Candidate) -> bool:
    """Whether two columns give every cell the same canonical perturbation."""
    width = len(other.canonical) + 1
    pairs = (
        (np.asarray(one.labels.codes, np.int64) + 1) * width + np.asarray(other.labels.codes) + 1
    )
    left, right = ("", *one.canonical), ("", *other.canonical)
    return all(left[p // width] == right[p % width] for p in np.unique(pairs).tolist())


def _nothing_viable(
    columns: CellColumns, candidates: list[_Candidate], explicit: ColumnChoices
) -> InputError | UnknownNameError:
    """Say what was tried and which argument helps."""
    where = columns.where
    for candidate in candidates:
        if explicit.control:
            break
        if candidate.problem:
            return AmbiguousInputError(f"{where}: {candidate.problem}")
        suggested = [w for w in candidate.labels.categories if is_suggested_control(str(w))]
        if suggested:
            others = {str(w).lower() for w in candidate.labels.categories} - {
                str(w).lower() for w in suggested
            }
            column = f"perturbation={candidate.column!r}, " if others <= _GENERIC else ""
            return AmbiguousInputError(
                f"{where}: column {_name(candidate.column)} has no label that is surely control, "
                f"but {', '.join(map(repr, suggested[:5]))} may be; if so pass "
                f"{column}control={suggested[0]!r}"
            )
    for candidate in candidates if explicit.control else ():
        if set(explicit.control) & {str(w) for w in candidate.labels.categories}:
            return InputError(f"{where}: {_why_no_perturbation(candidate, explicit)}")
    if explicit.control and candidates:
        listed = "; ".join(c.describe() for c in candidates)
        known = [str(w) for c in candidates for w in c.labels.categories]
        return UnknownNameError(
            f"{where}: control={', '.join(map(repr, explicit.control))} is not a label in "
            f"{listed}{did_you_mean(explicit.control[0], known)}"
        )
    if not columns.names:
        return InputError(
            f"{where}: nothing describes the cells: pass the table of cells, with their barcodes "
            "and perturbations, as cells="
        )
    seen = "; ".join(c.describe() for c in candidates) or _list_columns(columns)
    return InputError(
        f"{where}: no column of perturbations with control labels was found. There is: "
        f"{seen or 'no column that describes cells'}. Pass perturbation= with the column and "
        "control= with its control label"
    )


def _why_no_perturbation(candidate: _Candidate, explicit: ColumnChoices) -> str:
    """Say why a column that has the chosen control labels has no perturbation beside them."""
    others = [str(w) for w in candidate.labels.categories if str(w) not in explicit.control]
    shown = ", ".join(map(repr, others[:5])) or "no other label"
    column = _name(candidate.column)
    if candidate.perturbations:
        return (
            f"column {column} only says that something was done ({shown}); if that is what is to "
            f"be tested pass perturbation={candidate.column!r} too"
        )
    found = f"control={', '.join(map(repr, explicit.control))} leaves no perturbation in {column}"
    if any(is_control_word(word) for word in others):
        return (
            f"{found}, since {shown} read as control; leave control= out to take those, or name "
            "another column with perturbation="
        )
    return (
        f"{found}, where there is {shown}; name the column of the perturbations with perturbation="
    )


def _list_columns(columns: CellColumns) -> str:
    """Columns of labels with examples, the first dozen."""
    shown = []
    for name in columns.names[:12]:
        values = columns.load(name)
        if pd.api.types.is_numeric_dtype(values.dtype):
            continue
        labels = text_categories(values)
        counts = np.bincount(labels.codes[labels.codes >= 0], minlength=len(labels.categories))
        examples = _examples(list(labels.categories), counts)
        shown.append(f"{name!r}: {len(labels.categories)} values ({examples})")
    return "; ".join(shown) or ", ".join(map(repr, columns.names))


def _check_controls_there(chosen: _Candidate, explicit: ColumnChoices, where: str) -> None:
    known = [str(word) for word in chosen.labels.categories]
    for label in explicit.control:
        if label not in known:
            raise UnknownNameError(
                f"{where}: control label {label!r} is not in column {_name(chosen.column)}"
                f"{did_you_mean(label, known)}"
            )


def _perturbation_account(
    chosen: _Candidate,
    same: list[_Candidate],
    candidates: list[_Candidate],
    explicit: ColumnChoices,
    genes: Sequence[str],
) -> list[AccountLine]:
    """Say what was chosen, which controls, what is left out, what else was there."""
    n = dict(zip(map(str, chosen.labels.categories), chosen.counts.tolist(), strict=True))
    why = "as chosen" if explicit.perturbation else "by its name and its control labels"
    lines = [f"column {_name(chosen.column)} {why}: {len(chosen.perturbations)} perturbations"]
    counted = ", ".join(f"{label!r} ({n[label]:,} cells)" for label in chosen.controls[:8])
    more = f" and {len(chosen.controls) - 8} more" if len(chosen.controls) > 8 else ""
    lines.append(f"control labels {chosen.how}: {counted}{more}")
    left = [label for label, name in zip(n, chosen.canonical, strict=True) if not name]
    n_missing = int((np.asarray(chosen.labels.codes) < 0).sum())
    parts = [f"{label!r} ({n[label]:,} cells)" for label in left[:8]]
    parts += [f"missing ({n_missing:,} cells)"] if n_missing else []
    if parts:
        lines.append(f"no perturbation, left out: {', '.join(parts)}")
    other = [w for w in n if is_control_word(w) and w not in chosen.controls]
    if other:
        lines.append(f"not control though it reads so: {', '.join(map(repr, other[:8]))}")
    unsure = [w for w in n if is_suggested_control(w) and w not in chosen.controls]
    if unsure:
        lines.append(
            f"taken for perturbations, though some screens use them as control: "
            f"{', '.join(map(repr, unsure[:8]))}; pass control= to change that"
        )
    words = [*map(str, chosen.labels.categories)]
    grammar = Grammar.of(words, genes, chosen.controls)
    lines += reading_lines(words, chosen.canonical, grammar)
    if same:
        lines.append(f"the same labels are in {', '.join(_name(c.column) for c in same)}")
    rest = [c for c in candidates if c is not chosen and c not in same]
    if rest:
        lines.append(f"not taken: {'; '.join(c.describe() for c in rest)}")
    return [AccountLine("perturbation", line) for line in lines]


# --- the other columns of cells -----------------------------------------------------------------


def _plain_role(
    columns: CellColumns,
    role: str,
    spellings: tuple[str, ...],
    chosen: str | None,
    taken: tuple[str, ...],
    account: list[AccountLine],
) -> str | None:
    """First column by preference; the others are named in the account."""
    if chosen is not None:
        _check_there(chosen, columns.names, role, columns.where)
        account.append(AccountLine(role, f"column {chosen!r} as chosen{_KEPT.get(role, '')}"))
        return chosen
    found = matching(columns.names, spellings)
    found = found if role == "guide" else [name for name in found if name not in taken]
    if not found:
        account.append(AccountLine(role, "no column"))
        return None
    labels = text_categories(columns.load(found[0]))
    text = f"column {found[0]!r} by its name: {len(labels.categories)} values{_KEPT.get(role, '')}"
    if len(found) > 1:
        text += f"; also there: {', '.join(map(repr, found[1:]))} (pass {role}= to take it)"
    account.append(AccountLine(role, text))
    return found[0]


def _note_not_modelled(
    columns: CellColumns, taken: tuple[str, ...], account: list[AccountLine]
) -> None:
    """Name second treatments, doses and times that vary: they are kept, not modelled."""
    second = [n for n in columns.names if re.fullmatch(r"perturbation_[2-9]", n.lower())]
    for name in [*second, *matching(columns.names, _NOT_MODELLED)]:
        if name in taken:
            continue
        levels = text_categories(columns.load(name)).categories
        if len(levels) > 1:
            examples = ", ".join(map(repr, levels[:3]))
            text = f"column {name!r} varies ({examples}); its cells are pooled, it is not modelled"
            account.append(AccountLine("not modelled", text))


# --- genes --------------------------------------------------------------------------------------


def _gene_roles(
    genes: pd.DataFrame, explicit: ColumnChoices, where: str, account: list[AccountLine]
) -> tuple[str, str | None]:
    """Return the columns of gene names and of Ensembl ids."""
    names = [*map(str, genes.columns)]
    for role, chosen in (("gene_name", explicit.gene_name), ("gene_id", explicit.gene_id)):
        if chosen is not None and chosen != INDEX:
            _check_there(chosen, names, role, where)
    index = [*map(str, genes.index)]
    by_id = _share(_ENSEMBL.fullmatch(name) is not None for name in index) > 0.5
    numbered = _share(name.isdigit() for name in index) > 0.5
    symbols = matching(names, _GENE_NAME)
    gene_name = INDEX if not (by_id or numbered) or not symbols else symbols[0]
    ids = matching(names, _GENE_ID)
    gene_id = INDEX if by_id else next(iter(ids), None)
    gene_name = explicit.gene_name or gene_name
    gene_id = explicit.gene_id or gene_id
    kind = "Ensembl ids" if by_id else "numbers" if numbered else "names"
    account.append(AccountLine("gene_name", f"{_gene_place(gene_name)} (the index holds {kind})"))
    account.append(AccountLine("gene_id", _gene_place(gene_id) if gene_id else "no column"))
    return gene_name, gene_id


def _names_of_genes(genes: pd.DataFrame, gene_name: str, gene_id: str | None) -> list[str]:
    """Return all names that the file has for its genes, whichever is chosen; numbers are none."""
    columns = dict.fromkeys((gene_name, INDEX, *([gene_id] if gene_id else ())))
    found = (str(value) for column in columns for value in _gene_values(genes, column))
    return [name for name in dict.fromkeys(found) if not name.isdigit()]


def _gene_place(column: str) -> str:
    return "index of the genes" if column == INDEX else f"column {column!r} of the genes"


def _gene_values(genes: pd.DataFrame, column: str) -> np.ndarray:
    values = genes.index if column == INDEX else genes[column]
    return np.array(["" if pd.isna(value) else str(value) for value in values], dtype=object)


# --- small helpers ------------------------------------------------------------------------------


def matching(names: Sequence[str], spellings: Iterable[str]) -> list[str]:
    """Columns with one of the spellings, in the order of the spellings; exact names first."""
    plain: dict[str, list[str]] = {}
    for name in names:
        plain.setdefault(re.sub(r"[\s.-]+", "_", name.strip().lower()), []).append(name)
    return [
        name
        for spelling in spellings
        for name in sorted(plain.get(spelling, []), key=lambda n: n != spelling)
    ]


def _check_there(name: str, names: Sequence[str], role: str, where: str) -> None:
    if name not in names:
        raise UnknownNameError(
            f"{where}: {role}={name!r} is not a column{did_you_mean(name, names) or '.'} "
            f"There is: {', '.join(names[:30]) or 'none'}"
        )


def _examples(labels: Sequence[str], counts: np.ndarray) -> str:
    order = np.argsort(-counts, kind="stable")[:4]
    shown = ", ".join(repr(str(labels[i])) for i in order)
    return shown + (", …" if len(labels) > 4 else "")


def _name(column: str | tuple[str, str]) -> str:
    return repr(column) if isinstance(column, str) else " + ".join(map(repr, column))


def _share(flags: Iterable[bool]) -> float:
    values = list(flags)
    return sum(values) / len(values) if values else 0.0
