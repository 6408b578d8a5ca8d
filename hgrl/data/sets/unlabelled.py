"""Data sets for pretraining, without masks.

ImageNet (ILSVRC 2012): `train/<wnid>/*.JPEG`; `val` likewise, or flat. A folder is a class.
`photos_train` and `photos_val` are the parts of Imagenette that this package lists.
COCO: `images/<split>/`, or, as in the official archives, `<split>/`."""

import os
from pathlib import Path

from hgrl.core.errors import InputError
from hgrl.core.progress import bar
from hgrl.data.images import SUFFIXES
from hgrl.data.samples import Samples, sample_names
from hgrl.data.sets.listing import find_folder, images_in, read_list, require_files, shipped_list

IMAGENETTE = ("imagenette2-160", "imagenette2-320", "imagenette2")  # what its archives unpack to


def open_imagenet(root: Path, folder: str, split: str) -> Samples:
    """All images of `train` or `val`, by folder and name; labels unless they lie flat.

    Raises InputError for what is missing."""
    listed = shipped_list("imagenet", split)
    if listed.exists():
        split = split.removeprefix("photos_")
    places = folder, f"{folder}/ILSVRC/Data/CLS-LOC", *(f"{folder}/{name}" for name in IMAGENETTE)
    home = find_folder(root, *places, needs=split) / split
    files: list[Path] = []
    if not home.is_dir():
        raise InputError(f"{home}: not a folder; unpack the archive of {split}")
    folders, labels = sorted(entry.name for entry in os.scandir(home) if entry.is_dir()), []
    for label, name in enumerate(bar(["", *folders], desc=f"list {folder}/{split}", delay=5), -1):
        found = (file for file in os.listdir(home / name) if file.lower().endswith(SUFFIXES))
        files += [home / name / file for file in sorted(found) if not file.startswith(".")]
        labels += [label] * (len(files) - len(labels))
    if not files:
        raise InputError(f"{home}: no images in it; `python -m hgrl fetch imagenet` says what to put there")
    own = {"labels": tuple(labels), "classes": tuple(folders)} if -1 not in labels else {}
    samples = Samples(sample_names(folder, files), tuple(files), **own)
    return samples.subset(_positions(files, home, listed)) if listed.exists() else samples


def _positions(files: list[Path], home: Path, listed: Path) -> list[int]:
    """Where the names of a list, `<class>/<stem>`, stand among the files. InputError for one that is not."""
    places = {f"{file.parent.name}/{file.stem}": index for index, file in enumerate(files)}
    names = [name for name, *_ in read_list(listed)]
    require_files((home / f"{name}.JPEG" for name in names if name not in places), listed)
    return [places[name] for name in names]


def open_coco(root: Path, folder: str, split: str) -> Samples:
    """All images of a split (`train2014`...), by name, annotated or not. InputError for what is missing."""
    home = find_folder(root, folder, needs=".")
    images = images_in((home / "images" if (home / "images").is_dir() else home) / split)
    return Samples(sample_names(folder, images), images)
