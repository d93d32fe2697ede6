"""One case of the fuzz: in a process of its own, with limits, and told apart by how it ends."""

from __future__ import annotations

import gc
import json
import os
import random
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pertscale.errors import PertscaleError, PertscaleWarning
from tests.fuzz.mutations import mutate
from tests.fuzz.plain import Reader, agrees, as_plain

#: How a case may end well: the same is read as before; it is refused, by name; what is read has
#: changed as the file has, or in another way, with a warning; nothing but pertscale can read it.
FINE = ("same", "refused", "changed", "warned", "unjudged")
#: And badly: another result without a word; an error of a library, or one without the file's name.
FAULTS = ("other", "raw", "nameless", "hang", "crash", "memory")

_CPU_SECONDS, _WALL_SECONDS = 20, 120
#: What a case may take beside what the process had; a file is some kB.
_MOST_BYTES = 1 << 30


@dataclass(frozen=True)
class Outcome:
    """How a case ended."""

    seed: int
    reader: str
    changes: tuple[str, ...]
    kind: str
    told: str

    def __str__(self) -> str:
        changes = "; ".join(self.changes)
        return f"{self.kind}: seed {self.seed}, {self.reader}: {changes}\n    {self.told}"


@dataclass(frozen=True)
class Base:
    """A reader with its files as they were written, and what is read from them."""

    reader: Reader
    folder: Path
    value: Any


def make_bases(readers: Sequence[Reader], folder: Path) -> list[Base]:
    """Write and read the files of all readers; both ways of reading have to agree on them."""
    bases = []
    for reader in readers:
        mine = folder / reader.name.replace(" ", "_")
        mine.mkdir()
        reader.write(mine)
        value = as_plain(reader.read(mine))
        if reader.oracle is not None:
            right = as_plain(reader.oracle(mine))
            assert agrees(value, right), f"{reader.name}: {_difference(value, right)}"
        bases.append(Base(reader, mine, value))
    gc.collect()
    gc.freeze()  # a collection in a child would copy all pages
    return bases


def run_case(seed: int, bases: Sequence[Base], scratch: Path) -> Outcome:
    """Change the files of a reader, and read them in a child; a fault keeps its files."""
    chance = random.Random(seed)
    base = bases[seed % len(bases)]
    folder = scratch / f"case-{seed}"
    shutil.copytree(base.folder, folder / "in", symlinks=True)
    changes = [mutate(folder / "in", chance, whole=True)]
    if chance.random() < 0.15:
        changes.append(mutate(folder / "in", chance, whole=False))
    kind, told = _in_child(lambda: _read(base, folder / "in"), folder)
    if kind in FINE:
        shutil.rmtree(folder)
    return Outcome(seed, base.reader.name, tuple(changes), kind, told)


# --- in the child ---------------------------------------------------------------------------------


def _read(base: Base, folder: Path) -> tuple[str, str]:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            value = as_plain(base.reader.read(folder))
        except PertscaleError as error:
            return _refused(f"{type(error).__name__}: {error}", folder)
        except Exception as error:  # noqa: BLE001 — what it is, is what is asked
            where = traceback.format_exc().strip().splitlines()[-12:]
            return "raw", "\n".join([f"{type(error).__name__}: {error}", *where])
    warned = [str(w.message) for w in said if issubclass(w.category, PertscaleWarning)]
    kind, told = _judge(base, value, folder)
    if kind == "other" and any(str(folder) in text for text in warned):
        return "warned", warned[0]
    return kind, told


def _refused(text: str, folder: Path) -> tuple[str, str]:
    if "asks for more memory than there is" in text:
        return "memory", text
    return ("refused" if str(folder) in text else "nameless"), text


def _judge(base: Base, value: Any, folder: Path) -> tuple[str, str]:
    oracle = base.reader.oracle
    try:
        right = base.value if oracle is None else as_plain(oracle(folder))
    except AssertionError as error:
        return "other", f"read, though it is damaged: {error}"
    except Exception as error:  # noqa: BLE001 — the library that judges reads less
        if value == base.value:
            return "same", ""
        return "unjudged", f"{type(error).__name__}: {error}"
    if not agrees(value, right):
        return "other", _difference(value, right)
    return ("same" if value == base.value else "changed"), ""


def _difference(value: Any, right: Any) -> str:
    """Say where two values differ first."""
    if isinstance(value, dict) and isinstance(right, dict) and value.keys() == right.keys():
        key = next(k for k in value if not agrees(value[k], right[k]))
        return f"{key}: {_difference(value[key], right[key])}"
    if isinstance(value, list) and isinstance(right, list) and len(value) == len(right):
        at = next(i for i in range(len(value)) if not agrees(value[i], right[i]))
        return f"[{at}] {_difference(value[at], right[at])}"
    return f"read {str(value)[:300]}, right is {str(right)[:300]}"


def _in_child(work: Any, folder: Path) -> tuple[str, str]:
    """Return what `work` returns, or how its process ended."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receive)
        with os.fdopen(send, "wb") as out:
            _run_child(work, folder, out)
        os._exit(0)
    os.close(send)
    answer = bytearray()
    deadline = time.monotonic() + _WALL_SECONDS
    with os.fdopen(receive, "rb") as pipe:
        while (left := deadline - time.monotonic()) > 0:
            if select.select([pipe], [], [], left)[0]:
                part = os.read(pipe.fileno(), 1 << 16)
                if not part:
                    break
                answer += part
        else:
            os.kill(child, signal.SIGKILL)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if left <= 0 or ended == -signal.SIGXCPU:
        return "hang", _log(folder)
    if ended or not answer:
        return "crash", f"{signal.Signals(-ended).name if ended < 0 else ended}\n{_log(folder)}"
    kind, told = json.loads(bytes(answer))
    return kind, told


def _run_child(work: Any, folder: Path, out: Any) -> None:
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdout = sys.stderr = open(log, "w", closefd=False)  # noqa: SIM115
    tempfile.tempdir = str(folder)
    before = _status("VmRSS")
    most = _status("VmData") + 2 * _MOST_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    used = resource.getrusage(resource.RUSAGE_SELF)
    resource.setrlimit(
        resource.RLIMIT_CPU,
        (int(used.ru_utime + used.ru_stime) + _CPU_SECONDS, resource.RLIM_INFINITY),
    )
    try:
        found = work()
    except BaseException:  # noqa: BLE001 — nothing of a child may go on in the parent's tests
        found = ("raw", traceback.format_exc()[-2000:])
    taken = _status("VmHWM") - before
    if found[0] in FINE and taken > _MOST_BYTES:
        found = ("memory", f"{taken >> 20:,} MB were taken; {found}")
    out.write(json.dumps(found).encode(errors="replace"))
    out.flush()


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:"))


def _log(folder: Path) -> str:
    return (folder / "log").read_text(errors="replace")[-1500:]
