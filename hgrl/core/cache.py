"""Scores kept between calls, each with a fingerprint of all that made it: what is unchanged is read, not made
again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hgrl.core.errors import InputError
from hgrl.core.files import read_json, write_json
from hgrl.core.provenance import fingerprint


def keep(path: Path, mark: str, scores: Any, beside: Path | None = None) -> None:
    """Write scores under their fingerprint `mark`.

    beside: a file that was written before and belongs to them; its content's fingerprint goes with the
    scores.
    """
    write_json(
        path, {"fingerprint": mark, "scores": scores, **({"beside": fingerprint(beside)} if beside else {})}
    )


def kept(path: Path, mark: str | None, beside: Path | None = None) -> dict[str, Any] | None:
    """What `keep` wrote under just this mark (None: any); None where it is not there, is damaged, or lost the
    file beside it.
    """
    try:
        found = read_json(path)
    except InputError:
        return None
    if not isinstance(found, dict) or "scores" not in found or mark not in (None, found.get("fingerprint")):
        return None
    if beside and not (beside.is_file() and found.get("beside") == fingerprint(beside)):
        return None
    return found
