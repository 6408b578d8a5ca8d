"""COCO, for pretraining: images only, in `images/<split>/` or, as in the official archives, `<split>/`."""

from pathlib import Path

from hgrl.data.samples import Samples, sample_name
from hgrl.data.sets.listing import find_folder, images_in


def open_coco(root: Path, folder: str, split: str) -> Samples:
    """All images of a split (`train2014`, `train2017`...), by name, annotated or not; `masks` is None.

    Raises InputError for a missing folder or split."""
    home = find_folder(root, folder, needs=".")
    home = home / "images" if (home / "images").is_dir() else home
    images = images_in(home / split)
    return Samples(tuple(sample_name(Path(folder).name, path.stem) for path in images), images)
