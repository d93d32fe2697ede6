"""What the package says in Python's words is said in the shell's on a command line."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

import pertscale as ps
from pertscale.cli import main
from pertscale.cli_words import in_words_of_the_shell

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
        (RUN, "memory='2GB' or fdr=0.05, min_cells=3.",
         "--memory 2GB or --fdr 0.05, --min-cells 3."),
        (RUN, "pass scale='counts'", "pass --scale counts of `pertscale ingest`"),
        (CHECK, "pertscale.run_benchmark(store, out=...) makes one",
         "`pertscale run STORE --out …` makes one"),
        (RUN, "make one with pertscale.io.ingest('my k.h5ad', 'k.zarr')",
         "make one with `pertscale ingest 'my k.h5ad' k.zarr`"),
        (RUN, "a URL s3://b/k?out=1 and x==y stay", "a URL s3://b/k?out=1 and x==y stay"),
        (RUN, "no argument is named: a=b, 5 = 5", "no argument is named: a=b, 5 = 5"),
    ],
)  # fmt: skip
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


@pytest.mark.parametrize("command", ["run", "plan", "score"])
def test_help_says_what_names_stand_for(command):
    text = CliRunner().invoke(main, [command, "--help"]).output
    for name in (*ps.baselines.METHODS, *ps.baselines.EXPRESSION_MODELS, *ps.evaluation.METRICS):
        assert f"  {name} " in text or f"  {name}\n" in text
    assert "unchanged" in text
    assert "target genes left out" in text
