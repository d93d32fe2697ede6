"""Tables of ours as they are read: texts that repeat are one object."""

from __future__ import annotations

import pandas as pd

from pertscale.io.parquet import read_table, write_table


def test_texts_that_repeat_are_one_object(tmp_path):
    frame = pd.DataFrame(
        {
            "method": ["mean", "knn", "mean", None] * 3,
            "params": ['{"k": 1}'] * 12,
            "value": [0.5] * 12,
            "n": range(12),
        }
    )
    write_table(tmp_path / "scores.parquet", frame)
    found = read_table(tmp_path / "scores.parquet")
    pd.testing.assert_frame_equal(found, frame)
    assert pd.isna(found["method"][3])
    if found["params"].dtype == object:  # pandas 3 has texts in Arrow's memory
        assert found["method"][3] is None
        assert len({id(text) for text in found["params"]}) == 1


def test_columns_rows_and_empty_tables(tmp_path):
    frame = pd.DataFrame({"a": ["x", "y", "x"], "b": ["u", "v", "w"], "n": [1, 2, 3]})
    write_table(tmp_path / "one.parquet", frame)
    chosen = read_table(tmp_path / "one.parquet", columns=["n", "a"], filters=[("a", "==", "x")])
    assert chosen.to_dict("list") == {"n": [1, 3], "a": ["x", "x"]}
    write_table(tmp_path / "none.parquet", frame[:0])
    empty = read_table(tmp_path / "none.parquet")
    assert list(empty) == ["a", "b", "n"]
    assert len(empty) == 0
