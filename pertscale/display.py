"""How objects look in a notebook: cards of facts, small tables and bars, in one style.

Everything that is not :class:`markupsafe.Markup` is escaped. Colours are translucent or follow the
surrounding text, so a card is readable on light and dark pages; where a page strips the style
sheet, plain headings and tables remain.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from markupsafe import Markup, escape

#: Colours of the bars' parts: the classes, and what is neutral or stands out.
COLORS: Final = {
    "down": "#0072b2",
    "non_de": "rgb(128 128 128 / .28)",
    "up": "#d55e00",
    "main": "#3b8bc4",
    "second": "#e69f00",
    "third": "#009e73",
}

_STYLE: Final = Markup(
    """<style>
.pertscale-card { color: var(--jp-content-font-color0, var(--vscode-editor-foreground, inherit));
  font: 13px/1.45 system-ui, "Helvetica Neue", Arial, sans-serif; max-width: 900px;
  border: 1px solid rgb(128 128 128 / .35); border-radius: 6px; padding: .55em .9em .7em;
  margin: .3em 0; overflow-x: auto; }
.pertscale-card header { border-bottom: 1px solid rgb(128 128 128 / .35); padding-bottom: .3em;
  margin-bottom: .45em; overflow-wrap: anywhere; }
.pertscale-card header i { font-style: normal; opacity: .65; margin-right: .5em; }
.pertscale-card header strong { font-size: 1.08em; }
.pertscale-card p { margin: .3em 0; overflow-wrap: anywhere; }
.pertscale-card ul { margin: .2em 0; padding-left: 1.3em; overflow-wrap: anywhere; }
.pertscale-card a { color: var(--jp-content-link-color, #3b8bc4); }
.pertscale-card table { border-collapse: collapse; border: 0; margin: .35em 0; table-layout: auto;
  font-size: 1em; color: inherit; font-variant-numeric: tabular-nums; background: none; }
.pertscale-card table tr, .pertscale-card table tbody tr:nth-child(n),
.pertscale-card table tbody tr:hover { background: none; border: 0; }
.pertscale-card table th, .pertscale-card table td { padding: .1em 1.2em .1em 0; border: 0;
  text-align: left !important; vertical-align: middle; font-weight: normal; max-width: 42em;
  overflow-wrap: anywhere; white-space: normal; background: none; color: inherit; }
.pertscale-card table.n td + td, .pertscale-card table.n th + th { text-align: right !important; }
.pertscale-card table.n td.t, .pertscale-card table.n th.t { text-align: left !important; }
.pertscale-card thead th, .pertscale-card table.facts th { opacity: .65; }
.pertscale-card table.facts th { vertical-align: top; white-space: nowrap; }
.pertscale-card table strong { font-weight: 700; }
.pertscale-card details { margin: .25em 0; }
.pertscale-card summary { cursor: pointer; display: list-item; opacity: .85; }
.pertscale-card .bar { display: inline-flex; height: .8em; width: 13em; vertical-align: -.06em;
  border-radius: 2px; overflow: hidden; }
.pertscale-card .bar span { min-width: 2px; }
</style>"""
)


def card(kind: str, name: object, *parts: str) -> str:
    """Return a card as HTML.

    Parameters
    ----------
    kind
        What the object is.
    name
        Its name, from data.
    *parts
        What the functions of this module return; text is escaped.
    """
    head = Markup("<header><i>{}</i><strong>{}</strong></header>").format(kind, name)
    body = Markup("\n").join(part for part in parts if part)
    # plain text: a caller that adds to it does not expect escapes
    return str(Markup('<div class="pertscale-card">{}{}\n{}</div>').format(_STYLE, head, body))


def line(*parts: object) -> Markup:
    """Return a paragraph."""
    return Markup("<p>{}</p>").format(Markup("").join(map(escape, parts)))


def facts(items: Mapping[str, object]) -> Markup:
    """Return names and values below each other; values of None or '' are left out."""
    rows = [
        Markup("<tr><th>{}</th><td>{}</td></tr>").format(name, value)
        for name, value in items.items()
        if value is not None and value != ""
    ]
    if not rows:
        return Markup("")
    return Markup('<table class="facts"><tbody>{}</tbody></table>').format(Markup("").join(rows))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, text: int = 1) -> Markup:
    """Return a small table, its first `text` columns left-aligned and the others right-aligned."""

    def cells(tag: str, values: Sequence[object]) -> Markup:
        made = [
            Markup("<{0}{1}>{2}</{0}>").format(
                Markup(tag), Markup(' class="t"') if i < text or _is_bar(value) else "", value
            )
            for i, value in enumerate(values)
        ]
        return Markup("<tr>{}</tr>").format(Markup("").join(made))

    return Markup('<table class="n"><thead>{}</thead><tbody>{}</tbody></table>').format(
        cells("th", columns), Markup("").join(cells("td", row) for row in rows)
    )


def _is_bar(value: object) -> bool:
    return isinstance(value, Markup) and value.startswith('<span class="bar"')


def bar(parts: Mapping[str, float], *, whole: float | None = None) -> Markup:
    """Return a stacked bar: name of a colour in :data:`COLORS` → size.

    Parameters
    ----------
    parts
        Sizes, in their order; what is zero or not a number is left out.
    whole
        Size of a full bar; by default the sum of the parts.
    """
    sizes = {name: float(size) for name, size in parts.items() if size > 0}
    full = whole if whole is not None else sum(sizes.values())
    if not sizes or not full > 0:
        return Markup('<span class="bar"></span>')
    spans = [
        Markup('<span style="width:{}%;background:{}" title="{}"></span>').format(
            f"{100 * size / full:.2f}", COLORS[name], f"{name}: {100 * size / full:.2f} %"
        )
        for name, size in sizes.items()
    ]
    return Markup('<span class="bar">{}</span>').format(Markup("").join(spans))


def legend(names: Mapping[str, str]) -> Markup:
    """Return what the colours of a bar mean: name of a colour → text."""
    items = [
        Markup('<span style="color:{}">■</span> {}').format(COLORS[name], text)
        for name, text in names.items()
    ]
    return Markup("&ensp;").join(items)


def details(summary: str, *parts: str, is_open: bool = False) -> Markup:
    """Return a part that opens on a click."""
    body = Markup("").join(parts)
    return Markup("<details{}><summary>{}</summary>{}</details>").format(
        Markup(" open") if is_open else "", summary, body
    )


def bullets(lines: Iterable[object]) -> Markup:
    """Return a list."""
    items = [Markup("<li>{}</li>").format(one) for one in lines]
    return Markup("<ul>{}</ul>").format(Markup("").join(items))


def first_few(names: Sequence[str], n: int = 6) -> str:
    """Return the first names, and how many more there are."""
    more = f", … ({len(names):,} in all)" if len(names) > n else ""
    return ", ".join(map(str, names[:n])) + more


def n_bytes(size: float) -> str:
    """Return a number of bytes in the unit that fits."""
    for factor, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size:.0f} bytes"


def shown_path(path: object) -> str:
    """Return a path as it is written from the current folder, where it is below that; or a URL."""
    if not isinstance(path, str | os.PathLike) or "://" in str(path):
        return str(path)
    try:
        return Path(path).absolute().relative_to(Path.cwd()).as_posix()
    except (ValueError, OSError):  # elsewhere, or the current folder is gone
        return str(path)


def link(path: object, text: Any) -> Markup:
    """Return a link to a file below the current folder, where notebooks can follow it.

    Elsewhere browsers refuse to: then it is the path.
    """
    where = shown_path(path)
    if Path(where).is_absolute() or "://" in where:
        return Markup("{}: {}").format(text, where)
    return Markup('<a href="./{}" target="_blank">{}</a>').format(quote(where), text)
