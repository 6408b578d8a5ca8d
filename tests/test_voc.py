"""PASCAL VOC's layout, its augmented list, and unlabelled splits."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from miniature import SBD, VOC, gt_cls, write_lists, write_sbd, write_voc
from PIL import Image
from scipy.io import savemat

from hgrl.core.data_settings import Source
from hgrl.core.errors import InputError
from hgrl.data.sets import listing
from hgrl.data.sets.sbd import read_mat_mask
from hgrl.data.sets.voc import CLASSES, open_voc
from hgrl.data.sources import open_samples


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
    for folder, home in (
        ("VOC2012", "VOC2012"),
        ("data", "data/VOCdevkit/VOC2012"),
        ("VOCdevkit", "VOCdevkit/VOC2012"),
    ):
        voc(tmp_path / home)
        samples = open_voc(tmp_path, folder, "train")
        assert samples.names == (f"{folder}/2007_000032", f"{folder}/2007_000039")
        assert samples.classes == CLASSES and len(CLASSES) == 21
        assert samples.mask(0).max() == 20 and samples.mask(1).min() == 255


def test_unlabelled_split_has_no_masks(tmp_path):
    voc(tmp_path / "VOC2012", split="test", masks=None)
    assert open_voc(tmp_path, "VOC2012", "test").masks is None


def test_augmented_list_prefers_its_own_masks(tmp_path):
    voc(tmp_path / "VOC2012")
    voc(
        tmp_path / "VOC2012",
        names=("2008_000002",),
        split="trainaug",
        masks="SegmentationClassAug",
        lines=("2007_000032", "2008_000002"),
    )
    samples = open_voc(tmp_path, "VOC2012", "train_aug")
    assert [mask.parent.name for mask in samples.masks] == ["SegmentationClass", "SegmentationClassAug"]


def test_augmented_list_of_pairs(tmp_path):
    lines = ["/JPEGImages/2008_000002.jpg /SegmentationClassAug/2008_000002.png"] * 2
    voc(
        tmp_path / "VOC2012",
        names=("2008_000002",),
        split="train_aug",
        masks="SegmentationClassAug",
        lines=lines,
    )
    assert open_voc(tmp_path, "VOC2012", "train_aug").names == ("VOC2012/2008_000002",)


def test_augmented_list_that_is_missing(tmp_path):
    voc(tmp_path / "VOC2012")
    with pytest.raises(InputError, match=r"train_aug\.txt: no such split file; .*SegmentationClassAug"):
        open_voc(tmp_path, "VOC2012", "train_aug")


@pytest.fixture
def augmented(tmp_path):
    """VOC with 2 + 2 labelled images and SBD: its train holds one of VOC's val, its val one of VOC's train.
    Returns the true masks.
    """
    masks = write_voc(tmp_path, ["2007_a", "2009_b"], ["2007_c", "2010_d"], ["2008_e", "2011_f", "2011_g"])
    write_sbd(tmp_path, masks, ["2008_e", "2007_c", "2011_f"], ["2009_b", "2010_d"])
    return masks


def test_train_aug_is_voc_train_and_sbd_without_voc_val(tmp_path, augmented):
    samples = open_voc(tmp_path, "VOC2012", "train_aug")
    assert samples.names == ("VOC2012/2007_a", "VOC2012/2008_e", "VOC2012/2009_b", "VOC2012/2011_f")
    assert {image.parent for image in samples.images} == {tmp_path / VOC / "JPEGImages"}
    # VOC's own mask where it has one
    assert [mask.suffix for mask in samples.masks] == [".png", ".mat", ".png", ".mat"]
    assert not {"2007_c", "2010_d"} & {mask.stem for mask in samples.masks}
    assert samples.classes == CLASSES


def test_train_aug_masks_of_both_kinds(tmp_path, augmented):
    samples = open_voc(tmp_path, "VOC2012", "train_aug")
    for index, stem in enumerate(("2007_a", "2008_e", "2009_b", "2011_f")):
        mask, truth = samples.mask(index), augmented[stem]
        assert mask.dtype == np.uint8 and mask.shape == samples.image(index).shape[:2] == truth.shape
        assert np.array_equal(mask[mask != 255], truth[mask != 255])
        assert (mask == 255).any() == (samples.masks[index].suffix == ".png")  # SBD marks no void


def test_sbd_goes_before_a_ready_made_list(tmp_path, augmented):
    (tmp_path / VOC / "ImageSets/Segmentation/train_aug.txt").write_text("2007_a\n")
    assert len(open_voc(tmp_path, "VOC2012", "train_aug")) == 4


def test_other_splits_do_not_look_at_sbd(tmp_path, augmented):
    assert open_voc(tmp_path, "VOC2012", "train").names == ("VOC2012/2007_a", "VOC2012/2009_b")


@pytest.mark.parametrize(("file", "words"), [
    (f"{SBD}/cls/2008_e.mat", r"2008_e\.mat: listed in .* but not there"),
    (f"{SBD}/val.txt", r"val\.txt: no such split file"),
    (f"{VOC}/ImageSets/Segmentation/val.txt", r"val\.txt: no such split file"),
    (f"{VOC}/JPEGImages/2011_f.jpg", r"2011_f\.jpg: listed in .* but not there"),
    (f"{VOC}/SegmentationClass/2007_a.png", r"2007_a\.png: listed in .* but not there"),
])  # fmt: skip
def test_train_aug_with_a_file_missing(tmp_path, augmented, file, words):
    (tmp_path / file).unlink()
    with pytest.raises(InputError, match=words):
        open_voc(tmp_path, "VOC2012", "train_aug")


def test_sbd_mask_of_another_size_than_its_image(tmp_path, augmented):
    savemat(tmp_path / SBD / "cls/2008_e.mat", {"GTcls": gt_cls(np.zeros((5, 7), np.uint8))})
    with pytest.raises(InputError, match=r"2008_e\.mat: mask is 7x5 but its image"):
        open_voc(tmp_path, "VOC2012", "train_aug").mask(1)


@pytest.mark.parametrize("content", [
    b"", b"no mat file", {"GTinst": 1}, {"GTcls": {"Segmentation": np.zeros((2, 3, 4))}},
    {"GTcls": {"Segmentation": 0.5}}, {"GTcls": {"Segmentation": np.full((2, 3), -1)}},
])  # fmt: skip
def test_damaged_sbd_mask(tmp_path, content):
    path = tmp_path / "a.mat"
    path.write_bytes(content) if isinstance(content, bytes) else savemat(path, content)
    with pytest.raises(InputError, match=r"a\.mat: not a class mask of SBD") as caught:
        read_mat_mask(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["background\nred ball\n", "\ufeffbackground\r\n red  ball \r\n\r\n"])
def test_own_class_names(tmp_path, text):
    voc(tmp_path / "VOC2012")
    (tmp_path / "VOC2012/classes.txt").write_bytes(text.encode())
    assert open_voc(tmp_path, "VOC2012", "train").classes == ("background", "red ball")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sky\n\ntree\n", r"line 2: is empty; name the class of each id, from 0, once"),
        ("sky\ntree\nsky\n", r"line 3: 'sky' stands there twice"),
        ("sky\n", r"1 classes; 2 to 255 fit masks of 8 bits"),
        ("\n".join(map(str, range(256))), r"256 classes; 2 to 255 fit"),
        ("", r"0 classes"),
    ],
)
def test_class_names_that_are_no_ids_are_one_line(tmp_path, text, words):
    voc(tmp_path / "VOC2012")
    (tmp_path / "VOC2012/classes.txt").write_text(text)
    with pytest.raises(InputError, match=rf"classes\.txt: {words}"):
        open_voc(tmp_path, "VOC2012", "train")


def test_images_of_other_kinds_in_either_case_with_spaces_and_in_lists_with_suffixes(tmp_path):
    home = tmp_path / "mine"
    for name in ("a 1.JPG", "b.jpeg", "c.PNG", "d.v2.jpg", "d.v2.png"):
        put(home / "JPEGImages" / name, np.zeros((3, 5, 3)))
    for name in ("a 1.PNG", "b.png", "c.png", "d.v2.png"):
        put(home / "SegmentationClass" / name, np.ones((3, 5)))
    lists = home / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_bytes(b"\xef\xbb\xbfa 1\r\nb.jpeg\r\n\r\nc 1\r\nd.v2\r\n")
    samples = open_voc(tmp_path, "mine", "train")
    assert [path.name for path in samples.images] == ["a 1.JPG", "b.jpeg", "c.PNG", "d.v2.jpg"]
    assert samples.names == ("mine/a_1", "mine/b", "mine/c", "mine/d.v2")
    assert [samples.mask(index).max() for index in range(4)] == [1, 1, 1, 1]


@pytest.mark.parametrize("void", ["void", "Unlabelled"])
def test_a_class_named_void_is_none(tmp_path, void):
    voc(tmp_path / "mine")
    (tmp_path / "mine/classes.txt").write_text(f"sky\n{void}\ntree\n")
    put(tmp_path / "mine/SegmentationClass/2007_000032.png", np.array([[0, 1, 2, 255, 0]] * 3))
    samples = open_voc(tmp_path, "mine", "train")
    assert samples.classes == ("sky", "tree") and samples.mask(0)[0].tolist() == [0, 255, 1, 255, 0]
    assert samples.with_classes(("tree", "sky")).mask(0)[0].tolist() == [1, 255, 0, 255, 1]


def test_another_void_than_255(tmp_path):
    voc(tmp_path / "mine")
    (tmp_path / "mine/classes.txt").write_text("sky\ntree\n")
    put(tmp_path / "mine/SegmentationClass/2007_000032.png", np.array([[0, 1, 254, 255, 0]] * 3))
    source = Source(kind="voc", folder="mine", split="train")
    with pytest.raises(InputError, match=r"id 254 in a mask of 2 classes; .* `void: ID` if it is void"):
        open_samples(source, tmp_path).mask(0)
    with_void = open_samples(source.model_copy(update={"void": 254}), tmp_path)
    assert with_void.mask(0)[0].tolist() == [0, 1, 255, 255, 0]
    none = open_samples(source.model_copy(update={"void": 254, "classes": ("tree", "sky")}), tmp_path)
    assert none.subset([0]).mask(0)[0].tolist() == [1, 0, 255, 255, 1]


def test_shipped_lists_serve_where_the_folder_has_none(tmp_path, augmented, monkeypatch):
    lists = {"voc_photos_train_aug": ["2009_b", "2008_e"], "voc_photos_val": ["2010_d"]}
    monkeypatch.setattr(listing, "SHIPPED", write_lists(tmp_path / "lists", **lists))
    samples = open_voc(tmp_path, "VOC2012", "photos_train_aug")
    assert samples.names == ("VOC2012/2009_b", "VOC2012/2008_e")
    assert [mask.suffix for mask in samples.masks] == [".png", ".mat"]
    assert open_voc(tmp_path, "VOC2012", "photos_val").names == ("VOC2012/2010_d",)
    (tmp_path / VOC / "ImageSets/Segmentation/photos_val.txt").write_text("2007_c\n")
    assert open_voc(tmp_path, "VOC2012", "photos_val").names == ("VOC2012/2007_c",)
    shutil.rmtree(tmp_path / SBD)
    with pytest.raises(InputError, match="no mask of 2008_e; run `python -m hgrl fetch sbd`"):
        open_voc(tmp_path, "VOC2012", "photos_train_aug")


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


@pytest.mark.parametrize(("split", "count"), [("train", 437), ("val", 445), ("train_aug", 3131)])
def test_real_voc(real_data, split, count):
    """The photographs of animals and people in VOC's own lists."""
    samples = open_voc(real_data, "VOC2012", split)
    assert len(samples) == count
    shown = set()
    for index in range(0, count, 20):
        assert samples.mask(index).shape == samples.image(index).shape[:2]
        shown |= set(np.unique(samples.mask(index)).tolist())
    assert {CLASSES.index(name) for name in ("cat", "dog", "horse", "person")} <= shown <= {*range(21), 255}


@pytest.mark.parametrize(("split", "count"), [("train", 276), ("tune", 59), ("val", 256)])
def test_real_msrc(real_data, split, count):
    samples = open_voc(real_data, "MSRC", split)
    assert len(samples) == count and len(samples.classes) == 21 and samples.classes[0] != "background"
    assert {*np.unique(samples.mask(0)).tolist()} <= {*range(21), 255}
