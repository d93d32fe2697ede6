"""Whether a change of the structure kept the demo's outputs byte for byte.

    python -m tests.support.demo_bytes before.json     # at the commit before
    python -m tests.support.demo_bytes before.json     # after: compares, and names what differs

Results are compared on one machine: a BLAS rounds otherwise on another processor.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.helpers import tree_hash

#: What a run is for. Times, log and report hold when and how long.
COMPARED = (
    "screen.zarr",
    "embedding.parquet",
    "run/labels",
    "run/pseudobulk.zarr",
    "run/predictions",
    "run/splits",
    "run/scores.parquet",
    "run/interactions.parquet",
    "run/coverage.parquet",
    "run/drops.parquet",
    "run/skipped.parquet",
)


def hashes(demo: Path) -> dict[str, str]:
    """Return the SHA-256 of every compared file below the demo's folder."""
    inside = tuple(f"{name}/" for name in COMPARED)
    found = {
        path: digest
        for path, digest in tree_hash(demo).items()
        if path in COMPARED or path.startswith(inside)
    }
    manifest = json.loads((demo / "run" / "manifest.json").read_text())
    for key in sorted(set(manifest) - {"versions"}):
        text = json.dumps(manifest[key], sort_keys=True).replace(str(demo), "DEMO")
        found[f"manifest.json: {key}"] = hashlib.sha256(text.encode()).hexdigest()
    return found


def main(record: Path) -> int:
    """Run the demo; keep its hashes, or compare with those that were kept."""
    with tempfile.TemporaryDirectory() as folder:
        demo = Path(folder) / "demo"
        command = [sys.executable, "-m", "pertscale", "demo", "--out", str(demo), "--quiet"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        after = hashes(demo)
    if not record.exists():
        record.write_text(json.dumps(after, indent=1))
        print(f"{len(after)} files and keys of the manifest: {record}")
        return 0
    before = json.loads(record.read_text())
    other = sorted(k for k in before.keys() | after.keys() if before.get(k) != after.get(k))
    print("\n".join(other) or f"the same: {len(after)} files and keys of the manifest")
    return bool(other)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
