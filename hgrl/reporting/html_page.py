"""Self-contained HTML pages: a template of this folder, its style, escaped text; what is not ours is kept."""

import base64
import json
import os
import re
from html import escape
from pathlib import Path
from typing import Any

from hgrl.core.errors import InputError
from hgrl.core.files import write_text

HERE = Path(__file__).parent
STYLE = HERE / "page.css"
MARK = "<!doctype html>\n<!-- made by hgrl: "
END = "</html>\n"
NARROW = "\u00a0±\u00a0"  # no line breaks inside a score


def write_page(path: Path, template: str, origin: str, **parts: str) -> None:
    """Fill `{{name}}` in a template of this folder with `parts`, which are HTML, and write it, atomically.

    The page's own policy forbids every request. InputError where a file lies that `write_page` did not write;
    what is ours is replaced. origin: a fingerprint of what the page was made from."""
    is_page(path, origin)
    parts["style"] = STYLE.read_text()
    text = (HERE / template).read_text()
    filled = re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], text)  # once: parts may hold braces
    write_text(path, f"{MARK}{origin} -->\n{filled}")


def is_page(path: Path, origin: str) -> bool:
    """Whether a page is there, whole and made from `origin`. InputError for a foreign file or folder."""
    if not os.path.lexists(path):
        return False
    content = path.read_bytes() if path.is_file() else b""
    if not content.startswith(MARK.encode()):
        raise InputError(f"{path}: not a page that hgrl wrote, so left alone; move it or write elsewhere")
    return content.startswith(f"{MARK}{origin} ".encode()) and content.endswith(END.encode())


def as_json(content: Any) -> str:
    """JSON that may stand inside a script element: it cannot end it."""
    return json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def data_uri(content: bytes, kind: str) -> str:
    """kind: "jpeg" or "png"."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def table(rows: list[list[Any]], header: list[str], classes: dict[str, str] | None = None) -> str:
    """A table whose columns sort at a click. classes: CSS class of a cell with just this text."""
    heads = "".join(f'<th scope="col"><button>{escape(head)}</button></th>' for head in header)
    body = "".join(f"<tr>{''.join(_cell(cell, classes or {}) for cell in row)}</tr>\n" for row in rows)
    return f'<div class="wide"><table><thead><tr>{heads}</tr></thead>\n<tbody>{body}</tbody></table></div>'


def _cell(content: Any, classes: dict[str, str]) -> str:
    text = str(content)
    style = f' class="{classes[text]}"' if text in classes else ""
    return f"<td{style}>{escape(text).replace(' ± ', NARROW)}</td>"
