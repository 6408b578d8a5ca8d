"""Progress bars that reach the reader: in a terminal, in a notebook, and line by line in a log."""

import os
import sys
from collections.abc import Iterable
from typing import Any

from tqdm.auto import tqdm as notebook_or_terminal
from tqdm.std import tqdm as terminal

PLAIN = "HGRL_PLAIN_BARS"  # environment of a kernel without a reader: bars are text on its stderr
SECONDS_PER_LINE = 10  # at most so often where nobody watches


def bar(
    iterable: Iterable | None = None, desc: str = "", total: int | None = None, **options: Any
) -> terminal:
    """A tqdm bar over `iterable`, or one to `update()` by hand towards `total`."""
    options = {"desc": desc, "total": total, "dynamic_ncols": True, "smoothing": 0.05, **options}
    if PLAIN not in os.environ and _is_watched():
        return notebook_or_terminal(iterable, **options)
    return terminal(iterable, mininterval=SECONDS_PER_LINE, maxinterval=SECONDS_PER_LINE, **options)


def _is_watched() -> bool:
    """In a terminal, or in a notebook that somebody has opened: its kernel has no terminal of its own."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules
