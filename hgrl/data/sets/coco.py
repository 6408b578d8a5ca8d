"""COCO, for pretraining: images only, in `images/<split>/` or, as in the official archives, `<split>/`."""

from pathlib import Path

from hgrl.data.samples import Samples, sample_names
from hgrl.data.sets.listing import find_folder, images_in


def open_coco(root: Path, folder: str, split: str) -> Samples:
    """All images of a split (`train2014`...), by name, annotated or not. InputError for what is missing."""
    home = find_folder(root, folder, needs=".")
    images = images_in((home / "images" if (home / "images").is_dir() else home) / split)
    return Samples(sample_names(folder, images), images)
