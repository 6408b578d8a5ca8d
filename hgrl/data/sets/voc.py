"""PASCAL VOC 2012 segmentation, and any data set in its layout (MSRC, the embedded scenes).

Layout: `JPEGImages/*.jpg`, `SegmentationClass/*.png` (palette index = class, 255 = void),
`ImageSets/Segmentation/<split>.txt`. `train_aug` is the field's 10,582 images: VOC's train and all of SBD,
without VOC's val. Without SBD beside it, the list `train_aug.txt` or `trainaug.txt` and the folder
`SegmentationClassAug`, which others distribute, serve instead."""

from pathlib import Path

from hgrl.core.errors import InputError
from hgrl.data.samples import Samples, sample_names
from hgrl.data.sets.listing import find_folder, read_list, require_files
from hgrl.data.sets.sbd import find_sbd, sbd_masks

CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip
LISTS = "ImageSets/Segmentation"


def open_voc(root: Path, folder: str, split: str) -> Samples:
    """Images and class masks of a split; `masks` is None where no image has one (unlabelled, test).

    `classes.txt` beside `JPEGImages`, one name per line, replaces VOC's 21 classes. Raises InputError for a
    missing folder, split or file."""
    home = find_folder(root, folder, f"{folder}/VOCdevkit/VOC2012", f"{folder}/VOC2012", needs="JPEGImages")
    sbd = find_sbd(root) if split == "train_aug" else None
    if sbd is not None:
        stems, masks = _train_aug(home, sbd)
        list_file = home / LISTS / "train.txt"
    else:
        list_file = _list_file(home, split)
        stems = _stems(list_file)
        masks = tuple(_mask(home, stem, split) for stem in stems)
        masks = masks if any(mask.is_file() for mask in masks) else ()
        require_files(masks, list_file)
    images = tuple(home / "JPEGImages" / f"{stem}.jpg" for stem in stems)
    require_files(images, list_file)
    own = home / "classes.txt"
    classes = tuple(" ".join(words) for words in read_list(own)) if own.exists() else CLASSES
    return Samples(sample_names(folder, images), images, masks or None, classes)


def _train_aug(home: Path, sbd: Path) -> tuple[tuple[str, ...], tuple[Path, ...]]:
    """Sorted names, and masks, of (VOC train + SBD) - VOC val; VOC's mask, with void, where it has one."""
    train, val = (set(_stems(home / LISTS / f"{split}.txt")) for split in ("train", "val"))
    extra = sbd_masks(sbd, "train") | sbd_masks(sbd, "val")
    stems = tuple(sorted((train | extra.keys()) - val))
    masks = tuple(_mask(home, stem, "train") if stem in train else extra[stem] for stem in stems)
    require_files(masks, sbd)
    return stems, masks


def _list_file(home: Path, split: str) -> Path:
    path, other = (home / LISTS / f"{name}.txt" for name in (split, "trainaug"))
    if split != "train_aug" or path.exists():
        return path
    if not other.exists():
        remedy = "run `python -m hgrl fetch sbd`, or get the list with its folder SegmentationClassAug"
        raise InputError(f"{path}: no such split file; no SBD beside VOC either: {remedy}")
    return other


def _stems(list_file: Path) -> tuple[str, ...]:
    """A line is a name, or, in lists of pairs, the paths of image and mask; repeated lines count once."""
    first = (words[0] for words in read_list(list_file))
    return tuple(dict.fromkeys(Path(word).stem if "/" in word else word for word in first))


def _mask(home: Path, stem: str, split: str) -> Path:
    augmented = home / "SegmentationClassAug" / f"{stem}.png"
    if split in ("train_aug", "trainaug") and augmented.is_file():
        return augmented
    return home / "SegmentationClass" / f"{stem}.png"
