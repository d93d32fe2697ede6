"""Names of genes across files: symbols, Ensembl ids with or without version, a user's aliases.

Nothing is guessed: names are compared as they are, without their Ensembl version, and through a
table of aliases that the user gives. How a name was matched is a row of the account.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

_ENSEMBL_VERSION: Final = re.compile(r"(ENS[A-Z]*G\d{11})\.\d+(_PAR_Y)?")
#: How a name was matched, in the order in which it is tried.
EXACT: Final = "same name"
BY_ID: Final = "gene id"
BY_ALIAS: Final = "alias"
NOT_FOUND: Final = "not found"
REPEATED: Final = "found before"


@dataclass(frozen=True, eq=False)
class GeneMatch:
    """Where the genes of a file are among reference genes.

    Attributes
    ----------
    position : ndarray of intp (n_names,)
        Position in the reference; -1 where there is none. No position occurs twice.
    account : DataFrame
        One row per name that is not the same in both: ``name, matched, how``.
    """

    position: np.ndarray
    account: pd.DataFrame

    @property
    def n_matched(self) -> int:
        """Number of names that were found."""
        return int((self.position >= 0).sum())


def match_genes(
    names: Sequence[str],
    reference: Sequence[str],
    *,
    ids: Sequence[str] | None = None,
    reference_ids: Sequence[str] | None = None,
    aliases: Mapping[str, str] | None = None,
) -> GeneMatch:
    """Find the genes of a file among reference genes.

    Parameters
    ----------
    names, reference : sequence of str
        What the file and the reference call their genes: symbols or Ensembl ids.
    ids, reference_ids : sequence of str, optional
        A second name of each, such as Ensembl ids beside symbols.
    aliases : mapping, optional
        Other names → names of the reference; see :func:`pertscale.io.gene_aliases.read_aliases`.

    Returns
    -------
    GeneMatch
        Of names that lead to the same reference gene the first counts.
    """
    by_name = _first_positions(reference)
    by_id = _first_positions(map(_plain_id, [*(() if reference_ids is None else reference_ids)]))
    by_id |= {_plain_id(name): at for name, at in by_name.items()}
    other = {} if aliases is None else aliases
    position = np.full(len(names), -1, np.intp)
    taken: set[int] = set()
    rows = []
    for i, name in enumerate(map(str, names)):
        candidates = [name] if ids is None else [name, str(ids[i])]
        at, how = _find(candidates, by_name, by_id, other)
        if at in taken:
            at, how = -1, REPEATED
        if at >= 0:
            taken.add(at)
            position[i] = at
        if how != EXACT:
            rows.append((name, str(reference[at]) if at >= 0 else "", how))
    return GeneMatch(position, pd.DataFrame(rows, columns=["name", "matched", "how"], dtype=object))


def _find(
    candidates: Sequence[str],
    by_name: Mapping[str, int],
    by_id: Mapping[str, int],
    aliases: Mapping[str, str],
) -> tuple[int, str]:
    for name in candidates:
        if name in by_name:
            return by_name[name], EXACT
    for name in candidates:
        if _plain_id(name) in by_id:
            return by_id[_plain_id(name)], BY_ID
    for name in candidates:
        other = aliases.get(name, aliases.get(_plain_id(name), ""))
        if other in by_name:
            return by_name[other], BY_ALIAS
    return -1, NOT_FOUND


def _first_positions(names: Iterable[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for i, name in enumerate(map(str, names)):
        found.setdefault(name, i)
    return found


def _plain_id(name: str) -> str:
    """Return an Ensembl id without its version; any other name as it is."""
    match = _ENSEMBL_VERSION.fullmatch(str(name))
    return match[1] + (match[2] or "") if match else str(name)
