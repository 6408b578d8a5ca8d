"""CamVid, SegNet's version: 11 classes and void, a list of `image label` pairs for each split."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from hgrl.core.errors import InputError
from hgrl.data.samples import Samples, sample_name
from hgrl.data.sets.listing import find_folder, read_list, require_files

CLASSES = (
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "signsymbol",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
)
UNSCORED = 11


def open_camvid(root: Path, folder: str, split: str) -> Samples:
    """Images and class masks of `<split>.txt`.

    Paths in the list are relative to the data set's folder; SegNet's own lists begin with `/SegNet/CamVid/`,
    which is dropped.
    Raises InputError for a missing folder, split or file, and for a line that is not a pair.
    """
    home = find_folder(root, folder, needs=".")
    list_file = home / f"{split}.txt"
    pairs = [_pair(home, words, list_file) for words in read_list(list_file)]
    images, masks = zip(*pairs)
    require_files(images + masks, list_file)
    return Samples(
        tuple(sample_name(Path(folder).name, path.stem) for path in images), images, masks, CLASSES, UNSCORED
    )


def _pair(home: Path, words: list[str], list_file: Path) -> tuple[Path, Path]:
    if len(words) != 2:
        raise InputError(
            f"{list_file}: expected `image label` on every line, got {' '.join(words)!r}; fetch the list again"
        )
    image, label = (_inside(home, word) for word in words)
    return image, label


def _inside(home: Path, word: str) -> Path:
    """The file a list's path means: as it stands, or its last two parts (`train/x.png`) under the data set's
    folder.
    """
    path = PurePosixPath(word)
    as_listed = home / path
    return as_listed if not path.is_absolute() and as_listed.is_file() else home.joinpath(*path.parts[-2:])
