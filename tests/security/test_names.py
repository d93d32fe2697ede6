"""Any text as a name: of a folder, of a column, of a perturbation."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pandas as pd
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

import pertscale as ps
from pertscale import perturbation_names
from pertscale.errors import InputError
from pertscale.io.store.column_names import stored_names
from pertscale.io.store.layout import read_frame, write_metadata
from pertscale.storage.folder_names import folder_name, slug
from tests.support import hostile

#: Half of them of the alphabet that paths, csv and our own grammar are made of.
ANY = st.text() | st.text("aB+_-/\\.,;|& ~\n\t\0:$\"'<>é\u0301\u202e\ud800", max_size=300)
EXAMPLES = settings(max_examples=150, deadline=None)


@EXAMPLES
@given(ANY)
def test_folder_names_are_one_safe_part_of_a_path(name):
    for made in (slug(name), folder_name(name)):
        assert re.fullmatch(r"[A-Za-z0-9_-]{1,60}", made)
        assert Path("out", made, "file").parent.parent == Path("out")
    assert folder_name(name) == folder_name(name)


@EXAMPLES
@given(st.lists(ANY, unique=True, min_size=2, max_size=8))
def test_folder_names_differ_where_case_does_not_count(names):
    assert len({folder_name(n).casefold() for n in names}) == len(names)
    assert len({slug(n).casefold() for n in names}) == len(names)


@pytest.mark.parametrize("name", ["holdout-seed0", "doubles-seed12", "majority_vote", "knn_1"])
def test_our_own_names_stay(name):
    assert folder_name(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", "../../x", "/x", "\0", "CON", "nul", "x" * 300])
def test_others_do_not(name):
    assert folder_name(name) != name
    # a name that looks like another one's slug is not it
    assert folder_name(folder_name(name)) != folder_name(name)


@EXAMPLES
@given(st.lists(ANY, unique=True, max_size=12))
def test_columns_are_different_folders(names):
    found = stored_names(names, ["cell", "batch"])
    assert list(found) == names
    folders = [unicodedata.normalize("NFC", n).casefold() for n in (*found.values(), "cell")]
    assert len(set(folders)) == len(folders)
    for name in found.values():
        assert not re.search(r'[/\\<>:"|?*\x00-\x1f\x7f]|^[.\s]|[.\s]$', name)
        assert 0 < len(name.encode()) < 250
        assert name.lower() != "zarr.json"


def test_columns_of_any_name_are_read_back(tmp_path):
    names = [*hostile.NAMES, "\0", "\ud800", "", " ", "Cell", "batch ", "é" * 300]
    found = stored_names(names, ["cell"])
    zarr.create_group(tmp_path / "s.zarr", zarr_format=3)
    columns = [("cell", pd.Series(["a", "b"]))]
    columns += [(found[n], pd.Series([i, i])) for i, n in enumerate(names)]
    empty = pd.DataFrame(index=pd.Index([], dtype=str))
    write_metadata(
        tmp_path / "s.zarr", obs=iter(columns), var=empty, groups=empty, drops=empty, info={}
    )
    frame = read_frame(zarr.open_group(tmp_path / "s.zarr", mode="r")["obs"])
    assert [frame[found[n]].iloc[0] for n in names] == list(range(len(names)))
    assert len(list((tmp_path / "s.zarr/obs").iterdir())) == len(names) + 2


@EXAMPLES
@given(ANY)
def test_any_label_has_a_canonical_name_or_a_reason(label):
    grammar = perturbation_names.Grammar(
        perturbation_names.known_targets([label], ["G1"]), frozenset({"control"})
    )
    found = grammar.parse(label)
    if found is None:
        return
    assert list(found) == sorted(set(found))
    assert all(target and target == target.strip() for target in found)
    assert grammar.canonical(label) == perturbation_names.name_of(found)


@EXAMPLES
@given(st.text(min_size=1))
def test_names_of_splits_come_back(tmp_path_factory, name):
    folder = tmp_path_factory.mktemp("split")
    split = ps.Split(name, ("A",), (f"{name}x",))
    split.write(folder / "s.json")
    assert ps.Split.read(folder / "s.json") == split


def test_half_a_character_is_refused_by_name():
    with pytest.raises(InputError, match=r"ud800.*surrogate"):
        ps.Split("\ud800", ("A",), ("B",))
