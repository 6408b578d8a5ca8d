"""Any photographs, as the command line names them."""

import os

import pytest
from PIL import Image

from hgrl.core.errors import InputError
from hgrl.data.sets.folder import open_folder


@pytest.fixture
def photos(tmp_path):
    for name in ("b.png", "a.JPG", "deep/er/c.webp", "notes.txt", ".hidden.png", "out/photos/a.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 3)).save(path, "PNG")
    (tmp_path / "photos" / "folder.png").mkdir()
    return tmp_path / "photos"


def test_images_below_a_folder_are_named_by_their_place(photos):
    samples = open_folder([photos], results=photos / "out")
    assert samples.names == ("photos/a", "photos/b", "photos/deep_er_c")
    assert samples.image(0).shape == (3, 4, 3)


def test_results_written_into_the_folder_are_images_only_when_not_left_out(photos):
    assert "photos/out_photos_a" in open_folder([photos]).names


@pytest.mark.parametrize("results", ["", "photos", "photos/out", "photos/out/photos"])
def test_a_given_folder_at_or_below_the_results_is_read(photos, results):
    samples = open_folder([photos / "out/photos"], results=photos.parent / results)
    assert samples.names == ("photos/a",)


def test_a_given_folder_is_never_skipped_for_another(photos):
    (photos / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: no image found"):
        open_folder([photos, photos / "empty"])


def test_edge_maps_are_no_images(photos):
    Image.new("L", (4, 3)).save(photos / "out/photos/a.edges.png")
    assert open_folder([photos / "out"], results=photos).names == ("out/photos_a",)


def test_a_named_file_is_taken_whatever_its_suffix(photos):
    assert open_folder([photos / "notes.txt", photos / "b.png"]).names == ("photos/notes", "photos/b")


@pytest.mark.parametrize(("given", "words"), [
    ("nowhere", "nowhere: no such file or folder; give image files, or folders of them"),
    ("photos/folder.png", "no image found"),
    ("fifo.jpg", r"fifo\.jpg: not a regular file; give image files"),
])  # fmt: skip
def test_nothing_to_read_is_one_line(photos, given, words):
    os.mkfifo(photos.parent / "fifo.jpg")
    with pytest.raises(InputError, match=words):
        open_folder([photos.parent / given])


def test_two_files_of_one_name_are_named_both(photos):
    Image.new("RGB", (4, 3)).save(photos / "b.bmp")
    with pytest.raises(InputError, match=r"b\.png: has the same name, photos/b, as .*b\.bmp; rename one"):
        open_folder([photos])
