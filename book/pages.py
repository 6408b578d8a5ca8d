"""`make pages`: the executed notebooks as Markdown with small pictures, which code hosts show as they are."""

import argparse
import base64
import io
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from executed import Notebook, executed_notebook, without_live_parts
from PIL import Image

from hgrl.core import paths
from hgrl.core.errors import InputError
from hgrl.core.experiment import load_experiment
from hgrl.core.files import write_bytes, write_text
from hgrl.reporting.figures.compressed import smallest

FOLDER = paths.HOME / "notebooks" / "executed"
WIDTH, LINES = 900, 30  # pixels across a picture; lines of an output's text
FILM = 700_000  # bytes of an animation; a larger one is its first frame
LINK = re.compile(r"\]\((?!\w+:|#)([^)]+)\)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("profile", nargs="?", default="mini", help="one that draws its own scenes")
    parser.add_argument("--out", type=Path, default=FOLDER)
    options = parser.parse_args()
    experiment = load_experiment(options.profile)
    if experiment.settings.data.scenes is None:
        problem = "its notebooks show others' photographs, which are not ours to publish"
        raise SystemExit(f"profile {options.profile}: {problem}; choose one that draws its own scenes")
    for source in sorted((paths.HOME / "notebooks").glob("*.ipynb")):
        print(write_page(source.stem, executed_notebook(experiment, source.stem), options.out))


def write_page(name: str, notebook: Notebook, folder: Path) -> Path:
    """`<name>.md` and its pictures, in `<name>/`, in place of what was there. InputError if a cell failed."""
    head = f"*[{name}](../{name}.ipynb) as executed: text and pictures alone. `make pages` wrote this page.*"
    notebook, pictures = without_live_parts(notebook), {}
    parts = [head]
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(LINK.sub(_one_folder_deeper, cell.source))
        elif cell.source.strip():
            parts.append(_fenced(cell.source, "python"))
            for output in cell.outputs:
                parts += _shown(name, output, pictures)
    shutil.rmtree(folder / name, ignore_errors=True)
    for file, content in pictures.items():
        write_bytes(folder / name / file, content)
    write_text(folder / f"{name}.md", "\n\n".join(parts) + "\n")
    return folder / f"{name}.md"


def _one_folder_deeper(link: re.Match) -> str:
    target = link[1]
    beside = re.fullmatch(r"(\d\d_\w+)\.ipynb(#.*)?", target)
    return f"]({beside[1]}.md{beside[2] or ''})" if beside else f"](../{target})"


def _shown(name: str, output: Notebook, pictures: dict[str, bytes]) -> Iterator[str]:
    if output.output_type == "error":
        raise InputError(f"{name}: a cell failed ({output.ename}: {output.evalue}); no page is made of it")
    if output.output_type == "stream":
        yield _fenced(_cut(output.text), "text")
        return
    data = output.data
    kinds = [kind for kind in ("image/gif", "image/png", "image/jpeg") if kind in data]
    if kinds:
        kind, content = _small(base64.b64decode(data[kinds[0]]))
        file = f"{len(pictures) + 1}.{kind}"
        pictures[file] = content
        yield f"![Picture {len(pictures)} of this page]({name}/{file})"
    elif "text/markdown" in data:
        yield LINK.sub(_one_folder_deeper, data["text/markdown"])
    elif "<table" in data.get("text/html", ""):
        yield data["text/html"]
    elif "text/plain" in data:
        yield _fenced(_cut(data["text/plain"]), "text")


def _small(content: bytes) -> tuple[str, bytes]:
    """(Suffix, bytes) of a picture; a film stays one if it is short enough."""
    image = Image.open(io.BytesIO(content))
    if getattr(image, "is_animated", False) and len(content) <= FILM:
        return "gif", content
    return smallest(image, WIDTH)


def _fenced(text: str, language: str) -> str:
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text)), 3)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def _cut(text: str) -> str:
    lines = text.rstrip().splitlines()
    if len(lines) <= LINES:
        return "\n".join(lines)
    return "\n".join([*lines[: LINES // 2], f"... {len(lines) - LINES} lines ...", *lines[-LINES // 2 :]])


if __name__ == "__main__":
    main()
