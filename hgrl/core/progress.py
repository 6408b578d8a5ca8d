"""Progress bars that reach the reader: in a terminal, in a notebook, and through papermill."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, TextIO

from tqdm.auto import tqdm as notebook_or_terminal
from tqdm.std import tqdm as terminal

# a terminal or log to write bars to; set by `python -m hgrl notebook` for the kernel it starts
STREAM = "HGRL_PROGRESS"


class _Forgiving:
    """A text stream that may vanish while it is written to: the work matters more than its bar."""

    def __init__(self, file: TextIO) -> None:
        self.file, self.encoding, self.fileno, self.isatty = file, file.encoding, file.fileno, file.isatty

    def write(self, text: str) -> None:
        with suppress(OSError, ValueError):
            self.file.write(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self.file.flush()


def terminal_name() -> str | None:
    """Where a child process of this one can write to this one's stderr, or None where that cannot be named."""
    if sys.stderr.isatty():
        return os.ttyname(sys.stderr.fileno())
    stream = f"/proc/{os.getpid()}/fd/2"
    return stream if os.path.exists(stream) else None


def bar(
    iterable: Iterable | None = None, desc: str = "", total: int | None = None, **options: Any
) -> terminal:
    """A tqdm bar over `iterable`, or one to `update()` by hand towards `total`."""
    options = {"desc": desc, "total": total, "dynamic_ncols": True, "smoothing": 0.05, **options}
    stream = os.environ.get(STREAM)
    if stream is None:
        return notebook_or_terminal(iterable, **options)
    try:
        file = _Forgiving(open(stream, "a"))
    except OSError:  # the terminal has gone
        return notebook_or_terminal(iterable, **options)
    return terminal(iterable, file=file, mininterval=0.5 if file.isatty() else 20, **options)
