"""MSRC's object category database, version 2 (Shotton et al., ECCV 2006), as Microsoft's archive unpacks.

Layout: `Images/*.bmp`, `GroundTruth/*_GT.bmp`, whose colours are classes. The archive has no splits: this
package lists Shotton's train, validation (here `tune`) and test (here `val`)."""

from pathlib import Path

import numpy as np

from hgrl.core.errors import InputError
from hgrl.core.labels import VOID
from hgrl.data.images import read_image
from hgrl.data.sets.listing import read_list, require_files, shipped_list

FOLDERS = "Images", "GroundTruth"
SUFFIX = "_GT.bmp"
# The archive's own table (its web page, and nnGraphMSRC in Gould's Darwin). Black, horse (128, 0, 128) and
# mountain (64, 0, 0) are void: too few are labelled so, and the benchmark's 21 classes are without them.
COLOURS = {
    "building": (128, 0, 0), "grass": (0, 128, 0), "tree": (128, 128, 0), "cow": (0, 0, 128),
    "sheep": (0, 128, 128), "sky": (128, 128, 128), "aeroplane": (192, 0, 0), "water": (64, 128, 0),
    "face": (192, 128, 0), "car": (64, 0, 128), "bicycle": (192, 0, 128), "flower": (64, 128, 128),
    "sign": (192, 128, 128), "bird": (0, 64, 0), "book": (128, 64, 0), "chair": (0, 192, 0),
    "road": (128, 64, 128), "cat": (0, 192, 128), "dog": (128, 192, 128), "body": (64, 64, 0),
    "boat": (192, 64, 0),
}  # fmt: skip
UNSCORED = (0, 0, 0), (128, 0, 128), (64, 0, 0)
STRAY = 0.05  # of the pixels may be of no known colour, and are void


def find_msrc(root: Path, folder: str) -> Path | None:
    """The archive's folder below the data root, as `fetch` unpacks it or by itself, or None."""
    homes = (root / folder, root / folder / "MSRC_ObjCategImageDatabase_v2")
    return next((home for home in homes if all((home / name).is_dir() for name in FOLDERS)), None)


def msrc_files(home: Path, split: str) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Images and masks of `train`, `tune` or `val`. InputError for another split or a missing file."""
    listed = shipped_list("msrc", split)
    if not listed.exists():
        raise InputError(f"{home}: no split {split!r} of MSRC; choose one of: train, tune, val")
    stems = [name for name, *_ in read_list(listed)]
    images = tuple(home / "Images" / f"{stem}.bmp" for stem in stems)
    masks = tuple(home / "GroundTruth" / f"{stem}{SUFFIX}" for stem in stems)
    require_files((*images, *masks), listed)
    return images, masks


def read_colour_mask(path: Path) -> np.ndarray:
    """(H, W) uint8 ids in the order of `COLOURS`, 255 void. InputError for a mask in other colours."""
    colours = read_image(path)
    ids, known = np.full(colours.shape[:2], VOID, np.uint8), np.zeros(colours.shape[:2], bool)
    for id_, colour in enumerate((*COLOURS.values(), *UNSCORED)):
        here = (colours == colour).all(2)
        ids[here] = id_ if id_ < len(COLOURS) else VOID
        known |= here
    if 1 - known.mean() > STRAY:
        found = f"{1 - known.mean():.0%} of its pixels have none of MSRC's colours"
        raise InputError(f"{path}: {found}; fetch it again")
    return ids
