"""What the package says in Python's words is said in the shell's on a command line."""

from __future__ import annotations

import sys
import warnings
from itertools import pairwise

import pytest
from click.testing import CliRunner

import pertscale as ps
from pertscale.cli import _in_words, main
from pertscale.cli_words import in_words_of_the_shell
from tests.support.screens import screen_of

INGEST, RUN, CHECK = (main.commands[name] for name in ("ingest", "run", "check"))


@pytest.mark.parametrize(
    ("command", "said", "typed"),
    [
        (INGEST, "k.zarr exists; pass overwrite=True", "k.zarr exists; pass --overwrite"),
        (INGEST, "pass control='NT' (or several)", "pass --control NT (or several)"),
        (INGEST, "pass control=['a b', \"c\"].", "pass --control 'a b' --control c."),
        (INGEST, "Pass perturbation= with the column", "Pass --perturbation with the column"),
        (INGEST, "gene_name='x': none", "--gene-name x: none"),
        (RUN, "pass a list: tasks=['within']", "pass a list: --task within"),
        (RUN, "exclude_test_perturbations=False keeps", "--include-test-perturbations keeps"),
        (RUN, "client= takes one", "--scheduler takes one"),
        (
            RUN,
            "memory='2GB' or fdr=0.05, min_cells=3.",
            "--memory 2GB or --fdr 0.05, --min-cells 3.",
        ),
        (RUN, "pass scale='counts'", "pass --scale counts of `pertscale ingest`"),
        (
            CHECK,
            "pertscale.run_benchmark(store, out=...) makes one",
            "`pertscale run STORE --out …` makes one",
        ),
        (
            RUN,
            "make one with pertscale.io.ingest('my k.h5ad', 'k.zarr')",
            "make one with `pertscale ingest 'my k.h5ad' k.zarr`",
        ),
        (RUN, "a URL s3://b/k?out=1 and x==y stay", "a URL s3://b/k?out=1 and x==y stay"),
        (RUN, "no argument is named: a=b, 5 = 5", "no argument is named: a=b, 5 = 5"),
    ],
)
def test_arguments_become_options(command, said, typed):
    others = [c for c in (INGEST, RUN) if c is not command]
    assert in_words_of_the_shell(said, command, others) == typed


def test_errors_of_a_command_name_its_options(example, tmp_path):
    store = tmp_path / "s.zarr"
    store.mkdir()
    (store / "notes.txt").write_text("mine")
    told = CliRunner().invoke(main, ["ingest", str(example.source), str(store)])
    assert told.exit_code == 1
    assert "--overwrite" in told.output
    assert "overwrite=True" not in told.output


def test_sentences_of_a_result_name_options(tmp_path):
    genes = [f"GENE{i}" for i in range(12)]
    doubles = [f"{a}+{b}" for a, b in pairwise(genes[:9])]
    labels = ["ctrl"] * 20 + [name for name in (*genes[:8], *doubles) for _ in range(12)]
    screen = screen_of(tmp_path, labels, genes)
    told = CliRunner().invoke(
        main,
        [
            "run",
            str(screen.path),
            "--out",
            str(tmp_path / "r"),
            "--method",
            "all_non_de",
            "--task",
            "within",
            "--seed",
            "1",
            "--quiet",
        ],
    )
    assert told.exit_code == 0, told.output
    assert "; --gene-disjoint draws splits without." in told.stdout
    assert "gene_disjoint=True" not in told.output
    assert "gene_disjoint=True" in " ".join(ps.read_result(tmp_path / "r").findings)


def test_options_of_a_command_in_a_group_are_its_own():
    with main.make_context("pertscale", ["models", "run", "m.toml"]) as context:
        context.invoked_subcommand = "models"
        assert _in_words(context, "pass split= or tasks=['single']") == (
            "pass --split or --task single"
        )


def test_warnings_are_lines_that_name_options(monkeypatch, tmp_path):
    def check(*_, **__):
        warnings.warn("pass scale='counts'", ps.errors.PertscaleWarning, stacklevel=1)
        warnings.warn("pass scale='counts' to me", UserWarning, stacklevel=1)
        return "done"

    monkeypatch.setattr(ps.io, "check", check)
    # click's runner can't see what pytest takes for itself
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "_showwarnmsg_impl", _print_warning)
        told = CliRunner().invoke(main, ["check", "k.h5ad"])
    lines = told.stderr.splitlines()
    assert lines[0] == "pertscale: pass --scale counts"
    assert "UserWarning: pass scale='counts' to me" in lines[1]  # of another library: as it is


def _print_warning(message):
    text = warnings.formatwarning(
        message.message, message.category, message.filename, message.lineno, message.line
    )
    print(text, file=sys.stderr, end="")


@pytest.mark.parametrize("command", ["run", "plan", "score"])
def test_help_says_what_names_stand_for(command):
    text = CliRunner().invoke(main, [command, "--help"]).output
    for name in (*ps.baselines.METHODS, *ps.baselines.EXPRESSION_MODELS, *ps.evaluation.METRICS):
        assert f"  {name} " in text or f"  {name}\n" in text
    assert "unchanged" in text
    assert "target genes left out" in text
