"""The arguments that all scripts of the peers take."""

from __future__ import annotations

import argparse
import os


def parse(description: str | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("file", help="h5ad to test")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--scale", choices=("counts", "log1p"), default="counts")
    parser.add_argument("--budget", type=float, default=0.0, help="seconds of testing; 0: all")
    parser.add_argument("--p-values", help="write the p-values to this npz")
    parser.add_argument("--scratch", default=".", help="folder for files of the peer's own")
    arguments = parser.parse_args()
    os.makedirs(arguments.scratch, exist_ok=True)  # noqa: PTH103
    return arguments
