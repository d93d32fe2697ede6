"""GEARS' simulation split and the split of the doubles are the published ones (method D3, D4)."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

from pertscale.errors import ArgumentError, InputError
from pertscale.splits import Split, doubles_split, gears_simulation
from pertscale.splits.published import genes_of
from tests.support.helpers import published_golden


def hashed(names):
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()[:16]


@pytest.mark.needs("published")
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    "screen", ["adamson", "replogle_k562_essential", "replogle_rpe1_essential"]
)
def test_gears_simulation_is_the_published_split(screen, seed):
    golden = json.loads(published_golden("splits_gears_simulation.json").read_text())[screen]
    want = golden["splits"][str(seed)]
    split = gears_simulation(golden["conditions"], seed=seed)
    assert hashed([*split.train, "ctrl"]) == want["sha256_16"]["train"]
    assert hashed(split.test) == want["sha256_16"]["test"]
    assert hashed(split.val) == want["sha256_16"]["val"]
    bare = gears_simulation([c.replace("+ctrl", "") for c in golden["conditions"]], seed=seed)
    assert [n + "+ctrl" for n in bare.test] == list(split.test)


@pytest.mark.needs("published")
@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5])
def test_doubles_split_is_the_published_one(seed, tmp_path):
    golden = json.loads(published_golden("splits_norman.json").read_text())
    want = golden["splits"][str(seed)]
    split = doubles_split(golden["conditions"][::-1], seed=seed)
    assert list(split.test) == want["test"]
    assert list(split.val) == want["val"]
    doubles = [n for n in split.train if "ctrl" not in n]
    assert sorted(doubles) == sorted(want["train_doubles"])
    assert len(split.train) - len(doubles) == golden["n_single_incl_ctrl"] - 1
    split.write(tmp_path / "split.json")
    assert Split.read(tmp_path / "split.json") == split


def test_gears_doubles_follow_their_genes():
    singles = [f"G{i}" for i in range(12)]
    doubles = [f"G{i}+G{j}" for i in range(12) for j in range(i)]
    split = gears_simulation(["ctrl", *singles, *doubles], seed=3)
    seen = set(np.random.RandomState(3).choice(sorted(singles), 9, replace=False))
    both = [d for d in doubles if set(d.split("+")) <= seen]
    again = set(np.random.RandomState(3).choice(both, int(0.75 * len(both)), replace=False))
    assert set(split.test) == {n for n in singles if n not in seen} | set(doubles) - again
    kept = [n for n in [*singles, *doubles] if n in seen or n in again]
    assert set(split.train) | set(split.val) == set(kept)
    assert not {g for n in split.train if "+" not in n for g in genes_of(n)} - seen


def test_few_doubles_and_bad_arguments():
    assert doubles_split(["A", "B", "A+B"], seed=1).test == ("A+B",)
    three = doubles_split(["A", "B", "A+B", "A+B+C"], seed=1)  # what is no double is in no part
    assert (*three.train, *three.held_out) == ("A", "B", "A+B")
    split = doubles_split(["A", "B", "C", "A+B", "A+C", "B+C"], train_fraction=0)
    assert len(split.test) == 1
    assert len(split.val) == 2
    with pytest.raises(InputError, match="0 singles and 1 doubles"):
        doubles_split(["A+B"])
    with pytest.raises(InputError, match="3 singles and 0 doubles"):
        doubles_split(["A", "B", "C"])
    with pytest.raises(ArgumentError, match="train_fraction"):
        doubles_split(["A", "B", "A+B"], train_fraction=1)
    with pytest.raises(InputError, match="needs more genes"):
        gears_simulation(["A"])
