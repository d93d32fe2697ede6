"""What a process may hold: what the user says, within what limits leave."""

from __future__ import annotations

import dask
import pytest

from pertscale.errors import ArgumentError, MemoryBudgetError
from pertscale.execution.clients import memory_limit
from pertscale.execution.memory import (
    _control_groups,
    _slurm_job,
    machine_limit,
    memory_bytes,
    task_budget,
)

GB = 10**9


def test_sizes():
    assert memory_bytes("2GB") == 2 * GB
    for wrong in ("much", "0", "-1GB"):
        with pytest.raises(ArgumentError, match="is not a size"):
            memory_bytes(wrong)


def test_a_local_pool_of_processes_shares_what_this_one_may_have():
    with dask.config.set(scheduler="processes", num_workers=3):
        assert memory_limit(None) == machine_limit() // 3
    with dask.config.set(scheduler="threads", num_workers=3):
        assert memory_limit(None) is None


def test_automatic_follows_the_limit():
    assert task_budget("auto", worker_limit=64 * GB) == 2 * GB
    assert task_budget("auto", worker_limit=GB) == 500_000_000
    assert 0 < task_budget("auto", worker_limit=None) <= machine_limit()


def test_what_does_not_fit_is_refused_with_what_would():
    with pytest.raises(MemoryBudgetError, match=r"pass memory='500MB' or less, or .*2875MB"):
        task_budget("2GB", worker_limit=GB)
    assert task_budget("500MB", worker_limit=GB) == 500_000_000
    assert task_budget("2GB", worker_limit=2875 * 10**6) == 2 * GB
    with pytest.raises(MemoryBudgetError, match=r"memory_limit='625MB'"):
        task_budget("auto", worker_limit=400_000_000)
    assert task_budget("auto", worker_limit=625_000_000) == 200_000_000


def test_control_groups(tmp_path):
    (tmp_path / "slice" / "job").mkdir(parents=True)
    (tmp_path / "slice" / "memory.max").write_text("3000000000\n")
    (tmp_path / "slice" / "job" / "memory.max").write_text("max\n")
    assert list(_control_groups(tmp_path, "0::/slice/job\n")) == [3 * GB]
    (tmp_path / "memory" / "j").mkdir(parents=True)
    (tmp_path / "memory" / "j" / "memory.limit_in_bytes").write_text("1000000000\n")
    assert list(_control_groups(tmp_path, "4:cpu:/j\n5:memory:/j\n")) == [GB]


def test_slurm_job():
    assert list(_slurm_job({"SLURM_MEM_PER_NODE": "2048"})) == [2**31]
    both = {"SLURM_MEM_PER_CPU": "1024", "SLURM_CPUS_ON_NODE": "4"}
    assert list(_slurm_job(both)) == [2**32]
    assert list(_slurm_job({})) == []
