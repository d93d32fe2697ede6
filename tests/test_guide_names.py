"""Which target a guide is of: from the names of a file together, its gene ids, or a column."""

from __future__ import annotations

from collections.abc import Callable

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from pertscale.errors import InputError
from pertscale.guide_names import target_group
from pertscale.io import check, ingest
from pertscale.io.ingestion.column_roles import CellColumns, ColumnChoices, infer_roles
from pertscale.io.ingestion.targets import plan_targets
from pertscale.screen import open_screen
from pertscale.splits import holdout
from pertscale.stats import rank_sum

TARGETS = [f"GENE{i}" for i in range(20)]
READ_OUT = [*TARGETS[:12], "NUDT3", "RPS10", "MYC"]  # the genes of the others are not
#: Names with a hyphen that are one gene each, read out or not.
HYPHENS = ["HLA-A", "HLA-B", "NKX2-3", "NKX2-5", "RPS10-NUDT3", "MYC-D"]
SEQUENCES = ["".join(np.random.default_rng(i).choice(list("ACGT"), 20)) for i in range(40)]
FORMS: dict[str, Callable[[int, int], str]] = {
    "GENE_pDS100": lambda i, k: f"GENE{i}_pDS{100 + 2 * i + k}",
    "GENE_A": lambda i, k: f"GENE{i}_{'AB'[k]}",
    "sgGENE-A": lambda i, k: f"sgGENE{i}-{'AB'[k]}",
    "sgGENE_1": lambda i, k: f"sgGENE{i}_{k + 1}",
    "GENE_protospacer": lambda i, k: f"GENE{i}_{SEQUENCES[2 * i + k]}",
    "GENE_KO1": lambda i, k: f"GENE{i}_KO{k + 1}",
    "GENE_1": lambda i, k: f"GENE{i}_{k + 1}",
    "GENE 1": lambda i, k: f"GENE{i} {k + 1}",
    "GENE#1": lambda i, k: f"GENE{i}#{k + 1}",
    "GENE(1)": lambda i, k: f"GENE{i}({k + 1})",
    "g1_GENE": lambda i, k: f"g{k + 1}_GENE{i}",
    "1_GENE": lambda i, k: f"{k + 1}_GENE{i}",
    "GENE-tss1": lambda i, k: f"GENE{i}-tss{k + 1}",
    "GENE_crRNA1": lambda i, k: f"GENE{i}_crRNA{k + 1}",
    "GENE_sgRNA_a": lambda i, k: f"GENE{i}_sgRNA_{'ab'[k]}",
    "GENEsg1": lambda i, k: f"GENE{i}sg{k + 1}",
    "KO-GENE_1": lambda i, k: f"KO-GENE{i}_{k + 1}",
    "Replogle": lambda i, k: f"{10090 + k}_GENE{i}_P1P2_ENSG{i:011d}",
}


@pytest.mark.parametrize("form", FORMS)
def test_guides_of_one_target_are_known_by_the_form_that_most_names_have(form: str) -> None:
    of = {FORMS[form](i, k): f"GENE{i}" for i in range(20) for k in (0, 1)}
    groups = target_group([*of, *HYPHENS], READ_OUT)
    assert {name: groups[name] for name in of} == of
    assert [groups[name] for name in HYPHENS] == HYPHENS


def test_after_sg_a_gene_with_a_hyphen_stays_whole() -> None:
    names = ["sgHLA-A", "sgHLA-B", "sgMYC-A", "sgMYC-B", "sgRPS10-A", "sgNUDT3-B", "sgHLA-C-A"]
    groups = target_group(names, [*READ_OUT, "HLA-C"])
    assert groups["sgHLA-A"] == "sgHLA-A"
    assert groups["sgHLA-B"] == "sgHLA-B"
    assert groups["sgHLA-C-A"] == "HLA-C"
    assert groups["sgMYC-A"] == groups["sgMYC-B"] == "MYC"


def test_a_gene_in_a_few_of_many_names_is_no_target() -> None:
    names = ["REST_medium", "unstimulated_1x", "IFN_low", "IFN_high", "TNF_low", "RPS10_MYC_x"]
    assert target_group(names, ["REST", *READ_OUT]) == {name: name for name in names}
    alone = target_group(["MYC_KO1", "GENE1"], READ_OUT)
    assert alone == {"MYC_KO1": "MYC", "GENE1": "GENE1"}


def test_combinations_and_ids() -> None:
    assert target_group(["GENE1_A+GENE2_B", "GENE1_B"], READ_OUT) == {
        "GENE1_A+GENE2_B": "GENE1+GENE2",
        "GENE1_B": "GENE1",
    }
    ids = {f"ENSG{i:011d}": f"GENE{i}" for i in range(9)}
    names = ["ENSG00000000003", "ENSG00000000004.2", "ENSG00000000099", "ENSG00000000005_A"]
    groups = target_group(names, READ_OUT, ids=ids)
    assert list(groups.values()) == ["GENE3", "GENE4", "ENSG00000000099", "GENE5"]


# --- in a file ------------------------------------------------------------------------------------


def write(folder, labels, *, ids=False, **columns):
    """Write a screen whose names of genes are the targets and others."""
    counts = np.random.default_rng(0).poisson(3, (len(labels), 40)).astype("f4")
    obs = pd.DataFrame({"condition": labels, **columns})
    obs.index = [f"c{i}" for i in range(len(labels))]
    var = pd.DataFrame(index=[*TARGETS, *(f"G{i}" for i in range(20))])
    if ids:
        var["gene_id"] = [f"ENSG{i:011d}" for i in range(40)]
    ad.AnnData(sp.csr_matrix(counts), obs=obs, var=var).write_h5ad(folder / "s.h5ad")
    return folder / "s.h5ad"


def test_guides_stay_together_and_know_their_target(tmp_path):
    names = [FORMS["GENE_pDS100"](i, k) for i in range(20) for k in (0, 1)]
    source = write(tmp_path, ["ctrl"] * 40 + [n for n in names for _ in range(6)])
    line = (
        "perturbation: 40 of 40 perturbations are guides, such as 'GENE0_pDS100' of GENE0; those "
        "of one target (20 groups) stay together in splits"
    )
    assert line in check(source).lines
    screen = open_screen(ingest(source, tmp_path / "s.zarr", quiet=True))
    assert line in screen.info["account"]
    assert screen.info["guides"] == {name: name.split("_")[0] for name in names}
    assert screen.targets["GENE3_pDS107"] == ("GENE3",)
    split = holdout(screen.perturbations, groups=screen.target_groups)
    genes = [{name.split("_")[0] for name in part} for part in (split.train, split.test)]
    assert not genes[0] & genes[1]
    assert int(rank_sum(screen, quiet=True).to_pandas()["is_target"].sum()) == 40


def test_ensembl_ids_are_targets_by_the_ids_of_the_genes(tmp_path):
    labels = ["ctrl"] * 20 + [f"ENSG{i:011d}" for i in range(4) for _ in range(5)]
    ids = open_screen(ingest(write(tmp_path, labels, ids=True), tmp_path / "s.zarr", quiet=True))
    assert ids.targets["ENSG00000000002"] == ("GENE2",)
    (tmp_path / "plain").mkdir()
    source = write(tmp_path / "plain", labels)
    plain = open_screen(ingest(source, tmp_path / "p.zarr", quiet=True))
    assert plain.targets["ENSG00000000002"] == ("ENSG00000000002",)
    assert plain.fingerprint != ids.fingerprint  # what is a target decides labels and splits


def targets_of(labels, **columns):
    """Return the guides and the account of a table of cells."""
    table = {"condition": pd.Series(labels), **{k: pd.Series(v) for k, v in columns.items()}}
    cells = CellColumns(tuple(table), table.__getitem__, "cells.csv")
    var = pd.DataFrame(index=READ_OUT)
    roles = infer_roles(cells, var, ColumnChoices(perturbation="condition"))
    names = pd.Categorical(pd.Series(labels).replace("ctrl", "control"))
    return plan_targets(cells, roles, names, var)


def test_a_column_of_targets_wins():
    labels = ["ctrl", "GENE1_x", "GENE1_y", "opaque1", "opaque2"]
    guides, lines = targets_of(labels, target_gene=["ctrl", "GENE2", "GENE3", "GENE2", "GENE9_1"])
    assert guides == {
        "GENE1_x": "GENE2",
        "GENE1_y": "GENE3",
        "opaque1": "GENE2",
        "opaque2": "GENE9",
    }
    assert "perturbation: targets are those of column 'target_gene'" in lines
    by_name = {"GENE1_x": "GENE1", "GENE1_y": "GENE1"}
    assert targets_of(labels)[0] == by_name
    kinds = ["", "kinase", "kinase", "ligase", "ligase"]
    assert targets_of(labels, target=kinds)[0] == by_name  # no gene, and no part of the names


def guides_only(tmp_path, labels, **choices):
    """Tell how a file is read whose only column with control labels is one of guides."""
    target = choices.pop("target", None)
    obs = pd.DataFrame({"guide_id": labels, **({} if target is None else {"target_gene": target})})
    counts = np.random.default_rng(0).poisson(1, (len(labels), len(READ_OUT))) + 1
    obs.index = [f"c{i}" for i in range(len(labels))]
    file = ad.AnnData(sp.csr_matrix(counts.astype("f4")), obs=obs, var=pd.DataFrame(index=READ_OUT))
    file.write_h5ad(tmp_path / "guides.h5ad")
    ingest(tmp_path / "guides.h5ad", tmp_path / "s.zarr", quiet=True, **choices)
    return open_screen(tmp_path / "s.zarr")


def test_a_column_of_targets_says_what_opaque_guides_target(tmp_path):
    """It has no control labels, so that it is no column of perturbations itself."""
    labels = ["NT"] * 4 + ["oligo17", "oligo18", "oligo4"] * 2
    target = [None] * 4 + ["GENE2", "GENE2", "GENE3"] * 2
    screen = guides_only(tmp_path, labels, target=target)
    assert screen.target_groups == {"oligo17": "GENE2", "oligo18": "GENE2", "oligo4": "GENE3"}


def test_guides_whose_targets_nothing_tells_are_not_taken_unasked(tmp_path):
    labels = ["NT"] * 4 + ["oligoA", "oligoB"] * 2
    with pytest.raises(InputError, match="2 of 2 don't tell their target") as error:
        guides_only(tmp_path, labels)
    assert "Add one, 'target_gene'" in str(error.value)  # the test above
    assert "perturbation='guide_id'" in str(error.value)
    screen = guides_only(tmp_path, labels, perturbation="guide_id")
    assert list(screen.perturbations) == ["oligoA", "oligoB"]


def test_a_column_that_contradicts_itself_is_not_used():
    labels = ["ctrl", "GENE1_x", "GENE1_x"]
    guides, lines = targets_of(labels, target_gene=["ctrl", "GENE2", "GENE3"])
    assert guides == {"GENE1_x": "GENE1"}
    told = "column 'target_gene' names several targets of 1 perturbations ('GENE1_x': GENE2, GENE3)"
    assert any(told in line for line in lines)


def test_a_column_that_renames_genes_is_not_used():
    """One that says the same of all cells, for one: all perturbations would be one group."""
    labels = ["ctrl", "GENE1", "GENE2", "opaque1"]
    guides, lines = targets_of(labels, gene=["ctrl", "GENE5", "GENE5", "GENE5"])
    assert guides == {}
    told = "column 'gene' names another target of 2 perturbations that are genes themselves"
    assert any(told in line for line in lines)
