"""`group --pictures`: a picture of the tree, and a page that explores it with nothing but itself."""

import json

import numpy as np
import pytest
from html_pages import Page
from PIL import Image

from hgrl import __main__ as cli
from hgrl.grouping.region_tree import RegionTree
from hgrl.reporting.explorer import page_data, strip
from hgrl.reporting.html_page import as_json, is_page, table, write_page

HOSTILE = "a<script>alert(1)<|script>&\"'.png"


def drawn(height=40, width=60):
    """Four rectangles of their own colours, (H, W, 3) uint8."""
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2] = 200, 30, 30
    image[: height // 2, width // 2 :] = 30, 200, 30
    image[height // 2 :, : width // 2] = 30, 30, 200
    return image


def four():
    labels = np.zeros((40, 60), np.uint8)
    labels[:20, 30:], labels[20:, :30], labels[20:, 30:] = 1, 2, 3
    return RegionTree(labels, np.array([[2, 0], [1, 3], [4, 5]], np.uint16), np.float32([0.25, 0.5, 0.75]))


@pytest.fixture
def grouped(tmp_path, monkeypatch):
    """A photograph with a hostile name in the working directory, and its results' folder."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(drawn()).save(HOSTILE)
    assert cli.main(["group", HOSTILE, "--out", "out", "--pictures"]) == 0
    return tmp_path / "out"


def only(folder, ending):
    (found,) = folder.rglob(f"*{ending}")
    return found


def test_a_page_holds_the_tree_and_the_photograph_and_asks_for_nothing(grouped):
    tree, page = RegionTree.load(only(grouped, ".npz")), Page(only(grouped, ".html").read_text())
    page.assert_self_contained()
    assert HOSTILE in page.texts["h1"] and len(page.all("script")) == 2  # the name is text
    assert [image["src"][:23] for image in page.all("img")] == ["data:image/jpeg;base64,"]
    assert {"type": "range", "id": "cut"}.items() <= page.all("input")[0].items()
    data = json.loads(page.texts["script"][0])
    runs = np.array(data["runs"]).reshape(-1, 2)
    assert np.array_equal(np.repeat(*runs.T).reshape(data["height"], data["width"]), tree.labels)
    assert data["children"] == tree.children.tolist()
    np.testing.assert_allclose(data["heights"], tree.heights, atol=1e-6)
    assert sorted(data["order"]) == list(range(tree.regions)) == list(range(len(data["colours"])))


def test_pictures_stay_until_the_tree_is_another_and_are_not_grouped_again(grouped, capsys):
    files = [only(grouped, ".regions.png"), only(grouped, ".html")]
    before = [file.stat().st_mtime_ns for file in files]
    arguments = ["group", HOSTILE, str(files[0]), "--out", str(grouped), "--pictures"]
    assert cli.main(arguments) == 0 and "1 of 1 images" in capsys.readouterr().out
    assert [file.stat().st_mtime_ns for file in files] == before
    files[1].write_bytes(files[1].read_bytes()[:-9])  # cut off
    Image.fromarray(drawn()[::-1]).save(HOSTILE)
    assert cli.main(arguments) == 0
    assert all(file.stat().st_mtime_ns > old for file, old in zip(files, before, strict=True))
    assert "written by `group` itself" in _told(capsys, ["group", str(files[0]), "--out", "other"])


def _told(capsys, arguments):
    capsys.readouterr()
    assert cli.main(arguments) == 1
    return capsys.readouterr().err


@pytest.mark.parametrize("ending", [".regions.png", ".html"])
def test_a_file_of_the_users_is_left_alone_and_said(grouped, capsys, ending):
    foreign, other = (only(grouped, end) for end in (ending, {".html": ".regions.png"}.get(ending, ".html")))
    foreign.unlink(), other.unlink()
    if ending == ".html":
        foreign.write_text("<!doctype html>\n<p>mine")
    else:
        Image.fromarray(drawn()).save(foreign)
    content = foreign.read_bytes()
    told = _told(capsys, ["group", HOSTILE, "--out", str(grouped), "--pictures"])
    assert "left alone" in told and foreign.name in told
    assert foreign.read_bytes() == content and not other.exists()


def test_a_photograph_beyond_the_pages_size_keeps_whole_labels():
    tree, size = four(), (1200, 900)
    labels = np.asarray(Image.fromarray(tree.labels).resize(size, Image.Resampling.NEAREST))
    large = RegionTree(labels, tree.children, tree.heights)
    data = page_data(np.asarray(Image.fromarray(drawn()).resize(size, Image.Resampling.NEAREST)), large)
    assert (data["width"], data["height"]) == (800, 600)
    assert set(data["runs"][::2]) == {0, 1, 2, 3} and sum(data["runs"][1::2]) == 800 * 600
    assert data["colours"] == [[200, 30, 30], [30, 200, 30], [30, 30, 200], [0, 0, 0]]


def test_the_strip_shows_each_region_in_its_mean_colour():
    picture = strip(drawn(), np.zeros((40, 60)), four())
    assert picture.dtype == np.uint8 and picture.shape == (2 * (320 + 36) + 10, 3 * (480 + 10) + 10, 3)
    leaves = picture[392:712, 10:490]  # the first cut: all four
    middles = {(80, 120): (200, 30, 30), (80, 360): (30, 200, 30), (240, 120): (30, 30, 200)}
    for (y, x), colour in middles.items():
        np.testing.assert_allclose(leaves[y, x].astype(int), colour, atol=4)
    assert (leaves[:, 240] == (255, 221, 51)).all()  # outlined
    one = RegionTree(np.zeros((1, 300), np.uint8), np.zeros((0, 2), np.uint16), np.zeros(0, np.float32))
    strip(np.zeros((1, 300, 3), np.uint8), np.zeros((1, 300)), one)


def test_a_tree_says_what_it_is_and_draws_itself():
    tree = four()
    assert repr(tree) == "RegionTree(4 regions, 40x60, heights 0.25 to 0.75)"
    one = RegionTree(np.zeros((2, 3), np.uint8), np.zeros((0, 2), np.uint16), np.zeros(0, np.float32))
    assert repr(one) == "RegionTree(1 region, 2x3)"
    for shown in (tree, one):
        assert shown._repr_png_().startswith(b"\x89PNG")
    assert tree.order().tolist() == [2, 0, 1, 3]
    contours = np.zeros((40, 60), np.float32)
    contours[:, 29], contours[19, :30], contours[19, 30:] = 0.75, 0.25, 0.5
    contours[19, 29] = 0.75
    assert np.array_equal(tree.contours(), contours)


def test_text_cannot_become_a_page(tmp_path):
    assert "</script" not in as_json({"</script><b>": "<!--"})
    assert json.loads(as_json({"</script>": 1})) == {"</script>": 1}
    text = table([["<img src=x>", 1]], ["<b>&"], {"<img src=x>": "good"})
    assert "<img" not in text and "<b>" not in text and '<td class="good">' in text
    parts = {"title": "{{data}}", "about": "", "photo": "", "data": "{}"}
    write_page(tmp_path / "x.html", "explorer.html", "a", **parts)
    assert "<h1>{{data}}</h1>" in (tmp_path / "x.html").read_text()  # filled once
    assert is_page(tmp_path / "x.html", "a") and not is_page(tmp_path / "x.html", "b")
