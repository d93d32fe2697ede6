"""A SLURM for the tests that submit to one, and a screen they all run on."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dask
import pytest

from pertscale.io import ingest
from pertscale.simulate import simulate_screen
from pertscale.stats import rank_sum
from tests.slurm.local_slurm import PACKAGES, LocalSlurm, missing_programs, wait_until
from tests.support.commands import run_command
from tests.support.helpers import tree_hash

#: Of `pertscale run`: classes by one method on all pairs of one split.
ONE_METHOD = ("--task", "within", "--method", "all_non_de", "--setting", "full", "--seed", "0")
#: Labels in hundreds of tiles, so that a run has a middle.
MANY_TILES = ("--memory", "2300KB", "--replicates", "0")


@pytest.fixture(scope="package")
def slurm() -> Iterator[LocalSlurm]:
    """Three nodes; only one such SLURM is up at a time, whoever else tests on this machine."""
    if missing := missing_programs():
        reason = f"not installed: {', '.join(missing)}; apt-get install {PACKAGES}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with (Path(tempfile.gettempdir()) / "pertscale-test-slurm.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = LocalSlurm()
        try:
            found.start()
            yield found
        finally:
            found.stop()


@pytest.fixture
def alone(slurm: LocalSlurm) -> Iterator[None]:
    """Leave no job, and all nodes up, to the next test."""
    yield
    slurm.cancel_all()
    slurm.resume_nodes()


@dataclass(frozen=True)
class Setting:
    """A screen, what its labels have to be, and a folder to work in."""

    slurm: LocalSlurm
    store: Path
    expected: dict[str, str]
    folder: Path

    @property
    def out(self) -> Path:
        # a name that has to be quoted in a shell, and braces for str.format
        return self.folder / "out $HOME's {folder}"

    def write(self, recipe: str, *options: str) -> Path:
        """Have the command write a script."""
        script = self.folder / f"{recipe} job.sh"
        done = run_command(
            *("slurm", recipe, self.store, "--out", self.out, "--script", script),
            *("--workers", "2", "--memory", "1500MB", *options),
            *("--", *ONE_METHOD, *MANY_TILES),
            cwd=self.folder,
        )
        assert done.returncode == 0, done.stderr
        return script

    def n_tiles(self) -> int:
        """Count the tiles that are done."""
        return len(list(self.out.glob(".rank-sum-*/tiles/*.bin")))

    def wait_for_middle(self) -> None:
        """Wait until a run has done some tiles."""
        wait_until(lambda: self.n_tiles() >= 10, "some tiles are done", timeout=180)

    def check_middle(self) -> None:
        """Check that a run is in its middle at this moment."""
        assert self.n_tiles() >= 10
        assert not (self.out / "labels").exists()

    def check_finished(self, output: str) -> None:
        """Check that a run has ended, with the labels of one process with threads byte by byte."""
        assert "all_non_de" in output
        assert hashes(self.out) == self.expected
        assert (self.out / "report.html").exists()
        assert not list(self.out.glob(".rank-sum-*"))
        assert not list(self.out.glob(".slurm-*"))


@pytest.fixture(scope="package")
def screen(slurm: LocalSlurm, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """A screen that is wide rather than long: hundreds of tiles, but little to compute."""
    folder = tmp_path_factory.mktemp("wide screen")
    simulate_screen(
        folder / "wide.h5ad",
        n_cells=3000,
        n_genes=4000,
        n_perturbations=20,
        umi_per_cell=1500,
        quiet=True,
    )
    ingest(folder / "wide.h5ad", folder / "wide.zarr", quiet=True)
    with dask.config.set(scheduler="threads"):
        rank_sum(folder / "wide.zarr", out=folder / "expected", quiet=True)
    return folder / "wide.zarr", hashes(folder / "expected")


@pytest.fixture
def setting(slurm: LocalSlurm, screen: tuple[Path, dict], tmp_path: Path) -> Setting:
    store, expected = screen
    return Setting(slurm, store, expected, tmp_path)


def hashes(folder: Path) -> dict[str, str]:
    """Return a hash of every file of the labels, the pseudobulk and the halves, by its name."""
    parts = ("labels/", "pseudobulk.zarr/", "halves.zarr/", "null_tests.zarr/")
    return {name: digest for name, digest in tree_hash(folder).items() if name.startswith(parts)}
