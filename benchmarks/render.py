"""Makes README.md and the figures from the results. ``python render.py --help``."""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import median
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from account import cores_tables, processes, study_tables, whole_table
from figures import draw_peers, draw_scaling
from realism import SIMULATED
from shapes import GENOME_WIDE, SIZES, Shape
from summary import Spread, exponent, peer_rows, read, select, skipped, sweep_points

HERE = Path(__file__).resolve().parent
TOPICS = (
    *(f"peers-{size}" for size in SIZES),
    "benchmark",
    "kernel",
    "agreement",
    "scaling",
    "benchmark-before",
    "cores",
    "study",
    "realism",
    "intervals",
    "nominal",
    GENOME_WIDE.name,
)


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--page", type=Path, default=HERE / "README.md")
    arguments = parser.parse_args()
    figures = arguments.page.parent / "figures"
    peers = _peers(arguments.results)
    scaling = _scaling(arguments.results)
    if peers:
        draw_peers({peer["title"]: peer["rows"] for peer in peers}, figures / "peers.svg")
    if scaling and scaling["sweeps"].get("cells"):
        draw_scaling(scaling["sweeps"]["cells"]["points"], figures / "scaling.svg")
    environment = Environment(
        loader=FileSystemLoader(HERE),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    page = environment.get_template("page.md.j2").render(
        about=_about(arguments.results),
        peers=peers,
        whole=_whole(arguments.results),
        cores=cores_tables(read(arguments.results, "cores")["runs"]),
        studies=study_tables(read(arguments.results, "study")["runs"]),
        kernel=_kernel(arguments.results),
        agreement=read(arguments.results, "agreement")["runs"],
        scaling=scaling,
        realism=_realism(arguments.results),
        intervals=read(arguments.results, "intervals")["runs"],
        nominal=read(arguments.results, "nominal")["runs"],
        genome_wide=_genome_wide(arguments.results),
    )
    arguments.page.write_text(page)
    print(f"wrote {arguments.page}")


def _about(results: Path) -> list[dict[str, Any]]:
    """Machine, versions and commits of every topic that has runs, equal ones together."""
    found: list[dict[str, Any]] = []
    for topic in TOPICS:
        content = read(results, topic)
        if not content["runs"]:
            continue
        part = {name: content[name] for name in ("machine", "versions", "peer_versions")}
        part["commits"] = sorted({run["commit"] for run in content["runs"]})
        same = [other for other in found if all(other[name] == part[name] for name in part)]
        if same:
            same[0]["topics"].append(topic)
        else:
            found.append({**part, "topics": [topic]})
    return found


def _peers(results: Path) -> list[dict[str, Any]]:
    found = []
    for size, shape in SIZES.items():
        runs = read(results, f"peers-{size}")["runs"]
        rows = peer_rows(runs)
        if rows:
            title = f"{size}: {shape}"
            found.append({"title": title, "rows": rows, "skipped": skipped(runs)})
    return found


def _whole(results: Path) -> dict[str, Any]:
    """Sizes with their whole processes, and rows of stages and methods over the sizes."""
    found = {}
    for size, shape in SIZES.items():
        for topic, title in (("benchmark-before", f"{size} before"), ("benchmark", size)):
            runs = select(read(results, topic)["runs"], {"size": size})
            if runs:
                found[title] = str(shape), runs
    return {
        "sizes": {title: (shape, processes(runs)) for title, (shape, runs) in found.items()},
        "rows": whole_table({title: runs for title, (_, runs) in found.items()}),
    }


def _kernel(results: Path) -> list[dict[str, Any]]:
    rows = []
    for run in read(results, "kernel")["runs"]:
        ours, theirs = run["cpu"]["pertscale"], run["cpu"]["illico"]
        tests = run["perturbations"] * run["genes"]
        rows.append(
            {
                **run,
                "name": run["key"]["shape"],
                "density": run["n_nonzero"] / run["genes"] / run["cells"],
                "ns": median(ours) / run["n_nonzero"] * 1e9,
                "illico_ns": median(theirs) / run["n_nonzero"] * 1e9,
                "us": median(ours) / tests * 1e6,
                "illico_us": median(theirs) / tests * 1e6,
                "ratio": Spread.of([b / a for a, b in zip(ours, theirs, strict=True)]),
            }
        )
    return rows


def _scaling(results: Path) -> dict[str, Any]:
    runs = read(results, "scaling")["runs"]
    if not runs:
        return {}
    sweeps = {}
    for what in ("cells", "perturbations", "genes", "umi_per_cell"):
        points = {kind: sweep_points(runs, what, kind) for kind in ("ingest", "labels")}
        if points["labels"]:
            shape = Shape(**select(runs, {"sweep": what})[0]["shape"])
            rest = {n: v for n, v in vars(shape).items() if n not in (what, "name") and v}
            fits = {
                kind: {name: exponent(some, name) for name in ("wall", "call", "cpu")}
                for kind, some in points.items()
            }
            sweeps[what] = {"points": points, "fits": fits, "rest": rest}
    return {"sweeps": sweeps, "parallel": _parallel(runs)}


def _parallel(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Threads, workers and the two ways to run the tiles: wall, CPU, peak of each value."""
    found: dict[str, Any] = {}
    for sweep, stage in (("threads", "call"), ("workers", "call"), ("dask", "map")):
        some = select(runs, {"sweep": sweep})
        values = dict.fromkeys(run["key"]["value"] for run in some)
        found[sweep] = [_parallel_row(select(some, {"value": v}), v, stage) for v in values]
        if some:
            found["shape"] = str(Shape(**some[0]["shape"]))
    return found


def _parallel_row(runs: list[dict[str, Any]], value: Any, stage: str) -> dict[str, Any]:
    peaks = [max([run["peak_bytes"], *run["said"].get("worker_peak_bytes", [])]) for run in runs]
    return {
        "value": value,
        "wall": Spread.of([run["wall"] for run in runs]),
        "cpu": Spread.of([run["cpu"] for run in runs]),
        "stage": Spread.of([run["said"]["stages"][stage]["wall"] for run in runs]),
        "stage_cpu": Spread.of([run["said"]["stages"][stage]["cpu"] for run in runs]),
        "peak_gb": Spread.of([peak / 1e9 for peak in peaks]),
        "tiles": runs[0]["said"].get("tiles"),
    }


def _realism(results: Path) -> dict[str, Any]:
    """Screens with their cells, the simulated one last, and rows of figures."""
    runs = read(results, "realism")["runs"]
    if not runs:
        return {}
    runs = sorted(runs, key=lambda run: run["key"]["screen"] == SIMULATED)  # a stable sort
    rows = {name: [run["figures"][name] for run in runs] for name in runs[0]["figures"]}
    return {"screens": [(run["key"]["screen"], run["n_cells"]) for run in runs], "rows": rows}


def _genome_wide(results: Path) -> list[dict[str, Any]]:
    found = []
    runs = read(results, GENOME_WIDE.name)["runs"]
    for name in dict.fromkeys(run["key"]["shape"] for run in runs):
        for what in ("ingest", "labels"):
            some = select(runs, {"shape": name, "what": what})
            if some:
                row = {"what": what, "shape": str(Shape(**some[0]["shape"])), "n": len(some)}
                row["wall"] = Spread.of([run["wall"] for run in some])
                row["cpu"] = Spread.of([run["cpu"] for run in some])
                row["peak_gb"] = Spread.of([run["peak_bytes"] / 1e9 for run in some])
                found.append(row)
    return found


if __name__ == "__main__":
    main()
