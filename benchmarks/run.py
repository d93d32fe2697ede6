"""Measures pertscale against other tools, and how it scales. ``python run.py --help``.

Everything that is finished is in ``results/`` and is not run again, so an interrupted call goes
on where it was. ``render.py`` makes README.md of the results.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from against_peers import PEERS, compare
from agreement import agree
from cores import measure_cores
from environment import peer_python
from intervals import measure_intervals
from kernels import compare_kernels
from nominal import measure_nominal
from realism import compare_realism
from scaling import genome_wide, scale
from session import Session
from shapes import CORES, GENOME_WIDE, SIZES, STUDY, resized
from study import measure_study
from whole import measure_whole

HERE = Path(__file__).resolve().parent
PARTS = ("agreement", "kernel", "peers", "benchmark", "scaling", "realism")
#: Parts that need the other tools.
OF_PEERS = {"agreement", "kernel", "peers"}
#: Parts that run the whole benchmark.
WHOLE = {"benchmark", "cores", "study"}
#: Parts that are run only where they are named.
LARGE_PARTS = ("cores", "study", "genome-wide", "intervals", "nominal")


def main() -> None:
    """Run the parts that were asked for, cheap ones first."""
    arguments = _parse()
    wanted = arguments.only or PARTS
    sizes = {name: getattr(arguments, name) for name in ("cells", "genes", "perturbations")}
    names = [] if arguments.peers == ["none"] else arguments.peers
    session = _session(arguments, with_peers=bool(names) and not OF_PEERS.isdisjoint(wanted))
    session.warm_up()
    if not WHOLE.isdisjoint(wanted):
        session.warm_up_benchmark()
    if "agreement" in wanted:
        agree(session)
    if "kernel" in wanted and names:
        compare_kernels(session)
    if "peers" in wanted:
        for size in arguments.size:
            compare(session, SIZES[size], names)
    if "benchmark" in wanted:
        for size in arguments.size:
            measure_whole(session, SIZES[size])
    if "scaling" in wanted:
        scale(session)
    if "realism" in wanted:
        compare_realism(session, arguments.screens)
    if "cores" in wanted:
        measure_cores(session, resized(CORES, **sizes))
    if "study" in wanted:
        measure_study(session, resized(STUDY, **sizes))
    if "genome-wide" in wanted:
        genome_wide(session, resized(GENOME_WIDE, **sizes))
    if "intervals" in wanted:
        measure_intervals(session)
    if "nominal" in wanted:
        measure_nominal(session)
    print(f"done; python {Path(__file__).with_name('render.py').name} makes the page")


def _session(arguments: argparse.Namespace, *, with_peers: bool) -> Session:
    work = arguments.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    python = None
    if with_peers:
        python = arguments.peer_python or peer_python(work)
    return Session(
        work=work,
        results=arguments.results,
        repeats=arguments.repeats,
        threads=arguments.threads,
        budget=arguments.budget,
        again=arguments.again,
        peers_python=python,
        max_cells=arguments.max_cells,
    )


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add(
        "--only",
        choices=(*PARTS, *LARGE_PARTS),
        nargs="+",
        help=f"parts to run [default: all but {', '.join(LARGE_PARTS)}]",
    )
    add(
        "--size",
        choices=SIZES,
        nargs="+",
        default=["S", "M", "L"],
        help="screens for the peers and the whole benchmark [default: S M L]",
    )
    add(
        "--peers",
        choices=[*PEERS, "none"],
        nargs="+",
        default=list(PEERS),
        help="tools to compare with [default: all]",
    )
    add("--repeats", type=int, help="rounds [default: 3; of cores and study 1]")
    add("--threads", type=int, default=2, help="threads of every tool [default: 2]")
    add(
        "--budget",
        type=float,
        default=60.0,
        help="seconds of testing for tools that would take hours [default: 60]",
    )
    add(
        "--max-cells",
        type=int,
        default=400_000,
        help="where the sweep over cells ends, at most 1,000,000 [default: 400,000]",
    )
    for name in ("cells", "genes", "perturbations"):
        add(f"--{name}", type=int, help=f"other {name} of the screens of {', '.join(LARGE_PARTS)}")
    add(
        "--screens",
        type=Path,
        nargs="*",
        default=[],
        help="files of real screens, beside which a simulated one is put",
    )
    add(
        "--work",
        type=Path,
        default=Path("benchmark-work"),
        help="folder for screens and the peers' environment [default: benchmark-work]",
    )
    add("--results", type=Path, default=HERE / "results", help="folder for the results")
    add("--peer-python", help="interpreter that has the peers, instead of a new environment")
    add("--again", action="store_true", help="measure anew what is in the results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
