"""PASCAL VOC 2012 segmentation, and any data set in its layout (MSRC, the embedded scenes, your own).

Layout: `JPEGImages/*.jpg` (or jpeg, png), `SegmentationClass/*.png` (palette index or grey level = class,
255 = void), `ImageSets/Segmentation/<split>.txt`, and, for other classes than VOC's, `classes.txt`.
`train_aug` is the field's 10,582 images: VOC's train and all of SBD, without VOC's val. Without SBD beside
it, the list `train_aug.txt` or `trainaug.txt` and the folder `SegmentationClassAug`, which others distribute,
serve instead. `photos_train_aug` and `photos_val`, of profile `photos`, are listed in this package."""

from collections.abc import Iterable
from pathlib import Path

from hgrl.core.errors import InputError
from hgrl.core.labels import VOID
from hgrl.data.images import SUFFIXES
from hgrl.data.samples import Samples, sample_names
from hgrl.data.sets.listing import find_folder, read_lines, read_list, require_files, shipped_list
from hgrl.data.sets.msrc import COLOURS, find_msrc, msrc_files
from hgrl.data.sets.sbd import find_sbd, sbd_masks

CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip
LISTS = "ImageSets/Segmentation"
AUGMENTED = ("train_aug", "trainaug", "photos_train_aug")  # their masks may be SBD's
VOID_NAMES = ("void", "unlabelled", "unlabeled", "ignore")  # in classes.txt: ids that are not scored
Files = dict[str, Path]  # by stem


def open_voc(root: Path, folder: str, split: str) -> Samples:
    """Images and class masks of a split; `masks` is None where no image has one (unlabelled, test).

    `classes.txt` beside `JPEGImages`, one name per line, replaces VOC's 21 classes; what it names as one of
    `VOID_NAMES` is void. MSRC's own archive is read as it is. Raises InputError for a missing folder, split
    or file."""
    if (archive := find_msrc(root, folder)) is not None:
        images, masks = msrc_files(archive, split)
        return Samples(sample_names(folder, images), images, masks, tuple(COLOURS))
    home = find_folder(root, folder, f"{folder}/VOCdevkit/VOC2012", f"{folder}/VOC2012", needs="JPEGImages")
    photos = _by_stem(home / "JPEGImages", SUFFIXES)
    sbd = find_sbd(root) if split in AUGMENTED else None
    if sbd is not None and split == "train_aug":
        list_file, stems = home / LISTS / "train.txt", _train_aug(home, sbd)
    else:
        list_file = _list_file(home, split)
        stems = _stems(list_file, photos)
    masks = _masks(home, stems, split, sbd)
    images = tuple(photos.get(stem, home / "JPEGImages" / f"{stem}.jpg") for stem in stems)
    require_files((*masks, *images), list_file)
    names = _classes(home)
    samples = Samples(sample_names(folder, images), images, masks or None, names)
    scored = tuple(name for name in names if name.lower() not in VOID_NAMES)
    return samples if scored == names else samples.with_classes(scored)


def _by_stem(folder: Path, suffixes: tuple[str, ...]) -> Files:
    """The files of a folder that have one of `suffixes`, in either case; of one stem the first suffix's."""
    found = [path for path in sorted(folder.glob("*")) if path.suffix.lower() in suffixes]
    found.sort(key=lambda path: suffixes.index(path.suffix.lower()), reverse=True)
    return {path.stem: path for path in found}


def _masks(home: Path, stems: Iterable[str], split: str, sbd: Path | None) -> tuple[Path, ...]:
    """The mask of every name, there or not; none where no name has one.

    Of `AUGMENTED` splits VOC's own, with void, then SBD's; without SBD those of `SegmentationClassAug`, then
    VOC's."""
    known = _by_stem(home / "SegmentationClass", (".png",))
    if sbd is not None:
        known = sbd_masks(sbd, "train") | sbd_masks(sbd, "val") | known
    elif split in AUGMENTED:
        known |= _by_stem(home / "SegmentationClassAug", (".png",))
    masks = tuple(known.get(stem, home / "SegmentationClass" / f"{stem}.png") for stem in stems)
    lost = [stem for stem in stems if stem not in known]
    if split == "photos_train_aug" and lost and sbd is None:
        raise InputError(f"{home}: no mask of {lost[0]}; run `python -m hgrl fetch sbd`")
    return masks if len(lost) < len(masks) else ()


def _train_aug(home: Path, sbd: Path) -> tuple[str, ...]:
    """Sorted names of (VOC train + SBD) - VOC val."""
    train, val = (set(_stems(home / LISTS / f"{split}.txt")) for split in ("train", "val"))
    extra = sbd_masks(sbd, "train").keys() | sbd_masks(sbd, "val").keys()
    return tuple(sorted((train | extra) - val))


def _list_file(home: Path, split: str) -> Path:
    path, other = (home / LISTS / f"{name}.txt" for name in (split, "trainaug"))
    shipped = shipped_list("voc", split)
    if path.exists() or shipped.exists():
        return path if path.exists() else shipped
    if split == "train_aug" and not other.exists():
        remedy = "run `python -m hgrl fetch sbd`, or get the list with its folder SegmentationClassAug"
        raise InputError(f"{path}: no such split file; no SBD beside VOC either: {remedy}")
    return other if split == "train_aug" else path


def _stems(list_file: Path, photos: Files | None = None) -> tuple[str, ...]:
    """The names in a list; repeated ones count once.

    A line is a name, with spaces or a suffix if the image's file has them; or the paths of image and mask."""
    return tuple(dict.fromkeys(_stem(words, photos or {}) for words in read_list(list_file)))


def _stem(words: list[str], photos: Files) -> str:
    for name in (" ".join(words), words[0]):
        bare = Path(name).stem if "/" in name or Path(name).suffix.lower() in SUFFIXES else name
        if bare in photos:
            return bare
    return bare


def _classes(home: Path) -> tuple[str, ...]:
    """VOC's classes, or those of `classes.txt`: a line's number is its class's id, so none may be empty."""
    path = home / "classes.txt"
    if not path.exists():
        return CLASSES
    names = [" ".join(line.split()) for line in read_lines(path)]
    while names and not names[-1]:
        names.pop()
    for number, name in enumerate(names, 1):
        if not name or name in names[: number - 1]:
            what = f"{name!r} stands there twice" if name else "is empty"
            raise InputError(f"{path}: line {number}: {what}; name the class of each id, from 0, once")
    if not 2 <= len(names) <= VOID:
        raise InputError(f"{path}: {len(names)} classes; 2 to {VOID} fit masks of 8 bits, where 255 is void")
    return tuple(names)
