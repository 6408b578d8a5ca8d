"""Tables in Markdown."""

from collections.abc import Sequence
from typing import Any

from tabulate import tabulate


def markdown_table(rows: Sequence[Any], headers: str | Sequence[str] = "keys") -> str:
    """A table in GitHub's Markdown, every cell as it is; "keys": rows are dicts. No newline at its end."""
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)
