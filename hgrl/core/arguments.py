"""Command-line arguments, described before there is a parser to add them to."""

from pathlib import Path
from typing import Any

Argument = tuple[tuple[str, ...], dict[str, Any]]  # what argparse's `add_argument` takes


def arg(*flags: str, help: str = "", **options: Any) -> Argument:
    return flags, {"help": help, **options}


def path(*flags: str, help: str = "", **options: Any) -> Argument:
    return arg(*flags, help=help, type=Path, **options)


def number(flag: str, default: int | None = None, help: str = "") -> Argument:
    return arg(flag, type=int, default=default, help=help)


def switch(flag: str, help: str) -> Argument:
    return arg(flag, action="store_true", help=help)
