"""ImageNet's folders, and the list of them that is kept."""

import os

import pytest
from miniature import write_imagenet

from hgrl.core import paths
from hgrl.core.errors import InputError
from hgrl.core.settings import Source
from hgrl.data.sets import imagenet
from hgrl.data.sets.imagenet import imagenet_files, imagenet_folders, open_imagenet
from hgrl.data.sources import open_samples


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "HOME", tmp_path / "home")
    write_imagenet(tmp_path)
    return tmp_path


@pytest.fixture
def listed(monkeypatch):
    """The folders that are listed from here on."""
    names, real = [], imagenet._images
    monkeypatch.setattr(imagenet, "_images", lambda folder: (names.append(folder.name), real(folder))[1])
    return names


def test_train_folders(root):
    samples = open_samples(Source(kind="imagenet", folder="imagenet", split="train"), root)
    assert (
        samples.names[:3] == ("imagenet/n01440764_0", "imagenet/n01440764_1", "imagenet/n01440765_0")
        and len(samples) == 6
    )
    assert samples.masks is None and samples.image(5).shape == (20, 24, 3)
    assert imagenet_folders(root, "imagenet", "train") == 3


def test_val_flat_and_in_folders(root, tmp_path):
    flat = open_imagenet(root, "imagenet", "val")
    write_imagenet(tmp_path / "other", flat_val=False)
    foldered = open_imagenet(tmp_path / "other", "imagenet", "val")
    assert flat.names == foldered.names and len(flat) == 3
    assert foldered.images[0].parent.name == "n01440764"


def test_a_second_look_lists_nothing(root, listed):
    first = imagenet_files(root, "imagenet", "train")
    assert listed == ["train", "n01440764", "n01440765", "n01440766"]
    listed.clear()
    assert imagenet_files(root, "imagenet", "train") == first and listed == []
    assert paths.listings().is_relative_to(root / "home")  # nothing is written into the data


def test_a_folder_that_has_changed_is_listed_again_alone(root, listed):
    imagenet_files(root, "imagenet", "train")
    listed.clear()
    folder = root / "imagenet/train/n01440765"
    (folder / "n01440765_0.JPEG").unlink()
    os.utime(folder, ns=(1, 1))  # a coarse clock may not have moved on
    assert len(imagenet_files(root, "imagenet", "train")) == 5 and listed == ["n01440765"]


def test_a_new_folder_is_seen(root, tmp_path):
    imagenet_files(root, "imagenet", "train")
    write_imagenet(tmp_path, classes=4)
    assert len(imagenet_files(root, "imagenet", "train")) == 8


@pytest.mark.parametrize("content", ["", "[]", "{", '{"n01440764": 3}', '{"": {"changed": 0}}'])
def test_a_damaged_list_is_made_again(root, content):
    before = imagenet_files(root, "imagenet", "train")
    (kept,) = paths.listings().iterdir()
    kept.write_text(content)
    assert imagenet_files(root, "imagenet", "train") == before


def test_missing_folder_split_and_images(root, tmp_path):
    with pytest.raises(InputError, match=r"imagenet: no test in it"):
        open_imagenet(root, "imagenet", "test")
    (tmp_path / "empty/imagenet/train/n01440764").mkdir(parents=True)
    with pytest.raises(InputError, match=r"train: no images in it; run `python -m hgrl fetch imagenet`"):
        open_imagenet(tmp_path / "empty", "imagenet", "train")
