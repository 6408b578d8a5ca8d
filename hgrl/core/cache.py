"""Fingerprints of all that makes a result, and scores stored under them: what is there is not made again."""

import ast
import hashlib
import json
from pathlib import Path
from typing import Any

from hgrl.core.errors import InputError
from hgrl.core.files import read_json, write_json

PACKAGE = Path(__file__).parents[1]
# Modules that bring a result about and have no say in its numbers; settings count by their values.
PLUMBING = {
    *(
        "cache",
        "checkpoint",
        "device",
        "errors",
        "experiment",
        "files",
        "interruption",
        "left_out",
        "loading",
    ),
    *("data_settings", "notebook", "paths", "pipeline", "processes", "progress", "results", "settings"),
}


def fingerprint(*parts: Any) -> str:
    """A short hash of JSON-able values and of files' contents (Paths; a missing file counts as such)."""
    digest = hashlib.sha256()
    for part in parts:
        content = _digest(part) if isinstance(part, Path) else json.dumps(part, sort_keys=True, default=str)
        digest.update(content.encode() + b"\0")
    return digest.hexdigest()[:16]


def code_fingerprint(*modules: str, without: tuple[str, ...] = ()) -> str:
    """A hash of what modules of this package compute, with all that they import from it.

    It is taken of syntax trees: an edit of layout, comments or docstrings changes nothing. without: modules
    and packages that are not followed, because what they do reaches the result by a file that counts."""
    found = imported_modules(*modules, without=without)
    return fingerprint([(name, _syntax(found[name])) for name in sorted(found)])


def imported_modules(*modules: str, without: tuple[str, ...] = ()) -> dict[str, Path]:
    """The files of `modules` and of all that they import from this package, by module; no plumbing."""
    found: dict[str, Path] = {}
    ignored = (*(f"hgrl.core.{name}" for name in PLUMBING), *without)
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = _file(name)
            waiting += [other for other in _imports(found[name]) if not _is_among(other, ignored)]
    return found


def _is_among(name: str, packages: tuple[str, ...]) -> bool:
    return any(f"{name}.".startswith(f"{package}.") for package in packages)


def _file(name: str) -> Path:
    path = PACKAGE.joinpath(*name.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _imports(file: Path) -> list[str]:
    """The modules of this package that a file imports from, at its top or anywhere else in it."""
    names = []
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names += [name if _file(name).exists() else node.module for name in inner]
    return [name for name in names if name.startswith("hgrl.")]


def _syntax(file: Path) -> str:
    """The syntax tree as text, without docstrings and line numbers."""
    tree = ast.parse(file.read_bytes())
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and ast.get_docstring(node) is not None
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.dump(tree)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "missing"


def store_scores(path: Path, mark: str, scores: Any, beside: Path | None = None) -> None:
    """Write scores with the fingerprint `mark` of what made them, and a checksum of their own.

    beside: a file, written before, that belongs to them and whose content counts."""
    kept = {"fingerprint": mark, "scores": scores, "checksum": fingerprint(scores)}
    write_json(path, kept | ({"beside": fingerprint(beside)} if beside else {}))


def stored_scores(path: Path, mark: str | None, beside: Path | None = None) -> Any | None:
    """What `store_scores` wrote under just this mark (None: any mark).

    None where nothing is there, where it was edited or damaged, and where the file beside it is another."""
    try:
        found = read_json(path)
    except InputError:
        return None
    if not isinstance(found, dict) or "scores" not in found or mark not in (None, found.get("fingerprint")):
        return None
    if found.get("checksum") != fingerprint(found["scores"]):
        return None
    if beside and not (beside.is_file() and found.get("beside") == fingerprint(beside)):
        return None
    return found["scores"]
