"""Names of genes across files."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from pertscale.errors import CorruptFileError, InputError, NotFoundError
from pertscale.gene_names import match_genes
from pertscale.io.gene_aliases import read_aliases

REFERENCE = ["TP53", "GATA1", "MARCHF1", "HLA-A"]
IDS = ["ENSG00000141510.18", "ENSG00000102145", "ENSG00000145416.1", "ENSG00000206503"]


def test_symbols_and_versions_of_ids() -> None:
    found = match_genes(
        ["GATA1", "ENSG00000141510.3", "ENSG00000206503", "XYZ"], REFERENCE, reference_ids=IDS
    )
    assert found.position.tolist() == [1, 0, 3, -1]
    assert found.account.to_dict("records") == [
        {"name": "ENSG00000141510.3", "matched": "TP53", "how": "gene id"},
        {"name": "ENSG00000206503", "matched": "HLA-A", "how": "gene id"},
        {"name": "XYZ", "matched": "", "how": "not found"},
    ]
    assert found.n_matched == 3


def test_ids_on_both_sides_with_other_versions() -> None:
    found = match_genes(["ENSG00000102145.9"], ["ENSG00000102145.11"])
    assert found.position.tolist() == [0]


def test_a_second_name_of_the_file_is_tried() -> None:
    found = match_genes(["March1"], REFERENCE, ids=["ENSG00000145416"], reference_ids=IDS)
    assert found.position.tolist() == [2]


def test_aliases_come_last_and_a_gene_is_taken_once() -> None:
    found = match_genes(
        ["TP53", "P53", "MARCH1"], REFERENCE, aliases={"P53": "TP53", "MARCH1": "MARCHF1"}
    )
    assert found.position.tolist() == [0, -1, 2]
    assert found.account["how"].tolist() == ["found before", "alias"]


def test_case_is_not_guessed() -> None:
    assert match_genes(["Tp53"], REFERENCE).position.tolist() == [-1]


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet", "json"])
def test_tables_of_aliases(tmp_path, suffix) -> None:
    path = tmp_path / f"aliases.{suffix}"
    if suffix == "json":
        path.write_text(json.dumps({"P53": "TP53"}))
    elif suffix == "parquet":
        pd.DataFrame({"alias": ["P53"], "name": ["TP53"]}).to_parquet(path)
    else:
        mark = {"csv": ",", "tsv": "\t"}[suffix]
        path.write_text(f"alias{mark}name\nP53{mark}TP53\n")
    assert read_aliases(path) == {"P53": "TP53"}


def test_bad_tables_of_aliases(tmp_path) -> None:
    with pytest.raises(NotFoundError, match="there is no file"):
        read_aliases(tmp_path / "no.csv")
    path = tmp_path / "a.csv"
    path.write_text("alias,name\nP53,TP53,x\n")
    with pytest.raises(InputError, match="two columns"):
        read_aliases(path)
    path.write_text("alias,name\nP53,TP53\nP53,TP63\n")
    with pytest.raises(InputError, match="'P53' stands for 'TP53' and for 'TP63'"):
        read_aliases(path)
    path = tmp_path / "a.json"
    path.write_text("{")
    with pytest.raises(CorruptFileError, match="which a table of aliases is"):
        read_aliases(path)
