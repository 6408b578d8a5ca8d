"""COCO's photographs, for pretraining: images only, no labels are read.

Layout: `images/<split>/*.jpg`, or the official archives' `<split>/*.jpg`.
"""

from __future__ import annotations

from pathlib import Path

from hgrl.data.listing import find_folder, images_in
from hgrl.data.samples import Samples, sample_name


def open_coco(root: Path, folder: str, split: str) -> Samples:
    """All images of a split (`train2014`, `train2017`...), by name; `masks` is None. Raises InputError for a missing folder or split."""
    home = find_folder(root, folder, needs=".")
    home = home / "images" if (home / "images").is_dir() else home
    images = images_in(home / split)
    return Samples(tuple(sample_name(Path(folder).name, path.stem) for path in images), images)
