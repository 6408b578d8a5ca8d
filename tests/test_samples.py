"""Samples, videos, the catalogue and the listing helpers: what every loader relies on."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hgrl.core.data_settings import DataSettings, LabelledSet, Source
from hgrl.core.errors import InputError
from hgrl.data.samples import Samples, Video, sample_name
from hgrl.data.sets.listing import read_list
from hgrl.data.sets.unlabelled import open_coco
from hgrl.data.sources import open_labelled, open_samples, open_videos, pretraining_samples


def write(path: Path, array) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array, dtype=np.uint8)).save(path)
    return path


def blank(path: Path, height: int = 4, width: int = 6) -> Path:
    return write(path, np.zeros((height, width, 3)))


def one(tmp_path, mask, **fields) -> Samples:
    height, width = np.shape(mask)
    return Samples(
        ("set/a",), (blank(tmp_path / "a.jpg", height, width),), (write(tmp_path / "a.png", mask),), **fields
    )


def test_mask_of_classes_and_void(tmp_path):
    assert one(tmp_path, [[0, 10, 255]], classes=tuple("abcdefghijk")).mask(0).tolist() == [[0, 10, 255]]


def test_mask_id_that_is_no_class(tmp_path):
    with pytest.raises(InputError, match=r"a\.png: id 2 in a mask of 2 classes; "):
        one(tmp_path, [[0, 2, 255]], classes=("x", "y")).mask(0)


def test_mask_of_another_size_than_its_image(tmp_path):
    samples = Samples(
        ("set/a",), (blank(tmp_path / "a.jpg", 4, 6),), (write(tmp_path / "a.png", np.zeros((4, 5))),)
    )
    with pytest.raises(InputError, match=r"a\.png: mask is 5x4 but its image .*a\.jpg is 6x4; "):
        samples.mask(0)


def test_mask_of_an_exif_rotated_image_must_fit_the_upright_picture(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (6, 4)).save(tmp_path / "a.jpg", exif=exif)
    samples = Samples(("set/a",), (tmp_path / "a.jpg",), (write(tmp_path / "a.png", np.zeros((6, 4))),))
    assert samples.mask(0).shape == samples.image(0).shape[:2] == (6, 4)


def test_no_masks(tmp_path):
    with pytest.raises(InputError, match=r"a\.jpg: this split has no masks; "):
        Samples(("set/a",), (blank(tmp_path / "a.jpg"),)).mask(0)


def test_names_are_unique(tmp_path):
    with pytest.raises(InputError, match=r"a\.png: has the same name, set/a, as .*a\.jpg; "):
        Samples(("set/a", "set/a"), (tmp_path / "a.jpg", tmp_path / "a.png"))


def test_subset_keeps_order_and_everything_else(tmp_path):
    names = tuple(f"set/{i}" for i in range(5))
    paths = tuple(Path(f"{i}.jpg") for i in range(5))
    samples = Samples(names, paths, paths, ("a", "b"))
    part = samples.subset(np.array([3, 1]))
    assert part == Samples(("set/3", "set/1"), (paths[3], paths[1]), (paths[3], paths[1]), ("a", "b"))
    assert Samples(names, paths).subset([0]).masks is None
    assert len(samples.subset([])) == 0


@given(st.text(min_size=1), st.text(min_size=1))
def test_sample_names_are_filesystem_safe(data_set, stem):
    folder, file = sample_name(data_set, stem).split("/")
    for part in (folder, file):
        assert part and not part.startswith(".") and not set(part) & set('\\:*?"<>| \n\0')


def video(tmp_path, *masks) -> Video:
    frames = tuple(blank(tmp_path / f"{t}.jpg", *np.shape(mask)) for t, mask in enumerate(masks))
    return Video("seq", frames, tuple(write(tmp_path / f"{t}.png", mask) for t, mask in enumerate(masks)))


def test_binary_video_is_one_object(tmp_path):
    sequence = video(tmp_path, [[0, 255]], [[0, 0]], [[255, 255]])
    assert [sequence.mask(t).tolist() for t in range(3)] == [[[0, 1]], [[0, 0]], [[1, 1]]]


def test_palette_video_keeps_ids_and_void(tmp_path):
    sequence = video(tmp_path, [[0, 1, 2]], [[0, 0, 255]])
    assert sequence.mask(0).tolist() == [[0, 1, 2]]
    assert sequence.mask(1).tolist() == [[0, 0, 255]], (
        "255 stays void though this frame alone would look binary"
    )


def test_video_whose_first_frames_are_empty(tmp_path):
    assert video(tmp_path, [[0, 0]], [[0, 255]]).mask(1).tolist() == [[0, 1]]
    assert not video(tmp_path, [[0, 0]], [[0, 0]]).is_binary


def test_video_mask_of_another_size(tmp_path):
    sequence = video(tmp_path, [[0, 1]])
    blank(tmp_path / "0.jpg", 3, 3)
    with pytest.raises(InputError, match=r"0\.png.*0\.jpg"):
        sequence.mask(0)


def test_read_list_names_the_splits_there_are(tmp_path):
    (tmp_path / "train.txt").write_text("a b\n\n c\n")
    assert read_list(tmp_path / "train.txt") == [["a", "b"], ["c"]]
    with pytest.raises(InputError, match=r"val\.txt: no such split file; .*: train"):
        read_list(tmp_path / "val.txt")
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(InputError, match=r"empty\.txt: an empty split"):
        read_list(tmp_path / "empty.txt")


def coco(root, split="train2014", names=("b", "a", "c", "d"), folder="coco/images"):
    for name in names:
        blank(root / folder / split / f"{name}.jpg")


def test_coco_images_in_both_layouts(tmp_path):
    coco(tmp_path, folder="coco")
    assert open_coco(tmp_path, "coco", "train2014").names == ("coco/a", "coco/b", "coco/c", "coco/d")
    coco(tmp_path, folder="coco2/images")
    assert len(open_coco(tmp_path, "coco2", "train2014")) == 4


def test_coco_ignores_what_is_not_an_image(tmp_path):
    coco(tmp_path)
    (tmp_path / "coco/images/train2014/Thumbs.db").touch()
    (tmp_path / "coco/images/train2014/._a.jpg").touch()
    assert len(open_coco(tmp_path, "coco", "train2014")) == 4


def test_coco_that_is_missing(tmp_path):
    with pytest.raises(InputError, match=r"nowhere: no such folder; set HGRL_DATA"):
        open_coco(tmp_path / "nowhere", "coco", "train2014")
    with pytest.raises(InputError, match=r"coco: no such folder; set HGRL_DATA"):
        open_coco(tmp_path, "coco", "train2014")
    coco(tmp_path)
    with pytest.raises(InputError, match=r"train2017: no such folder; .*: train2014"):
        open_coco(tmp_path, "coco", "train2017")
    (tmp_path / "coco/images/val2014").mkdir()
    with pytest.raises(InputError, match=r"val2014: no images"):
        open_coco(tmp_path, "coco", "val2014")


def test_catalogue_tells_images_from_videos(tmp_path):
    with pytest.raises(InputError, match="DAVIS"):
        open_samples(Source(kind="davis", folder="DAVIS", split="val"), tmp_path)
    with pytest.raises(InputError, match="coco"):
        open_videos(Source(kind="coco", folder="coco", split="val"), tmp_path)


def data(fraction=1.0, splits=("train2014",)) -> DataSettings:
    sources = tuple(Source(kind="coco", folder="coco", split=split) for split in splits)
    return DataSettings(pretrain=sources, fraction=fraction)


def test_a_folder_of_any_images_is_a_source(tmp_path):
    for name in ("n01/a", "n02/a"):
        path = tmp_path / "ImageNet" / "train" / f"{name}.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(path)
    samples = open_samples(Source(kind="folder", folder="ImageNet", split="train"), tmp_path)
    assert samples.names == ("train/n01_a", "train/n02_a") and samples.masks is None
    with pytest.raises(InputError, match="ImageNet/val: no such file or folder"):
        open_samples(Source(kind="folder", folder="ImageNet", split="val"), tmp_path)


def test_pretraining_is_the_union_of_its_sources(tmp_path):
    coco(tmp_path)
    coco(tmp_path, split="extra", names=("e",))
    samples = pretraining_samples(data(splits=("train2014", "extra", "train2014")), tmp_path)
    assert samples.names == ("coco/a", "coco/b", "coco/c", "coco/d", "coco/e") and samples.masks is None


def test_pretraining_sources_with_different_images_of_one_name(tmp_path):
    coco(tmp_path)
    coco(tmp_path, split="extra", names=("a",))
    with pytest.raises(InputError, match=r"extra/a\.jpg: has the same name"):
        pretraining_samples(data(splits=("train2014", "extra")), tmp_path)


def test_smaller_fractions_are_part_of_larger_ones(tmp_path):
    coco(tmp_path, names=[f"{i:02d}" for i in range(20)])
    picked = [set(pretraining_samples(data(fraction), tmp_path).names) for fraction in (0.01, 0.25, 0.5, 1.0)]
    assert [len(names) for names in picked] == [1, 5, 10, 20]
    assert all(small < large for small, large in pairwise(picked))


def test_real_coco(real_data):
    samples = open_samples(Source(kind="coco", folder="coco128-seg", split="train2017"), real_data)
    assert len(samples) == 128 and samples.names[0] == "coco128-seg/000000000009"
    assert samples.image(0, short_side=160).shape == (160, 213, 3)


def test_chosen_classes_are_numbered_in_their_order_and_all_others_are_void(tmp_path):
    samples = one(tmp_path, [[0, 1, 2, 3, 255]], classes=("sky", "cat", "dog", "cow"))
    chosen = samples.with_classes(("dog", "sky"))
    assert chosen.mask(0).tolist() == [[1, 255, 0, 255, 255]] and chosen.classes == ("dog", "sky")
    assert chosen.subset([0]).mask(0).tolist() == chosen.mask(0).tolist()
    assert chosen.with_classes(("sky",)).mask(0).tolist() == [[0, 255, 255, 255, 255]]
    with pytest.raises(InputError, match=r"no 'cow' in set; choose from: dog, sky"):
        chosen.with_classes(("cow", "sky"))
    with pytest.raises(InputError, match="id 4 in a mask of 4 classes"):
        one(tmp_path, [[0, 4]], classes=samples.classes).with_classes(("dog", "sky")).mask(0)


def voc_set(root: Path, folder: str, classes: str | None, masks: bool = True) -> Source:
    write(root / folder / "JPEGImages/a.jpg", np.zeros((4, 6, 3)))
    if masks:
        write(root / folder / "SegmentationClass/a.png", [[0, 1, 1, 2, 255, 255]] * 4)
    (root / folder / "ImageSets/Segmentation").mkdir(parents=True)
    (root / folder / "ImageSets/Segmentation/all.txt").write_text("a\n")
    if classes:
        (root / folder / "classes.txt").write_text(classes)
    return Source(kind="voc", folder=folder, split="all")


def test_labelled_sets_need_masks_of_the_same_classes(tmp_path):
    ours, voc = voc_set(tmp_path, "ours", "sky\ncat\naeroplane\n"), voc_set(tmp_path, "voc", None)
    train, val = open_labelled(LabelledSet(train=ours, val=ours), tmp_path)
    assert train == val and train.classes == ("sky", "cat", "aeroplane")
    with pytest.raises(InputError, match="ours and voc have different classes; give both the same `classes`"):
        open_labelled(LabelledSet(train=ours, val=voc), tmp_path)
    both = [source.model_copy(update={"classes": ("aeroplane", "cat")}) for source in (ours, voc)]
    train, val = open_labelled(LabelledSet(train=both[0], val=both[1]), tmp_path)
    assert (train.mask(0)[0].tolist(), val.mask(0)[0].tolist()) == (
        [255, 1, 1, 0, 255, 255],
        [255, 0, 0, 255, 255, 255],
    )
    bare = voc_set(tmp_path, "bare", None, masks=False)
    with pytest.raises(InputError, match=r"split 'all' of bare \(voc\) has no masks of classes; name one"):
        open_labelled(LabelledSet(train=ours, val=bare), tmp_path)


@pytest.mark.parametrize("kind", ["bsds", "coco", "folder", "imagenet"])
def test_classes_of_a_set_without_masks_of_classes_are_refused(tmp_path, kind):
    source = Source(kind=kind, folder="photos", split="train", classes=("cat", "dog"))
    with pytest.raises(
        InputError, match=r"settings 'classes' and 'void': photos \(.*\) has no masks of classes; only"
    ):
        open_samples(source, tmp_path)
