"""Messages of the package in the words of the shell: options as they are typed there.

The package says what to pass in Python's terms (``pass overwrite=True``); somebody who typed a
command has to type ``--overwrite``. One place does it for all messages, from the options that the
commands have.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import Final

import click

#: A value: a quoted text, a list of these, a word or number; or none.
_TEXT: Final = r"'[^']*'|\"[^\"]*\""
_VALUE: Final = (
    rf"{_TEXT}|\[(?:(?:{_TEXT})(?:, )?)*\]|True\b|False\b|None\b|-?[\w+-]+(?:\.\w+)*|\.\.\.|"
)
#: Functions that a command stands for.
_COMMANDS: Final = {
    "io.ingest": "ingest",
    "io.check": "check",
    "run_benchmark": "run",
    "plan_benchmark": "plan",
    "audit_screen": "audit-metrics",
    "stats.rank_sum": "labels",
    "simulate_screen": "simulate",
}


def in_words_of_the_shell(
    message: str, command: click.Command, others: Sequence[click.Command]
) -> str:
    """Return a message with the arguments that it names as options.

    Parameters
    ----------
    message : str
    command : Command
        The one that was typed; its options come first.
    others : sequence of Command
        Commands whose options are said with their name, as what was asked for may lie there.
    """
    message = _calls(message, {one.name: one for one in (*others, command)})
    for one, of in ((command, ""), *((c, f" of `pertscale {c.name}`") for c in others)):
        message = _arguments(message, options_of(one), of)
    return message


def options_of(command: click.Command) -> dict[str, click.Option]:
    """Return the options of a command by the argument of Python that each is passed as."""
    found = {p.name: p for p in command.params if isinstance(p, click.Option) and p.name}
    if "include_test_perturbations" in found:
        found["exclude_test_perturbations"] = found["include_test_perturbations"]
    return found


def _calls(message: str, commands: dict[str | None, click.Command]) -> str:
    """Rewrite calls such as ``pertscale.io.ingest('k.h5ad', 'k.zarr', scale='counts')``."""

    def rewrite(found: re.Match[str]) -> str:
        command = commands.get(_COMMANDS.get(found[1], ""))
        if command is None:
            return found[0]
        words = [f"pertscale {command.name}"]
        for argument in filter(None, found[2].split(", ")):
            name, mark, value = argument.partition("=")
            if not mark:
                words.append(_plain(argument))
            elif name in options_of(command):
                words.append(_option(options_of(command)[name], value))
        return f"`{' '.join(words)}`"

    return re.sub(r"pertscale\.([a-z_.]+)\(([^()]*)\)", rewrite, message)


def _arguments(message: str, options: dict[str, click.Option], of: str) -> str:
    names = "|".join(map(re.escape, options))
    if not names:
        return message

    def rewrite(found: re.Match[str]) -> str:
        return _option(options[found[1]], found[2]) + of

    return re.sub(rf"(?<![\w.`?&-])({names})=({_VALUE})(?!=)", rewrite, message)


def _option(option: click.Option, value: str) -> str:
    """Write an option with its value; a list as an option for each."""
    typed = max(option.opts, key=len)
    if option.is_flag:
        off = {"True": "False", "False": "True"} if "include" in typed else {}
        return typed if off.get(value, value) != "False" else f"no {typed}"
    values = re.findall(_TEXT, value) if value.startswith("[") else [value]
    return " ".join(f"{typed} {_plain(one)}".rstrip() for one in values) or typed


def _plain(value: str) -> str:
    """Write a value as a shell takes it."""
    if value in ("", "...", "None"):
        return "" if value != "..." else "…"
    if value[0] in "'\"" and value[-1] == value[0]:
        return shlex.quote(value[1:-1])
    return value.upper() if value in ("store", "path", "source") else value
