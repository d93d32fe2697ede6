"""Compiled kernels: what several processes do to the cache on disk at the same time."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

TOTAL = """
import os
import numpy as np
from pertscale._jit import jit

def total(values):
    result = 0.0
    for value in values:
        result += value
    return result
"""

#: Two processes call at the same time what neither of them has compiled.
TOGETHER = f"""{TOTAL}
kernel = jit(total)
go, ready = os.pipe()
child = os.fork()
if child:
    os.write(ready, b"go")
else:
    os.read(go, 2)
assert kernel(np.ones(5)) == 5.0
misses = sum(kernel.stats.cache_misses.values())
if not child:
    os._exit(misses)
_, status = os.waitpid(child, 0)
assert misses + os.waitstatus_to_exitcode(status) == 1
"""

#: One process compiles for integers while another one, which has seen the same empty index, saves
#: its code for floats; a third one then loads both.
RACE = f"""{TOTAL}
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


@pytest.mark.parametrize("script", [TOGETHER, RACE])
def test_processes_that_compile_at_the_same_time(script, tmp_path):
    """One of them compiles; where a file system has no locks, they do not mix their code."""
    path = tmp_path / "script.py"
    path.write_text(script)
    done = subprocess.run(
        [sys.executable, path],
        env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_module_that_changes_has_kernels_beside_it_compiled_anew(tmp_path):
    """They have its code inlined."""
    (tmp_path / "inner.py").write_text(
        "from pertscale._jit import inline\n@inline\ndef one(x):\n    return x + 1\n"
    )
    (tmp_path / "outer.py").write_text(
        "from inner import one\nfrom pertscale._jit import jit\n@jit\ndef two(x):\n"
        "    return one(x) * 2\nprint(two(3), sum(two.stats.cache_hits.values()))\n"
    )

    def run():
        found = subprocess.run(
            [sys.executable, str(tmp_path / "outer.py")], capture_output=True, text=True, check=True
        )
        return found.stdout.split()

    assert run() == ["8", "0"]
    assert run() == ["8", "1"]
    inner = tmp_path / "inner.py"
    inner.write_text(inner.read_text().replace("x + 1", "x + 10"))
    assert run() == ["26", "0"]
