"""Progress of long work: a bar on a terminal or in a notebook, plain lines in a log."""

from __future__ import annotations

import importlib.util
import sys
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from types import TracebackType
from typing import Any

#: Translates lines before they are shown; the command line has its own words for arguments.
wording: ContextVar[Callable[[str], str]] = ContextVar("wording", default=str)
#: Seconds between two plain lines in a log.
LINE_EVERY = 30.0


def say(message: str, *, quiet: bool = False) -> None:
    """Print a line for the user, to where progress goes."""
    if not quiet:
        print(wording.get()(message), file=_stream(), flush=True)


def _stream() -> Any:
    """Return standard error; in a notebook standard output, since there the other is red."""
    return sys.stdout if _in_notebook() else sys.stderr


def _in_notebook() -> bool:
    shell = sys.modules.get("IPython")
    return shell is not None and type(shell.get_ipython()).__name__ == "ZMQInteractiveShell"


def duration(seconds: float) -> str:
    """Write a time as people do: '8 s', '2 min 5 s', '3 h 12 min'."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _bar_class() -> Any:
    """Return the widget in a notebook that can show it, elsewhere the bar of text."""
    if _in_notebook() and importlib.util.find_spec("ipywidgets") is not None:
        from tqdm.notebook import tqdm
    else:  # tqdm.auto would warn in every notebook without widgets
        from tqdm import tqdm
    return tqdm


class Progress:
    """Counts finished tasks of one piece of work; safe to call from several threads.

    Shows how many are done, how fast, and how long the rest will take.

    Parameters
    ----------
    label : str
        What is being done.
    total : int
        Number of tasks.
    quiet : bool
        Show nothing.
    """

    def __init__(self, label: str, *, total: int, quiet: bool = False) -> None:
        self.label = label
        self.total = total
        self.done = 0
        self._lock = threading.Lock()
        self._started = self._last_line = time.monotonic()
        self._bar: Any = None
        self._lines = False
        if quiet or total == 0:
            return
        if _in_notebook() or sys.stderr.isatty():
            self._bar = _bar_class()(total=total, desc=label, unit="task", file=_stream())
        else:
            self._lines = True

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self._lines and (kind is None or self.done):
            self._line()

    def advance(self, n: int = 1) -> None:
        """Count `n` more tasks as done."""
        with self._lock:
            self.done += n
            if self._bar is not None:
                self._bar.update(n)
            elif self._lines and time.monotonic() - self._last_line > LINE_EVERY:
                self._last_line = time.monotonic()
                self._line()

    def _line(self) -> None:
        seconds = time.monotonic() - self._started
        line = f"{self.label}: {self.done}/{self.total} in {duration(seconds)}"
        if 0 < self.done < self.total and seconds > 0:
            rate = self.done / seconds
            line += f", {rate:.3g}/s, {duration((self.total - self.done) / rate)} left"
        say(line)
