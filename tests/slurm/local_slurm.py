"""A real SLURM of virtual nodes on this machine's loopback, for tests.

Debian's packages, no systemd, no cgroups, no accounting. Everything is written below one folder;
nothing outside it is read, so an installed SLURM is not in the way.
"""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "scancel", "squeue")
PACKAGES = "slurmctld slurmd slurm-client munge"
#: Where Debian puts the daemons; not every user has it in PATH.
PATH = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])
#: States of a job that will not run any more.
ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL"}

CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
# a job whose node went down waits until what it was let in with has expired
AuthInfo=socket={root}/munge.socket,cred_expire={cred_expire}
CredType=cred/munge
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool/%n
SlurmctldPidFile={root}/pid/slurmctld
SlurmdPidFile={root}/pid/slurmd.%n
SlurmctldLogFile={root}/log/slurmctld
SlurmdLogFile={root}/log/slurmd.%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
# all nodes are this machine, whatever it has
SlurmdParameters=config_overrides
ReturnToService=2
SchedulerParameters=sched_interval=1,bf_interval=1,sched_min_interval=0,batch_sched_delay=0
KillWait=2
MinJobAge=600
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
NodeName={nodes} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports} CPUs={cpus} Boards=1 \
SocketsPerBoard=1 CoresPerSocket={cpus} ThreadsPerCore=1 RealMemory={megabytes} State=UNKNOWN
PartitionName=test Nodes=ALL Default=YES MaxTime=60 State=UP
"""


@dataclass(frozen=True)
class Job:
    """What `scontrol` tells of a job, and what the job has printed."""

    number: str
    state: str
    exit_code: str
    restarts: int
    batch_host: str
    output: str


class LocalSlurm:
    """slurmctld, one slurmd per virtual node, and munged, under a folder of their own."""

    def __init__(self, n_nodes: int = 3, cpus: int = 2, megabytes: int = 6000) -> None:
        # munge's socket may have 107 characters: not below pytest's long folders
        self.root = Path(tempfile.mkdtemp(prefix="slurm-"))
        self.nodes = [f"n{i}" for i in range(1, n_nodes + 1)]
        self.env = {**os.environ, "PATH": PATH, "SLURM_CONF": str(self.root / "slurm.conf")}
        for name in ("munge", "state", "spool", "log", "pid"):
            (self.root / name).mkdir()
        self.root.chmod(0o755)
        (self.root / "munge").chmod(0o700)
        self._configure(cpus, megabytes)

    def _configure(self, cpus: int, megabytes: int) -> None:
        first, *others = _free_ports(1 + len(self.nodes))
        conf = CONF.format(
            root=self.root,
            host=socket.gethostname().split(".")[0],
            user=getpass.getuser(),
            ctld_port=first,
            nodes=f"n[1-{len(self.nodes)}]",
            ports=f"{others[0]}-{others[-1]}",
            cpus=cpus,
            megabytes=megabytes,
            cred_expire=5,
        )
        (self.root / "slurm.conf").write_text(conf)
        (self.root / "munge" / "key").write_bytes(os.urandom(128))
        (self.root / "munge" / "key").chmod(0o600)

    def start(self) -> None:
        """Start the daemons, and wait until every node is idle."""
        munge = self.root / "munge"
        self._daemon(
            "munged",
            f"--socket={self.root}/munge.socket",
            f"--key-file={munge}/key",
            f"--pid-file={self.root}/pid/munged",
            f"--log-file={munge}/log",
            f"--seed-file={munge}/seed",
            "--num-threads=2",
        )
        self._daemon("slurmctld", "-c", "-i")
        for node in self.nodes:
            (self.root / "spool" / node).mkdir()
            self._daemon("slurmd", "-N", node)
        self.wait_for_nodes()

    def _daemon(self, *command: str) -> None:
        # a file, not a pipe: the daemon inherits it and would hold it open
        with (self.root / "log" / "start").open("ab") as log:
            subprocess.run(
                command,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=True,
                timeout=60,
            )

    def stop(self) -> None:
        """Cancel all jobs, stop what was started here, remove the folder."""
        try:
            self.cancel_all()
        finally:
            for pid in self._pids():
                # the state of slurmctld, which takes seconds to save, is thrown away anyway
                os.kill(pid, signal.SIGKILL)
            shutil.rmtree(self.root, ignore_errors=True)

    def _pids(self) -> list[int]:
        """Return the daemons that are alive, by their own pid files; those of jobs' steps not."""
        pids = [int(p.read_text()) for p in (self.root / "pid").iterdir() if p.stat().st_size]
        return [pid for pid in pids if Path(f"/proc/{pid}").exists()]

    def cancel_all(self) -> None:
        """Cancel all jobs and wait until none is left, not even one that is completing."""
        for job in self.run("squeue", "-h", "-o", "%A").split():
            self.run("scancel", job)
        wait_until(lambda: not self.run("squeue", "-h"), "all jobs are gone", timeout=30)

    def resume_nodes(self) -> None:
        """Put nodes that a test has set down to work again."""
        for node in self.run("sinfo", "-h", "-N", "-t", "down", "-o", "%N").split():
            self.run("scontrol", "update", f"nodename={node}", "state=resume")
        self.wait_for_nodes()

    def wait_for_nodes(self) -> None:
        """Wait until every node is idle."""
        wait_until(
            lambda: self.run("sinfo", "-h", "-N", "-t", "idle", "-o", "%N").split() == self.nodes,
            "all nodes are idle",
            timeout=30,
            told=self.log,
        )

    def log(self) -> str:
        """Return the last lines of every daemon's log."""
        return "\n".join(
            f"{p.name}: {line}"
            for p in sorted((self.root / "log").iterdir())
            for line in p.read_text(errors="replace").splitlines()[-15:]
        )

    def run(self, *command: str, cwd: Path | None = None) -> str:
        """Run one of SLURM's commands; return what it prints."""
        done = subprocess.run(
            command, env=self.env, cwd=cwd, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stderr}\n{self.log()}"
        return done.stdout.strip()

    def submit(self, script: Path, *options: str) -> str:
        """Submit a script as it is, from its own folder; return the job's number."""
        return self.run("sbatch", "--parsable", *options, str(script), cwd=script.parent)

    def job(self, number: str) -> Job:
        """Return how a job is."""
        shown = self.run("scontrol", "-o", "show", "job", number)
        fields = dict(item.split("=", 1) for item in shown.split() if "=" in item)
        output = Path(fields.get("StdOut", "none"))
        return Job(
            number,
            fields["JobState"],
            fields["ExitCode"],
            int(fields["Restarts"]),
            fields.get("BatchHost", ""),
            output.read_text(errors="replace") if output.is_file() else "",
        )

    def jobs(self, name: str) -> list[str]:
        """Return the numbers of all jobs of a name, also of those that have ended."""
        shown = self.run("scontrol", "-o", "show", "jobs").splitlines()
        return [
            line.split()[0].removeprefix("JobId=") for line in shown if f" JobName={name} " in line
        ]

    def wait(self, number: str, timeout: float = 300) -> Job:
        """Wait until a job has ended (sbatch --wait looks only every ten seconds)."""
        wait_until(
            lambda: self.job(number).state in ENDED,
            f"job {number} has ended",
            timeout=timeout,
            told=lambda: f"{self.job(number)}\n{self.log()}",
        )
        return self.job(number)


def wait_until(
    true: Callable[[], bool], what: str, *, timeout: float, told: Callable[[], str] = str
) -> None:
    """Wait until something is true; fail and tell what is known after `timeout` seconds."""
    end = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < end, f"not within {timeout} s: {what}\n{told()}"
        time.sleep(0.1)


def missing_programs() -> list[str]:
    """Return which of SLURM's programs are not installed."""
    return [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]


def _free_ports(count: int) -> list[int]:
    """Return ports in a row that nobody listens on: slurmd's are given as a range."""
    for base in range(16_800, 32_000, count):
        ports = list(range(base, base + count))
        if all(_is_free(port) for port in ports):
            return ports
    raise RuntimeError(f"no {count} free ports in a row")


def _is_free(port: int) -> bool:
    with socket.socket() as found:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
