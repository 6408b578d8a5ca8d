"""PASCAL VOC's layout, its augmented list, and unlabelled splits."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from hgrl.data.voc import CLASSES, open_voc
from hgrl.errors import InputError


def voc(home, names=("2007_000032", "2007_000039"), split="train", masks="SegmentationClass", lines=None):
    for name in names:
        put(home / "JPEGImages" / f"{name}.jpg", np.zeros((3, 5, 3)))
        if masks:
            put(home / masks / f"{name}.png", np.full((3, 5), 255 if name.endswith("9") else 20))
    path = home / "ImageSets/Segmentation" / f"{split}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines or names) + "\n")


def put(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array.astype(np.uint8)).save(path)


def test_official_layouts(tmp_path):
    for folder, home in (("VOC2012", "VOC2012"), ("data", "data/VOCdevkit/VOC2012"), ("VOCdevkit", "VOCdevkit/VOC2012")):
        voc(tmp_path / home)
        samples = open_voc(tmp_path, folder, "train")
        assert samples.names == (f"{folder}/2007_000032", f"{folder}/2007_000039")
        assert samples.classes == CLASSES and len(CLASSES) == 21 and samples.void == 255
        assert samples.mask(0).max() == 20 and samples.mask(1).min() == 255


def test_unlabelled_split_has_no_masks(tmp_path):
    voc(tmp_path / "VOC2012", split="test", masks=None)
    assert open_voc(tmp_path, "VOC2012", "test").masks is None


def test_augmented_list_prefers_its_own_masks(tmp_path):
    voc(tmp_path / "VOC2012")
    voc(tmp_path / "VOC2012", names=("2008_000002",), split="trainaug", masks="SegmentationClassAug", lines=("2007_000032", "2008_000002"))
    samples = open_voc(tmp_path, "VOC2012", "train_aug")
    assert [mask.parent.name for mask in samples.masks] == ["SegmentationClass", "SegmentationClassAug"]


def test_augmented_list_of_pairs(tmp_path):
    lines = ["/JPEGImages/2008_000002.jpg /SegmentationClassAug/2008_000002.png"] * 2
    voc(tmp_path / "VOC2012", names=("2008_000002",), split="train_aug", masks="SegmentationClassAug", lines=lines)
    assert open_voc(tmp_path, "VOC2012", "train_aug").names == ("VOC2012/2008_000002",)


def test_augmented_list_that_is_missing(tmp_path):
    voc(tmp_path / "VOC2012")
    with pytest.raises(InputError, match=r"train_aug\.txt: no such split file; .*SegmentationClassAug"):
        open_voc(tmp_path, "VOC2012", "train_aug")


def test_own_class_names(tmp_path):
    voc(tmp_path / "VOC2012")
    (tmp_path / "VOC2012/classes.txt").write_text("background\nred ball\n")
    assert open_voc(tmp_path, "VOC2012", "train").classes == ("background", "red ball")


@pytest.mark.parametrize("file", ["JPEGImages/2007_000039.jpg", "SegmentationClass/2007_000039.png"])
def test_listed_file_that_is_missing(tmp_path, file):
    voc(tmp_path / "VOC2012")
    (tmp_path / "VOC2012" / file).unlink()
    with pytest.raises(InputError, match=rf"{file}: listed in .*train\.txt but not there; "):
        open_voc(tmp_path, "VOC2012", "train")


def test_missing_folder_and_split(tmp_path):
    with pytest.raises(InputError, match=r"VOC2012: no such folder; set HGRL_DATA"):
        open_voc(tmp_path, "VOC2012", "train")
    voc(tmp_path / "VOC2012")
    with pytest.raises(InputError, match=r"val\.txt: no such split file; .*: train"):
        open_voc(tmp_path, "VOC2012", "val")


def test_real_voc(real_data):
    samples = open_voc(real_data, "VOC2012", "train")
    assert len(samples) == 3
    assert np.unique(samples.mask(0)).tolist() == [0, 5, 15, 255], "bottle and person, as on PASCAL's own page"
