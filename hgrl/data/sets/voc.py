"""PASCAL VOC 2012 segmentation, and any data set in its layout (the embedded scenes).

Layout: `JPEGImages/*.jpg`, `SegmentationClass/*.png` (palette index = class, 255 = void),
`ImageSets/Segmentation/<split>.txt`. `train_aug` is the field's 10,582 images: VOC's train and all of SBD
(`hgrl.data.sets.sbd`), without VOC's val. Without SBD beside it, a list `train_aug.txt` (or `trainaug.txt`)
and the folder `SegmentationClassAug`, as others hand them round, serve instead.
"""

from __future__ import annotations

from pathlib import Path

from hgrl.core.errors import InputError
from hgrl.data.samples import Samples, sample_name
from hgrl.data.sets.listing import find_folder, read_list, require_files
from hgrl.data.sets.sbd import SPLITS, find_sbd, mask_file, sbd_stems

CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog", "horse",
    "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
LISTS = "ImageSets/Segmentation"


def open_voc(root: Path, folder: str, split: str) -> Samples:
    """Images and class masks of a split; a split none of whose images has a mask (unlabelled, test) has
    `masks=None`.

    `classes.txt` beside `JPEGImages`, one name a line, replaces VOC's 21 classes. Raises InputError for a
    missing folder, split or file.
    """
    home = find_folder(root, folder, f"{folder}/VOCdevkit/VOC2012", f"{folder}/VOC2012", needs="JPEGImages")
    sbd = find_sbd(root) if split == "train_aug" else None
    if sbd is not None:
        stems, masks = _train_aug(home, sbd)
        list_file = home / LISTS / "train.txt"
    else:
        list_file = _list_file(home, split)
        stems = _stems(list_file)
        masks = _masks(home, stems, split, list_file)
    images = tuple(home / "JPEGImages" / f"{stem}.jpg" for stem in stems)
    require_files(images, list_file)
    names = tuple(sample_name(Path(folder).name, stem) for stem in stems)
    return Samples(names, images, masks, _classes(home))


def _train_aug(home: Path, sbd: Path) -> tuple[tuple[str, ...], tuple[Path, ...]]:
    """Names, sorted, and masks of (VOC train + SBD train + SBD val) - VOC val. VOC's mask, which marks void,
    goes before SBD's.
    """
    train, val = (set(_stems(home / LISTS / f"{split}.txt")) for split in ("train", "val"))
    extra = {stem for split in SPLITS for stem in sbd_stems(sbd, split)}
    stems = tuple(sorted((train | extra) - val))
    masks = tuple(
        home / "SegmentationClass" / f"{stem}.png" if stem in train else mask_file(sbd, stem)
        for stem in stems
    )
    require_files(masks, sbd)
    return stems, masks


def _list_file(home: Path, split: str) -> Path:
    path = home / LISTS / f"{split}.txt"
    other = path.with_name("trainaug.txt")
    if split == "train_aug" and not path.exists():
        if not other.exists():
            remedy = "run `python -m hgrl fetch sbd`, or get the ready-made list with its SegmentationClassAug folder, or use split `train`"
            raise InputError(f"{path}: no such split file; there is no SBD beside VOC either: {remedy}")
        return other
    return path


def _stems(list_file: Path) -> tuple[str, ...]:
    """A line is a name, or, in lists of pairs, the paths of image and mask; repeated lines count once."""
    return tuple(
        dict.fromkeys(Path(words[0]).stem if "/" in words[0] else words[0] for words in read_list(list_file))
    )


def _masks(home: Path, stems: tuple[str, ...], split: str, list_file: Path) -> tuple[Path, ...] | None:
    masks = tuple(_mask(home, stem, split) for stem in stems)
    if not any(mask.is_file() for mask in masks):
        return None
    require_files(masks, list_file)
    return masks


def _mask(home: Path, stem: str, split: str) -> Path:
    augmented = home / "SegmentationClassAug" / f"{stem}.png"
    if split in ("train_aug", "trainaug") and augmented.is_file():
        return augmented
    return home / "SegmentationClass" / f"{stem}.png"


def _classes(home: Path) -> tuple[str, ...]:
    path = home / "classes.txt"
    return tuple(" ".join(words) for words in read_list(path)) if path.exists() else CLASSES
