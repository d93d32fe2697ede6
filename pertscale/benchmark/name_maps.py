"""Contexts that are trained on and predicted, and how names of one are spelled in another.

Genes are matched by name, id or alias; what a perturbation is called in another screen follows from
what its target genes are called there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import pandas as pd

from pertscale.benchmark.state import ScreenRun
from pertscale.benchmark.units.label_matrix import LabelMatrix
from pertscale.benchmark.units.profiles import ContextProfiles
from pertscale.gene_names import GeneMatch, match_genes
from pertscale.io.ingestion.cell_labels import text_categories
from pertscale.io.ingestion.column_roles import matching
from pertscale.io.store.layout import is_store, open_root, read_column
from pertscale.perturbation_names import is_unassigned_word, name_of, targets
from pertscale.schema import PERTURBATION
from pertscale.screen import Screen
from pertscale.splits import Split

#: Columns of cells that say what was done to them.
_KIND_COLUMNS: Final = ("perturbation_type", "perturbation_method", "crispr_type")


@dataclass(frozen=True, eq=False)
class TransferContext:
    """A context that can be trained on or predicted.

    Attributes
    ----------
    name : str
        Name in score tables: the context, with the store where that alone is not unique.
    run : ScreenRun
    context : str
    """

    name: str
    run: ScreenRun
    context: str

    @property
    def splits(self) -> list[Split]:
        """Splits of its perturbations, one per seed."""
        return self.run.class_splits.get(self.context, [])

    @property
    def groups(self) -> dict[str, str]:
        """Target behind each perturbation."""
        return self.run.screen.target_groups

    @property
    def genes(self) -> list[str]:
        """Read-out genes."""
        return list(self.run.screen.genes)

    @cached_property
    def perturbations(self) -> list[str]:
        """Perturbations of the context."""
        groups = self.run.screen.context_groups(self.context)
        return list(groups.loc[~groups["is_control"], PERTURBATION])

    @cached_property
    def kinds(self) -> frozenset[str]:
        """What a column says was done to its cells: ``CRISPRa``; empty where none says so.

        Empty as well where a plan is made before the file is ingested.
        """
        if not is_store(self.run.screen.path):
            return frozenset()
        obs = open_root(self.run.screen.path)["obs"]
        column = next(iter(matching(obs.attrs["column-order"], _KIND_COLUMNS)), None)
        if column is None:
            return frozenset()
        values = text_categories(pd.Series(read_column(obs, column)))
        groups = self.run.screen.context_groups(self.context)
        rows = groups.loc[~groups["is_control"], ["start", "stop"]].itertuples(index=False)
        codes = np.unique(np.concatenate([values.codes[first:last] for first, last in rows]))
        words = [str(values.categories[code]) for code in codes if code >= 0]
        return frozenset(word for word in words if not is_unassigned_word(word))

    @property
    def profiles(self) -> ContextProfiles:
        """Profiles of the context."""
        return self.run.profiles[self.context]

    def matrix(self, kind: str) -> LabelMatrix | None:
        """Labels of a kind, full or curated."""
        return self.run.matrices.get((self.context, kind))


def transfer_contexts(screens: Sequence[ScreenRun]) -> list[TransferContext]:
    """Return the contexts of all screens, with unique names."""
    pairs = [(run, context) for run in screens for context in run.labels.contexts]
    contexts = [context for _, context in pairs]
    return [
        TransferContext(
            context if contexts.count(context) == 1 else f"{run.folder.name}:{context}",
            run,
            context,
        )
        for run, context in pairs
    ]


@dataclass(frozen=True, eq=False)
class ScreenNames:
    """Names of one screen in terms of another, for all of their contexts.

    Attributes
    ----------
    source, target : Screen
    aliases : dict of str to str
        Other names of genes → names.
    """

    source: Screen
    target: Screen
    aliases: Mapping[str, str]

    @cached_property
    def match(self) -> GeneMatch:
        """Where the source's read-out genes are in the target."""
        return match_genes(
            list(self.source.genes),
            list(self.target.genes),
            ids=self.source.gene_ids,
            reference_ids=self.target.gene_ids,
            aliases=self.aliases,
        )

    @cached_property
    def position(self) -> np.ndarray:
        """Position of each gene of the target in the source, -1 where it has none."""
        position = np.full(len(self.target.genes), -1, np.intp)
        covered = np.flatnonzero(self.match.position >= 0)
        position[self.match.position[covered]] = covered
        return position

    @cached_property
    def group(self) -> dict[str, str]:
        """Perturbation of the source → its target genes as the target screen calls them."""
        called = self._targets_as_called()
        return {
            name: name_of(called[g] for g in targets(group))
            for name, group in self.source.target_groups.items()
        }

    def _targets_as_called(self) -> dict[str, str]:
        """Target gene of the source → what the target screen calls it; itself where it does not."""
        perturbed, wanted = _target_genes(self.source), _target_genes(self.target)
        genes, ids = list(self.target.genes), self.target.gene_ids
        more = sorted(wanted - set(genes))
        source_ids = self.source.gene_ids or list(self.source.genes)
        id_of = dict(zip(self.source.genes, source_ids, strict=True))
        reference = [*genes, *more]
        match = match_genes(
            sorted(perturbed),
            reference,
            ids=[id_of.get(gene, gene) for gene in sorted(perturbed)],
            reference_ids=None if ids is None else [*ids, *more],
            aliases=self.aliases,
        )
        return {
            gene: reference[i] if i >= 0 else gene
            for gene, i in zip(sorted(perturbed), match.position.tolist(), strict=True)
        }


def _target_genes(screen: Screen) -> set[str]:
    return {gene for group in screen.target_groups.values() for gene in targets(group)}


@dataclass(frozen=True, eq=False)
class NameMap:
    """Names of a source context in terms of a target context.

    Attributes
    ----------
    source, target : TransferContext
    names : ScreenNames
        Those of their screens.
    """

    source: TransferContext
    target: TransferContext
    names: ScreenNames

    @property
    def position(self) -> np.ndarray:
        """Position of each gene of the target in the source, -1 where it has none."""
        return self.names.position

    @property
    def group(self) -> dict[str, str]:
        """Perturbation of the source → its target genes as the target screen calls them."""
        return self.names.group

    def account(self) -> dict[str, Any]:
        """Return a row of the coverage table: genes of the target that the source has."""
        covered = self.position >= 0
        genes = np.array(self.target.genes, object)
        names, wanted = self.source.perturbations, self.target.perturbations
        known = {self.target.groups[name] for name in wanted}
        in_source = {self.group[name] for name in names}
        missing = [name for name in wanted if self.target.groups[name] not in in_source]
        account = self.names.match.account
        reasons = account["how"].value_counts().to_dict() if len(account) else {}
        genes_matched = [f"{n} genes of the source: {why}" for why, n in reasons.items()]
        return {
            "what": "transfer",
            "name": self.source.name,
            "context": self.target.name,
            "split": "",
            "n_perturbations": len(wanted),
            "n_perturbations_predicted": len(wanted) - len(missing),
            "perturbations_missing": ",".join(missing),
            "n_genes": len(genes),
            "n_genes_predicted": int(covered.sum()),
            "genes_missing": ",".join(genes[~covered]),
            "not_in_screen": ",".join(n for n in names if self.group[n] not in known),
            "note": ", ".join(filter(None, [self.refused, *genes_matched])),
        }

    @cached_property
    def refused(self) -> str:
        """Why nothing is transferred: what was done to the cells differs; empty if it is."""
        source_kinds, target_kinds = self.source.kinds, self.target.kinds
        if source_kinds and target_kinds and not source_kinds & target_kinds:
            return (
                f"its perturbations are {' and '.join(sorted(source_kinds))}, those of "
                f"{self.target.name} {' and '.join(sorted(target_kinds))}, which do different "
                "things to a gene: nothing is transferred"
            )
        known = {self.target.groups[name] for name in self.target.perturbations}
        if not any(self.group[name] in known for name in self.source.perturbations):
            return (
                f"none of its {len(self.source.perturbations)} perturbations is one of the "
                f"{len(self.target.perturbations)} of {self.target.name}: nothing is transferred; "
                "where the two spell genes in different ways, pass aliases="
            )
        return ""


def maps_between(
    contexts: Sequence[TransferContext], aliases: Mapping[str, str]
) -> dict[TransferContext, list[NameMap]]:
    """Return for each context how names of each other one are spelled there.

    Genes are matched once per pair of screens, whatever contexts these have.
    """
    screens: dict[tuple[str, str], ScreenNames] = {}
    maps: dict[TransferContext, list[NameMap]] = {context: [] for context in contexts}
    for target in contexts:
        for source in contexts:
            if source is not target:
                of_source, of_target = source.run.screen, target.run.screen
                names = screens.setdefault(
                    (of_source.path, of_target.path), ScreenNames(of_source, of_target, aliases)
                )
                maps[target].append(NameMap(source, target, names))
    return maps
