"""COCO: photographs for pretraining, and, where asked, class masks drawn from its instance annotations.

Layout: `images/<split>/*.jpg`, or the official archives' `<split>/*.jpg` with
`annotations/instances_<split>.json`. Polygons in text files (coco128-seg's `labels/`) are not read.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from hgrl.core.errors import InputError
from hgrl.data.images import image_size
from hgrl.data.samples import VOID, Samples, sample_name
from hgrl.data.sets.listing import find_folder, images_in


@dataclass(frozen=True)
class AnnotatedSamples(Samples):
    """Images with class masks that are drawn when they are asked for."""

    annotations: Path = Path()  # instances_<split>.json

    def mask(self, index: int) -> np.ndarray:
        """(H, W) uint8: 0 background, k + 1 the k-th of COCO's 80 classes in the order of its ids, 255 where
        two classes overlap.

        Crowds count as their class. An image that the annotations list without an object is background; one
        that they do not list, or list at another size, raises InputError.
        """
        table, path = load_annotations(self.annotations), self.images[index]
        if path.name not in table.images:
            raise InputError(f"{path}: not in {self.annotations}; use the annotations of this split")
        image = table.images[path.name]
        size, actual = (image["height"], image["width"]), image_size(path)
        if size != actual:
            sizes = f"mask is {size[1]}x{size[0]} but its image is {actual[1]}x{actual[0]}"
            raise InputError(f"{path}: {sizes} by {self.annotations}; fetch the pair again")
        mask = np.zeros(size, np.uint8)
        for note in table.coco.imgToAnns.get(image["id"], []):
            here, id_ = table.coco.annToMask(note).astype(bool), table.class_ids[note["category_id"]]
            mask[here] = np.where((mask[here] == 0) | (mask[here] == id_), id_, VOID)
        return mask


@dataclass(frozen=True)
class Annotations:
    """A parsed annotation file."""

    coco: Any  # pycocotools.coco.COCO
    images: dict[str, dict]  # file name -> COCO's entry
    class_ids: dict[int, int]  # COCO's category id -> the mask's id, from 1
    classes: tuple[str, ...]  # by the mask's id


def open_coco(root: Path, folder: str, split: str) -> Samples:
    """All images of a split (`train2014`, `train2017`...), by name, annotated or not; `masks` is None.

    Raises InputError for a missing folder or split.
    """
    home = find_folder(root, folder, needs=".")
    home = home / "images" if (home / "images").is_dir() else home
    images = images_in(home / split)
    return Samples(tuple(sample_name(Path(folder).name, path.stem) for path in images), images)


def open_coco_masks(root: Path, folder: str, split: str) -> AnnotatedSamples:
    """As `open_coco`, with class masks; raises InputError also for missing or damaged annotations."""
    samples, path = open_coco(root, folder, split), annotation_file(root, folder, split)
    return AnnotatedSamples(
        samples.names, samples.images, classes=load_annotations(path).classes, annotations=path
    )


def annotation_file(root: Path, folder: str, split: str) -> Path:
    return Path(root) / folder / "annotations" / f"instances_{split}.json"


@lru_cache(maxsize=2)  # train2014's takes some seconds and a gigabyte
def load_annotations(path: Path) -> Annotations:
    """Reads `instances_<split>.json` with pycocotools. Raises InputError for a missing or damaged file."""
    from pycocotools.coco import COCO  # here, for it imports matplotlib

    if not path.is_file():
        raise InputError(
            f"{path}: no such file; run `python -m hgrl fetch coco2014`, or use kind `coco`, which needs no annotations"
        )
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it tells how long it took
            coco = COCO(str(path))
        ids = sorted(coco.cats)
        images = {entry["file_name"]: entry for entry in coco.imgs.values()}
    except Exception as error:  # whatever JSON of another form leads to
        raise InputError(
            f"{path}: not COCO's instance annotations ({' '.join(str(error).split())}); fetch it again"
        ) from error
    if not ids or not images:
        raise InputError(f"{path}: no image or no category in it; fetch it again")
    classes = ("background", *(coco.cats[id_]["name"] for id_ in ids))
    return Annotations(coco, images, {id_: row for row, id_ in enumerate(ids, 1)}, classes)
