"""Compiled kernels: what several processes do to the cache on disk at the same time."""

from __future__ import annotations

import os
import subprocess
import sys

#: One process compiles for integers while another one, which has seen the same empty index, saves
#: its code for floats; a third one then loads both.
RACE = """
import numpy as np
from pertscale._jit import jit

def total(values):
    result = 0.0
    for value in values:
        result += value
    return result

one, other, third = jit(total), jit(total), jit(total)
files, others = one._cache._cache_file, other._cache._cache_file
save = files._save_data

def late(*arguments):
    others._load_index = dict
    other(np.ones(5))
    save(*arguments)

files._save_data = late
one(np.arange(5))
assert third(np.ones(5)) == 5.0, third(np.ones(5))
assert third(np.arange(5)) == 10.0
assert sum(third.stats.cache_hits.values()) == 1, third.stats
"""


def test_processes_that_compile_at_the_same_time_do_not_mix_their_code(tmp_path):
    script = tmp_path / "race.py"
    script.write_text(RACE)
    done = subprocess.run(
        [sys.executable, script],
        env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
