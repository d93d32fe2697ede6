"""A model for the tests: predicts the control's profile, or fails in the way it is told to.

python fake_model.py TASK OUT HOW
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pandas as pd


def control_profile(path: Path) -> tuple[list[str], np.ndarray]:
    with h5py.File(path) as file:
        genes = file["var"][file["var"].attrs["_index"]].asstr()[:].tolist()
        last = np.flatnonzero(file["obs/control"][:] == 1)[-1] + 1  # controls come first
        end = file["X/indptr"][last]
        indices, data = file["X/indices"][:end], file["X/data"][:end]
    return genes, np.bincount(indices, data, minlength=len(genes)) / last


def main(task: Path, out: Path, how: str) -> None:
    with Path(os.environ.get("FAKE_MODEL_CALLS", os.devnull)).open("a") as calls:
        calls.write(f"{how}\n")
    request = json.loads((task / "request.json").read_text())
    genes, profile = control_profile(task / "data.h5ad")
    names = pd.Index(request["conditions"], name="condition")
    table = pd.DataFrame(np.tile(profile, (len(names), 1)), index=names, columns=genes)
    if how == "crash":
        raise SystemExit("no GPU was found")
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "hang":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        hang()
    if how == "garbage":
        (out / "predictions.parquet").write_text("condition,A\n")
    elif how != "nothing":
        changed(table, how).to_parquet(out / "predictions.parquet")
        (out / "meta.json").write_text(json.dumps({"how": how, "threads": request["threads"]}))
    if how == "deep_meta":
        (out / "meta.json").write_text("[" * 200_000)
    print("done")


def hang() -> None:
    """Start a child, say so, and sleep; who of the two is left then says that, too.

    Both hold the pipe: it ends when they have.
    """
    with Path(os.environ["FAKE_MODEL_PIPE"]).open("w") as pipe:
        late = "import time; time.sleep(600); print('left', flush=True)"
        subprocess.Popen([sys.executable, "-c", late], stdout=pipe)
        print("started", file=pipe, flush=True)
        time.sleep(600)
        print("left", file=pipe, flush=True)


def changed(table: pd.DataFrame, how: str) -> pd.DataFrame:
    genes, first = list(table.columns), table.index[0]
    changes = {
        "column": lambda: table[genes[::-1]].reset_index(),
        "some_conditions": lambda: table.iloc[1:],
        "empty_condition": lambda: pd.concat([table.iloc[:1] * np.nan, table.iloc[1:]]),
        "some_genes": lambda: table[genes[1:]],
        "wrong_genes": lambda: table.rename(columns={genes[0]: genes[0] + "x"}),
        "wrong_condition": lambda: table.rename(index={first: first + "+ctrl"}),
        "twice": lambda: pd.concat([table, table.iloc[:1]]),
        "nan": lambda: table.assign(**{genes[3]: np.nan}).assign(**{genes[4]: np.inf}),
        "small_negatives": lambda: table - 0.5,
        "change": lambda: table - table.to_numpy().mean(),
        "zero": lambda: table * 0,
        "counts": lambda: np.expm1(table),
        "log2": lambda: table / np.log(2) * 1.5,
        "text": lambda: table.assign(**{genes[0]: "high"}),
        "numbers": lambda: table.reset_index(drop=True),
    }
    return changes[how]() if how in changes else table


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
