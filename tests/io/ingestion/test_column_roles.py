"""Which column plays which role, in the dialects of the field."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pertscale.errors import AmbiguousInputError, InputError, UnknownNameError
from pertscale.io.ingestion.cell_labels import NOT_CHOSEN
from pertscale.io.ingestion.column_roles import (
    INDEX,
    CellColumns,
    ColumnChoices,
    Interpretation,
    Roles,
    gene_ids,
    gene_names,
    infer_roles,
    interpret,
    label_column,
)
from pertscale.io.sources import find_source, open_source
from tests.support.helpers import real_data

SYMBOLS = pd.DataFrame(index=["KLF1", "MAP2K6", "STAT1", "HLA-A", "NKX2-1", "JAK2"])


def columns_of(**columns: list) -> CellColumns:
    frame = pd.DataFrame(columns)
    return CellColumns(tuple(frame.columns), lambda name: frame[name], "tiny.h5ad")


def read(
    columns: CellColumns, genes: pd.DataFrame = SYMBOLS, **explicit: object
) -> tuple[Roles, Interpretation]:
    roles = infer_roles(columns, genes, ColumnChoices(**explicit))  # type: ignore[arg-type]
    labels = label_column(columns, roles.perturbation)
    return roles, interpret(labels, roles, genes)


def names_per_cell(found: Interpretation) -> list[str | None]:
    return [None if code < 0 else found.names[code] for code in found.codes]


def account_of(roles: Roles) -> str:
    return "\n".join(f"{line.role}: {line.text}" for line in roles.account)


# --- dialects ------------------------------------------------------------------------------


def test_gears() -> None:
    roles, found = read(
        columns_of(
            condition=["ctrl", "KLF1+ctrl", "ctrl+KLF1", "MAP2K6+KLF1", "ctrl"],
            cell_type=["K562"] * 5,
            control=[1, 0, 0, 0, 1],
            dose_val=["1", "1+1", "1+1", "1+1", "1"],
            condition_name=["K562_ctrl_1", "a", "b", "c", "K562_ctrl_1"],
        )
    )
    assert (roles.perturbation, roles.controls, roles.context) == (
        "condition",
        ("ctrl",),
        "cell_type",
    )
    assert names_per_cell(found) == ["control", "KLF1", "KLF1", "KLF1+MAP2K6", "control"]
    assert "as flagged by column 'control': 'ctrl' (2 cells)" in account_of(roles)
    assert "column 'dose_val' varies ('1', '1+1')" in account_of(roles)


def test_replogle() -> None:
    genes = pd.DataFrame(
        {"gene_name": ["KLF1", "STAT1", "TBCE", "TBCE"]},
        index=["ENSG00000105610", "ENSG00000115415.3", "ENSG00000284770", "ENSG00000116957"],
    )
    roles, found = read(
        columns_of(
            gene=["non-targeting", "KLF1", "STAT1"],
            gene_id=["non-targeting", "ENSG00000105610", "ENSG00000115415"],
            transcript=["non-targeting", "P1P2", "P1"],
            gem_group=[1, 1, 2],
            sgID_AB=["nt1|nt2", "KLF1_+_1.2-P1P2|KLF1_-_1.3-P1P2", "x"],
        ),
        genes,
    )
    assert (roles.perturbation, roles.batch, roles.guide) == ("gene", "gem_group", "sgID_AB")
    assert (roles.gene_name, roles.gene_id, roles.context) == ("gene_name", INDEX, None)
    assert gene_names(genes, roles).tolist() == ["KLF1", "STAT1", "TBCE", "TBCE"]
    ids = gene_ids(genes, roles)
    assert ids is not None
    assert ids[1] == "ENSG00000115415"
    assert names_per_cell(found) == ["control", "KLF1", "STAT1"]


def test_state() -> None:
    roles, found = read(
        columns_of(
            target_gene=["non-targeting", "JAK2", "HLA-A"],
            guide_id=["nt_1", "JAK2_g1", "HLA-A_g1"],
            batch=["b1", "b1", "b2"],
            cell_type=["H1"] * 3,
        )
    )
    assert (roles.perturbation, roles.batch, roles.guide) == ("target_gene", "batch", "guide_id")
    assert found.names == ("control", "HLA-A", "JAK2")
    assert roles.gene_name == INDEX


def test_scperturb_joins_with_underscores() -> None:
    roles, found = read(
        columns_of(
            perturbation=["control", "KLF1_MAP2K6", "STAT1_X1", "NKX2-1", "HLA-A_JAK2"],
            perturbation_2=["stimulated", "none", "none", "none", "none"],
            cell_line=["K562"] * 5,
            celltype=["lymphoblast"] * 5,
        )
    )
    assert names_per_cell(found) == ["control", "KLF1+MAP2K6", "STAT1_X1", "NKX2-1", "HLA-A+JAK2"]
    assert roles.context == "cell_line"
    assert "also there: 'celltype' (pass context= to take it)" in account_of(roles)


def test_perturbench_and_norman_guides() -> None:
    roles, found = read(columns_of(condition=["control", "KLF1+MAP2K6", "STAT1"]))
    assert found.names == ("control", "KLF1+MAP2K6", "STAT1")
    roles, found = read(
        columns_of(
            guide_identity=[
                "NegCtrl10_NegCtrl0__NegCtrl10_NegCtrl0",
                "KLF1_MAP2K6__KLF1_MAP2K6",
                "KLF1_NegCtrl0__KLF1_NegCtrl0",
                "KIAA1804_NegCtrl0__KIAA1804_NegCtrl0",
            ]
        ),
        pd.concat([SYMBOLS, pd.DataFrame(index=["KIAA1804"])]),
    )
    assert roles.perturbation == "guide_identity"
    assert names_per_cell(found) == ["control", "KLF1+MAP2K6", "KLF1", "KIAA1804"]


def test_ebi() -> None:
    roles, found = read(
        columns_of(perturbed_target_symbol=["control_nontargeting", "KLF1|STAT1", "STAT1"])
    )
    assert roles.perturbation == "perturbed_target_symbol"
    assert found.names == ("control", "KLF1+STAT1", "STAT1")


def test_seurat_spellings_and_generic_columns() -> None:
    roles, found = read(
        columns_of(
            perturbation=["NT", "Perturbed", "Perturbed", "NT"],
            gene_target=["NT", "STAT1", "JAK2", "NT"],
            guide_ID=["NTg1", "STAT1g1", "JAK2g2", "NTg2"],
        )
    )
    assert (roles.perturbation, roles.guide) == ("gene_target", "guide_ID")
    assert found.names == ("control", "JAK2", "STAT1")
    only = columns_of(perturbation=["NT", "Perturbed"])
    assert read(only, perturbation="perturbation")[1].names == ("control", "Perturbed")
    with pytest.raises(InputError, match="'perturbation': 2 values"):
        read(only)


def test_pair_of_columns() -> None:
    roles, found = read(
        columns_of(
            perturbation_1=["control", "KLF1", "STAT1", None, "JAK2", "Doublet"],
            perturbation_2=["control", "control", "KLF1", None, None, "KLF1"],
        )
    )
    assert roles.perturbation == ("perturbation_1", "perturbation_2")
    assert names_per_cell(found) == ["control", "KLF1", "KLF1+STAT1", None, "JAK2", None]


def test_the_account_tells_every_way_of_reading() -> None:
    labels = [
        "ctrl",
        "KLF1_STAT1",
        "JAK2+KLF1",
        "KLF1+JAK2",
        "STAT1+ctrl",
        "KLF1-JAK2",
        "MYC",
        "MYC+",
    ]
    roles, found = read(columns_of(condition=labels))
    assert found.names == (
        "control",
        "JAK2+KLF1",
        "KLF1+STAT1",
        "KLF1-JAK2",
        "MYC",
        "MYC+",
        "STAT1",
    )
    account = account_of(roles)
    assert (
        "2 labels are combinations, joined by '+': 'JAK2+KLF1', 'KLF1+JAK2' as JAK2+KLF1" in account
    )
    assert "1 labels are combinations, joined by '_': 'KLF1_STAT1' as KLF1+STAT1" in account
    assert "1 perturbations have several labels: JAK2+KLF1: 'JAK2+KLF1', 'KLF1+JAK2'" in account
    assert "1 labels join names of genes by '-' and are read as one name" in account


# --- controls ------------------------------------------------------------------------------


def test_several_control_names_are_merged_and_unassigned_cells_never_are() -> None:
    labels = ["NT-1", "NT-2", "non-targeting", "unassigned", "nan", None, "", "Doublet", "KLF1"]
    roles, found = read(columns_of(perturbation=labels))
    assert roles.controls == ("NT-1", "NT-2", "non-targeting")
    assert names_per_cell(found) == ["control"] * 3 + [None] * 5 + ["KLF1"]
    assert {(x.label, x.reason, x.n_cells) for x in found.left_out} == {
        ("unassigned", "unassigned", 1),
        ("nan", "missing", 1),
        ("Doublet", "multiplet", 1),
        ("", "missing", 2),
    }
    assert found.reason("Doublet") == "multiplet"
    assert found.reason(np.nan) == found.reason(None) == "missing"
    assert found.reason("KLF1") is None
    assert found.codes.dtype == np.int32


def test_unused_levels_and_a_level_called_nan() -> None:
    labels = pd.Categorical(
        ["NT", "nan", "KLF1"], categories=["NT", "nan", "KLF1", "safe-targeting"]
    )
    frame = pd.DataFrame({"gene": labels})
    columns = CellColumns(("gene",), lambda name: frame[name], "x")
    roles, found = read(columns)
    assert roles.controls == ("NT",)
    assert names_per_cell(found) == ["control", None, "KLF1"]


def test_explicit_controls_win() -> None:
    columns = columns_of(
        perturbation=["safe-targeting", "non-targeting", "ctrl", "KLF1"], control=[1, 1, 1, 0]
    )
    roles, found = read(columns, control=("non-targeting",))
    assert names_per_cell(found) == ["safe-targeting", "control", None, "KLF1"]
    assert found.reason("ctrl") == NOT_CHOSEN
    assert "not control though it reads so: 'ctrl', 'safe-targeting'" in account_of(roles)
    roles, found = read(columns_of(perturbation=["AAVS1", "KLF1"]), control=("AAVS1",))
    assert names_per_cell(found) == ["control", "KLF1"]


def test_unsure_controls_are_suggested_not_assumed() -> None:
    with pytest.raises(AmbiguousInputError, match=r"'AAVS1', 'GFP' may be; .* control='AAVS1'"):
        read(columns_of(perturbation=["AAVS1", "GFP", "KLF1"]))
    roles, found = read(columns_of(perturbation=["NT", "GFP", "KLF1"]))
    assert found.names == ("control", "GFP", "KLF1")
    assert "some screens use them as control: 'GFP'" in account_of(roles)


def test_flag_column_makes_controls_and_has_to_agree() -> None:
    roles, found = read(columns_of(gene=["AAVS1", "KLF1", None], is_control=[True, False, True]))
    assert roles.controls == ("AAVS1",)
    assert names_per_cell(found) == ["control", "KLF1", None]
    with pytest.raises(AmbiguousInputError, match="marks 1 of the 2 cells labelled 'KLF1'"):
        read(columns_of(gene=["NT", "KLF1", "KLF1"], control=[1, 1, 0]))
    with pytest.raises(AmbiguousInputError, match="marks 0 of the 1 cells labelled 'NT'"):
        read(columns_of(gene=["NT", "AAVS1", "KLF1"], control=[0, 1, 0]))


def test_misspelt_control_and_column() -> None:
    columns = columns_of(perturbation=["non-targeting", "KLF1"])
    with pytest.raises(UnknownNameError, match="did you mean 'non-targeting'"):
        read(columns, control=("Non-targeting",))
    with pytest.raises(UnknownNameError, match="did you mean 'perturbation'"):
        read(columns, perturbation="perturbations")
    with pytest.raises(UnknownNameError, match="context='cell' is not a column"):
        read(columns, context="cell")
    with pytest.raises(UnknownNameError, match=r"control label 'NT' is not in column"):
        read(columns, control=("non-targeting", "NT"))


# --- ambiguity -----------------------------------------------------------------------------


def test_equal_labellings_take_the_first() -> None:
    roles, _ = read(
        columns_of(
            gene=["non-targeting", "KLF1", "unassigned"], perturbation=["control", "KLF1", None]
        )
    )
    assert roles.perturbation == "perturbation"
    assert "the same labels are in 'gene'" in account_of(roles)


def test_differing_labellings_are_an_error_that_lists_them() -> None:
    columns = columns_of(
        gene=["NT", "KLF1", "STAT1", "NT"], condition=["control", "IFN", "control", "IFN"]
    )
    with pytest.raises(AmbiguousInputError) as caught:
        read(columns)
    for part in (
        "tiny.h5ad",
        "'gene': 3 values ('NT', 'KLF1', 'STAT1')",
        "'condition': 2 values",
        "perturbation='gene'",
    ):
        assert part in str(caught.value)
    roles, _ = read(columns, perturbation="condition")
    assert roles.perturbation == "condition"


def test_candidates_without_controls_are_not_taken() -> None:
    roles, _ = read(columns_of(perturbation=["a", "b", "c"], target=["ctrl", "KLF1", "STAT1"]))
    assert roles.perturbation == "target"
    assert "not taken: 'perturbation': 3 values" in account_of(roles)


def test_guides_are_a_last_resort() -> None:
    columns = columns_of(guide_id=["NTg1", "STAT1g1", "STAT1g2", "JAK2g1"], score=[1.0, 2, 3, 4])
    roles, found = read(columns)
    assert found.names == ("control", "JAK2g1", "STAT1g1", "STAT1g2")
    assert roles.perturbation == "guide_id"
    assert roles.guides_only
    chosen, _ = read(columns, perturbation="guide_id")
    assert not chosen.guides_only  # those whose targets nothing tells: test_guide_names.py


def test_nothing_to_choose_from() -> None:
    with pytest.raises(InputError, match=r"'leiden': 2 values \('a', 'b'\).*Pass perturbation="):
        read(columns_of(leiden=["a", "b"], n=[1, 2]))
    with pytest.raises(InputError, match="'gene': 2 values"):
        read(columns_of(gene=["KLF1", "STAT1"]))
    with pytest.raises(InputError, match=r"nothing describes the cells.*as cells="):
        read(CellColumns((), lambda name: pd.Series(dtype=object), "x.csv"))
    with pytest.raises(InputError, match="no cell is control"):
        roles, _ = read(columns_of(gene=["NT", "KLF1"]))
        interpret(pd.Series(["KLF1"]), roles, SYMBOLS)


# --- other roles ---------------------------------------------------------------------------


def test_explicit_columns_win() -> None:
    columns = columns_of(
        gene=["NT", "KLF1"], cell_line=["a", "a"], donor=["d", "e"], lane=[1, 2], batch=[1, 1]
    )
    roles, _ = read(columns, context="donor", batch="lane")
    assert (roles.context, roles.batch) == ("donor", "lane")
    roles, _ = read(columns)
    assert (roles.context, roles.batch) == ("cell_line", "batch")


@pytest.mark.parametrize(
    ("genes", "name", "id_"),
    [
        (pd.DataFrame({"gene_symbols": ["A"]}, index=["ENSG00000000001.2"]), "gene_symbols", INDEX),
        (
            pd.DataFrame({"gene_name": ["A"], "ensembl_id": ["E"]}, index=["A-1"]),
            INDEX,
            "ensembl_id",
        ),
        (pd.DataFrame({"gene_name": ["A"]}, index=["0"]), "gene_name", None),
        (pd.DataFrame(index=["ENSMUSG00000000001"]), INDEX, INDEX),
        (pd.DataFrame({"gene_ids": ["ENSG00000000001"]}, index=["A"]), INDEX, "gene_ids"),
    ],
)
def test_gene_columns(genes: pd.DataFrame, name: str, id_: str | None) -> None:
    roles = infer_roles(columns_of(gene=["NT", "KLF1"]), genes)
    assert (roles.gene_name, roles.gene_id) == (name, id_)


def test_numeric_labels_and_bytes_are_read_as_text() -> None:
    _, found = read(columns_of(gene=[b"NT", b"KLF1", None]))
    assert names_per_cell(found) == ["control", "KLF1", None]
    _, found = read(columns_of(pert=["ctrl", 5, 7]))
    assert found.names == ("control", "5", "7")


# --- real files ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "roles", "controls", "n_perturbations", "n_control", "n_left_out"),
    [
        (
            "papalexi/papalexi.h5ad",
            ("gene_target", None, "replicate", "guide_id"),
            ("non-targeting",),
            25,
            1923,
            4537,
        ),
        (
            "norman_mcfaline/devel.h5ad",
            ("perturbation", "cell_type", None, None),
            ("control",),
            33,
            400,
            0,
        ),
        (
            "schraivogel/counts.csv.gz",
            ("target_gene", None, None, "guide_id"),
            ("non-targeting",),
            26,
            7793,
            2879,
        ),
        ("datlinger", ("perturbation", "cell_line", "sample", None), ("control",), 40, 200, 0),
    ],
)
def test_real_files(
    name: str,
    roles: tuple[str | None, ...],
    controls: tuple[str, ...],
    n_perturbations: int,
    n_control: int,
    n_left_out: int,
) -> None:
    with open_source(find_source(real_data(name))) as source:
        columns = CellColumns(tuple(source.cell_columns()), source.cell_column, name)
        genes = source.genes()
        found, read_as = read(columns, genes)
    assert (found.perturbation, found.context, found.batch, found.guide) == roles
    assert found.controls == controls
    assert len(read_as.names) == n_perturbations + 1
    assert int((read_as.codes == 0).sum()) == n_control
    assert int((read_as.codes < 0).sum()) == n_left_out
    assert sum(x.n_cells for x in read_as.left_out) == n_left_out


def test_no_column_is_told_in_two_roles() -> None:
    table = pd.DataFrame(
        {
            "perturbation": ["control", "A"] * 4,
            "perturbation_2": ["stimulated"] * 4 + ["rest"] * 4,
            "replicate": ["r1", "r2"] * 4,
        }
    )
    columns = CellColumns(tuple(table.columns), table.__getitem__, "screen.h5ad")
    genes = pd.DataFrame(index=["A", "B"])
    roles = infer_roles(columns, genes, ColumnChoices(context="perturbation_2"))
    told = [line for line in roles.account if "'perturbation_2'" in line.text]
    assert [line.role for line in told] == ["context"]
    batch = next(line for line in roles.account if line.role == "batch")
    assert batch.text.endswith("2 values (kept, not used in any test)")


def test_without_a_table_of_cells_the_way_is_to_pass_one() -> None:
    columns = CellColumns((), lambda name: pd.Series(), "tenx.h5")
    with pytest.raises(InputError, match=r"tenx\.h5: .*pass the table of cells.*as cells="):
        infer_roles(columns, pd.DataFrame(index=["A"]))
