"""`make book` and `make pages`: what becomes of a notebook; what is committed is small and of today."""

import base64
import importlib
import io
import re
import sys
from importlib.util import find_spec

import nbformat.v4 as nb
import numpy as np
import pytest
from PIL import Image
from test_readme import dead_links

from hgrl.core import paths
from hgrl.core.errors import InputError
from hgrl.core.experiment import load_experiment

EXECUTED = paths.HOME / "notebooks" / "executed"
CONTROL = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "FloatSlider()"}


@pytest.fixture
def book(monkeypatch):
    """A module of book/ by its name; they import one another as scripts do."""
    monkeypatch.syspath_prepend(str(paths.HOME / "book"))
    known = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - known:
        if str(paths.HOME / "book") in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def png(height, width):
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    Image.fromarray(noise).save(buffer, "png")
    return base64.b64encode(buffer.getvalue()).decode()


def gif(side, frames):
    noise = np.random.default_rng(0).integers(0, 256, (frames, side, side)).astype(np.uint8)
    first, *rest = map(Image.fromarray, noise)
    buffer = io.BytesIO()
    first.save(buffer, "gif", save_all=True, append_images=rest)
    return base64.b64encode(buffer.getvalue()).decode()


def shown(**data):
    return nb.new_output("display_data", {name.replace("_", "/"): value for name, value in data.items()})


def stream(text, name="stdout"):
    return nb.new_output("stream", text=text, name=name)


def notebook(*outputs, text="# Title"):
    injected = nb.new_code_cell("profile = 'x'", metadata={"tags": ["injected-parameters"]})
    cells = [nb.new_markdown_cell(text), injected, nb.new_code_cell("work()", outputs=[*outputs])]
    return nb.new_notebook(cells=cells)


def test_a_page_holds_text_code_and_what_was_shown(book, tmp_path):
    links = "[a](../docs/x.md) [b](02_sampling.ipynb#c) [d](https://e.org) [f](#g)"
    bars, said = stream("10%\r100%", "stderr"), stream("1\r2\r3 \x1b[31mred\x1b[0m\n4")
    table = nb.new_output("display_data", {"text/html": "<table></table>", "text/plain": "frame"})
    whole = notebook(bars, said, shown(image_png=png(30, 40), text_plain="<Figure>"), table, text=links)
    path = book("pages").write_page("01_x", whole, tmp_path)
    text = path.read_text()
    assert "[a](../../docs/x.md) [b](02_sampling.md#c) [d](https://e.org) [f](#g)" in text
    assert (
        "```python\nwork()\n```\n\n```text\n3 red\n4\n```\n\n![Picture 1" in text
        and "<table></table>" in text
    )
    assert not re.search("profile|100%|Figure|frame", text)
    (picture,) = (tmp_path / "01_x").iterdir()
    assert f"(01_x/{picture.name})" in text and Image.open(picture).size == (40, 30)


def test_a_pages_pictures_and_texts_are_short(book, tmp_path):
    pages = book("pages")
    long = stream("\n".join(map(str, range(1000))))
    films = shown(image_gif=gif(20, 3)), shown(image_gif=gif(700, 3))
    text = pages.write_page(
        "x", notebook(long, shown(image_png=png(500, 2000)), *films), tmp_path
    ).read_text()
    assert "\n14\n... 970 lines ...\n985\n" in text
    wide, short, frame = (Image.open(tmp_path / "x" / name) for name in re.findall(r"\(x/(.+?)\)", text))
    assert wide.size == (pages.WIDTH, pages.WIDTH // 4)
    assert short.format == "GIF" and short.n_frames == 3 and frame.format != "GIF"
    pages.write_page("x", notebook(), tmp_path)
    assert not (tmp_path / "x").exists()  # of what was there before


def test_controls_are_a_note_beside_the_picture_that_they_move(book, tmp_path):
    controls = [nb.new_output("display_data", CONTROL), nb.new_output("display_data", CONTROL)]
    text = (
        book("pages").write_page("x", notebook(*controls, shown(image_png=png(9, 9))), tmp_path).read_text()
    )
    assert text.count("live notebook") == 1 and "FloatSlider" not in text and "![Picture 1" in text


def test_no_page_is_made_of_a_notebook_that_failed(book, tmp_path):
    failed = nb.new_output("error", ename="ValueError", evalue="no", traceback=[])
    with pytest.raises(InputError, match="x: a cell failed"):
        book("pages").write_page("x", notebook(failed), tmp_path)
    assert not [*tmp_path.iterdir()]


def test_an_executed_copy_is_taken_while_its_cells_are_todays(book, tmp_path, monkeypatch):
    executed, made = book("executed"), []
    monkeypatch.setattr(paths, "HOME", tmp_path)
    for folder in ("notebooks", "artifacts/smoke/notebooks"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "profiles").symlink_to(EXECUTED.parents[1] / "profiles")

    def run(name, experiment, parameters):
        made.append((name, parameters))
        (copy := tmp_path / "new.ipynb").write_text(nb.writes(notebook(stream("new"))))
        return copy

    monkeypatch.setattr(executed, "run_notebook", run)
    experiment, today = load_experiment("smoke"), notebook()
    today.cells = [cell for cell in today.cells if "tags" not in cell.metadata]
    (tmp_path / "notebooks/01_x.ipynb").write_text(nb.writes(today))
    copy = experiment.files.notebook("01_x")
    copy.write_text(nb.writes(notebook(stream("the pipeline's"))))
    found = executed.executed_notebook(experiment, "01_x")
    assert found.cells[-1].outputs[0].text == "the pipeline's" and not made
    copy.write_text(nb.writes(notebook(stream("old"), text="# Other title")))
    assert executed.executed_notebook(experiment, "01_x").cells[-1].outputs[0].text == "new"
    assert made == [("01_x", {"make": False})]


def test_photographs_of_others_are_not_published(book, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["pages.py", "photos", "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match="not ours to publish"):
        book("pages").main()


@pytest.mark.parametrize("path", sorted(EXECUTED.glob("*.md")), ids=lambda path: path.stem)
def test_a_committed_page_is_of_todays_notebook_and_its_links_are_alive(book, path):
    cells = nb.reads((EXECUTED.parent / f"{path.stem}.ipynb").read_text()).cells
    text = path.read_text()
    missing = [cell.source for cell in cells if cell.cell_type == "code" and cell.source.rstrip() not in text]
    assert not missing, "run `make pages`"
    assert not dead_links(path)


def test_committed_pictures_of_pages_are_small():
    pages = [path for path in EXECUTED.rglob("*") if path.is_file()]
    gallery = [*(paths.HOME / "docs" / "gallery").glob("*")]
    assert all(path.stat().st_size <= 700_000 for path in pages + gallery)
    assert sum(path.stat().st_size for path in pages) < 6_000_000
    assert sum(path.stat().st_size for path in gallery) < 1_500_000


@pytest.mark.skipif(find_spec("sphinx") is None, reason="needs the extra `book`: `make book` installs it")
def test_the_book_writes_equations_and_leads_links_within_itself(book, tmp_path):
    conf = book("conf")
    (tmp_path / "folder").mkdir()
    lead = lambda text: conf.LINK.sub(lambda link: conf.led(link, tmp_path), text)  # noqa: E731
    assert lead("[a](folder) [b](../notebooks/executed/01_x.md)") == "a [b](../notebooks/01_x.ipynb)"
    assert lead("[c](d.md#e) ![f](g.png)") == "[c](d.md#e) ![f](g.png)"
    assert "<math" in conf.convert(r"\frac{1}{2} \sum_k d_T(R_a, R_b)")
