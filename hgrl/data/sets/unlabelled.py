"""Data sets for pretraining, without masks.

ImageNet (ILSVRC 2012): `train/<wnid>/*.JPEG`; `val` likewise, or flat. A folder is a class.
COCO: `images/<split>/`, or, as in the official archives, `<split>/`."""

import os
from pathlib import Path

from hgrl.core.errors import InputError
from hgrl.core.progress import bar
from hgrl.data.samples import Samples, sample_names
from hgrl.data.sets.listing import find_folder, images_in


def open_imagenet(root: Path, folder: str, split: str) -> Samples:
    """All images of `train` or `val`, by folder and name; labels unless they lie flat.

    Raises InputError for what is missing."""
    home = find_folder(root, folder, f"{folder}/ILSVRC/Data/CLS-LOC", needs=split) / split
    files: list[Path] = []
    if not home.is_dir():
        raise InputError(f"{home}: not a folder; unpack the archive of {split}")
    folders, labels = sorted(entry.name for entry in os.scandir(home) if entry.is_dir()), []
    for label, name in enumerate(bar(["", *folders], desc=f"list {folder}/{split}", delay=5), -1):
        found = (file for file in os.listdir(home / name) if file.lower().endswith((".jpeg", ".jpg")))
        files += [home / name / file for file in sorted(found) if not file.startswith(".")]
        labels += [label] * (len(files) - len(labels))
    if not files:
        raise InputError(f"{home}: no images in it; `python -m hgrl fetch imagenet` says what to put there")
    names, classed = sample_names(folder, files), -1 not in labels
    own = {"labels": tuple(labels), "classes": tuple(folders)} if classed else {}
    return Samples(names, tuple(files), **own)


def open_coco(root: Path, folder: str, split: str) -> Samples:
    """All images of a split (`train2014`...), by name, annotated or not. InputError for what is missing."""
    home = find_folder(root, folder, needs=".")
    images = images_in((home / "images" if (home / "images").is_dir() else home) / split)
    return Samples(sample_names(folder, images), images)
