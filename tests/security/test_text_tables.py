"""Damaged text is told by its bytes and fields, wherever a table of it is read."""

from __future__ import annotations

import csv
import gzip
import io
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import pertscale as ps
from pertscale.errors import CorruptFileError, PertscaleWarning
from pertscale.io.gene_aliases import read_aliases
from pertscale.io.guards import text_tables
from pertscale.io.guards.text_tables import TextShape, check_text
from pertscale.io.long_tables import read_long
from pertscale.predictions.files.arrays import gene_list

WHOLE = "".join(f"P{i // 20},g{i % 20},{i}.5\n" for i in range(400))


def shape(text: str | bytes) -> TextShape:
    raw = text.encode() if isinstance(text, str) else text
    return check_text(lambda: io.BytesIO(raw), ",", "t.csv")


@pytest.mark.parametrize("block", [7, 100, 4_000_000])
@pytest.mark.parametrize("quoted", [False, True])
def test_shape_of_whole_tables(monkeypatch: pytest.MonkeyPatch, block: int, quoted: bool) -> None:
    monkeypatch.setattr(text_tables, "_BLOCK_BYTES", block)
    tail = 'Q,"a, b","two\nlines"\n' if quoted else ""
    assert shape("a,b,c\n" + WHOLE + tail) == TextShape(3, 3, 401 + quoted, True)
    assert shape("a,b\r\n\r\n" + WHOLE.replace("\n", "\r\n") + tail[:-1]) == TextShape(
        2, 3, 401 + quoted, not quoted
    )
    assert shape(("a,b,c\n" + tail + WHOLE)[:-1]) == TextShape(3, 3, 401 + quoted, False)


@pytest.mark.parametrize("block", [7, 100, 4_000_000])
@pytest.mark.parametrize("quoted", [False, True])
@pytest.mark.parametrize("line", [2, 150, 401])
@pytest.mark.parametrize("row", ["P,g", "P,g,1,", "P,,g,1", "P"])
def test_a_row_of_other_fields(
    monkeypatch: pytest.MonkeyPatch, block: int, quoted: bool, line: int, row: str
) -> None:
    monkeypatch.setattr(text_tables, "_BLOCK_BYTES", block)
    lines = ["a,b,c", *WHOLE.splitlines()]
    if quoted:
        lines = [",".join(f'"{field}"' for field in text.split(",")) for text in lines]
    lines[line - 1] = row
    if line == 2 and row.count(",") == 3:  # as R's write.table, until the next line is seen
        line = 3
    with pytest.raises(
        CorruptFileError,
        match=rf"t\.csv: line {line} has {row.count(',') + 1}|"
        rf"t\.csv: line {line} has 3 fields, the lines before it have 4",
    ):
        shape("\n".join(lines) + "\n")


@pytest.mark.parametrize("quoted", [False, True])
@pytest.mark.parametrize("at", [0, 3, 2000])
def test_nul_bytes_are_named_by_their_place(quoted: bool, at: int) -> None:
    text = WHOLE.replace("g3", '"g3"') if quoted else WHOLE
    raw = bytearray(("a,b,c\n" + text).encode())
    raw[at : at + 50] = bytes(50)
    with pytest.raises(CorruptFileError, match=f"byte {at:,} is NUL"):
        shape(bytes(raw))


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_what_the_csv_module_writes_is_whole(quoting: int) -> None:
    random = np.random.default_rng(0)
    for _ in range(100):
        width, height = random.integers(2, 5), random.integers(1, 9)
        rows = ["".join(random.choice(list('ab,"\n ')) for _ in range(3)) for _ in range(99)]
        text = io.StringIO(newline="")
        table = [rows[i * width : (i + 1) * width] for i in range(height)]
        csv.writer(text, quoting=quoting).writerows(table)
        assert shape(text.getvalue()) == TextShape(width, width, height, True)


@pytest.mark.parametrize(
    ("rows", "fields"),
    [
        (['A,5",3",x', "B,1,2,y"], 4),  # quotes that are no quotes
        (['"a ""b"", c",1', "B,2"], 2),
        (['"two\nlines",1', '"with\n\n""many""",2'], 2),
    ],
)
def test_quotes_have_the_rules_of_the_csv_module(rows: list[str], fields: int) -> None:
    assert shape("\n".join(rows) + "\n") == TextShape(fields, fields, 2, True)


def test_a_table_with_quotes_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Line by line takes eight times as long, which only a damaged one is worth."""
    monkeypatch.setattr(text_tables, "_check_quoted", lambda *_: pytest.fail("read again"))
    assert shape("a,b,c\n" + WHOLE.replace("g4", '"g,4"')).n_lines == 401


# --- long tables ----------------------------------------------------------------------------------


def test_long_tables_are_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    whole = "perturbation,gene,value\n" + WHOLE
    path.write_text(whole)
    assert len(read_long(path)) == 400
    raw = bytearray(whole.encode())
    raw[2000:3000] = bytes(1000)
    path.write_bytes(bytes(raw))
    with pytest.raises(CorruptFileError, match=r"long\.csv: byte 2,000 is NUL"):
        read_long(path)
    zipped = tmp_path / "long.csv.gz"
    zipped.write_bytes(gzip.compress(whole.replace("g4", '"g4"').encode()))
    assert len(read_long(zipped)) == 400
    path.write_text(whole.replace("P3,g4,", "P3,g4,,"))
    with pytest.raises(CorruptFileError, match=r"long\.csv: line 66 has 4 fields"):
        read_long(path)
    path.write_text(whole.replace("P3,g4,", "P3,"))
    with pytest.raises(CorruptFileError, match=r"long\.csv: line 66 has 2 fields"):
        read_long(path)


def test_a_long_table_that_may_be_cut_in_its_last_value(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    path.write_text("perturbation,gene,value\nA,x,12.5\nB,x,10.7")
    with pytest.warns(PertscaleWarning, match=r"last line of .*long\.csv has no line end"):
        assert len(read_long(path)) == 2


# --- small text files -----------------------------------------------------------------------------

READERS = {
    "a.csv": (read_aliases, "other,name\nxA,GA\nxB,GB\n"),
    "e.csv": (ps.read_embedding, "gene,d0,d1\nGA,0.25,1.5\nGB,0.5,2.5\n"),
    "s.gmt": (
        partial(ps.embeddings.from_gene_sets, dim=1),
        "T1\tabout\tGA\tGB\tGC\nT2\tabout\tGB\tGC\tGD\n",
    ),
    "g.txt": (gene_list, "GA\nGB\n"),
}


@pytest.mark.parametrize("name", READERS)
def test_nul_bytes_in_names_lists_and_vectors(tmp_path: Path, name: str) -> None:
    """pandas and csv make them part of a name."""
    read, text = READERS[name]
    path = tmp_path / name
    for at in (1, len(text) // 2, len(text) - 2):
        path.write_text(text[:at] + "\0" + text[at + 1 :])
        with pytest.raises(CorruptFileError, match=f"{name}.*byte {at} is NUL"):
            read(path)


@pytest.mark.parametrize("name", [name for name in READERS if name != "g.txt"])
def test_a_last_value_that_may_be_cut(tmp_path: Path, name: str) -> None:
    read, text = READERS[name]
    path = tmp_path / name
    path.write_text(text)
    with warnings.catch_warnings():
        warnings.simplefilter("error", PertscaleWarning)
        read(path)
    path.write_text(text[:-2])
    with pytest.warns(PertscaleWarning, match=f"last line of .*{name} has no line end"):
        read(path)
