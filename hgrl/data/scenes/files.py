"""Files of rendered scenes in VOC's, DAVIS's and BSDS500's layouts, for the real data's loaders to read."""

import io
from typing import Any

import cv2
import numpy as np
from PIL import Image
from scipy.io import savemat
from scipy.ndimage import distance_transform_edt
from skimage.measure import label

from hgrl.core.labels import VOID
from hgrl.data.scenes.appearance import SHAPES
from hgrl.data.scenes.backdrops import MATERIALS
from hgrl.data.scenes.render import Picture, Scene

CLASSES = ("background", *SHAPES, *MATERIALS)

Contents = dict[str, bytes]  # by path under the root


def voc_files(name: str, scene: Scene, picture: Picture, labelled: bool) -> Contents:
    """A JPEG; with `labelled`, class and object masks, 255 on pixels that no object has more than half of."""
    contents = {f"VOC2012/JPEGImages/{name}.jpg": _jpeg(picture.image)}
    if labelled:
        classes = np.array([0, *(thing.class_id for thing in scene.things)], dtype=np.uint8)
        stuff = np.array([CLASSES.index(material or "background") for material in scene.materials], np.uint8)
        labels = np.where(picture.objects == 0, stuff[picture.areas], classes[picture.objects])
        masks = {"SegmentationClass": labels, "SegmentationObject": picture.objects}
        for folder, ids in masks.items():
            mask = np.where(picture.mixed, VOID, ids).astype(np.uint8)
            contents[f"VOC2012/{folder}/{name}.png"] = palette_png(mask)
    return contents


def davis_files(name: str, frames: list[Picture], labelled: bool) -> Contents:
    """A sequence of JPEGs; with `labelled`, palette masks with the objects' ids, without void."""
    contents = {}
    for t, picture in enumerate(frames):
        contents[f"DAVIS/JPEGImages/480p/{name}/{t:05d}.jpg"] = _jpeg(picture.image)
        if labelled:
            contents[f"DAVIS/Annotations/480p/{name}/{t:05d}.png"] = palette_png(picture.objects)
    return contents


def bsds_files(split: str, name: str, picture: Picture, rng: np.random.Generator) -> Contents:
    """An image and its ground truth by three "annotators" of shaky hand, who differ in how fine they go."""
    maps = [_annotate(picture, level, rng) for level in range(3)]
    return {
        f"BSDS500/data/images/{split}/{name}.jpg": _jpeg(picture.image),
        f"BSDS500/data/groundTruth/{split}/{name}.mat": ground_truth_mat(maps),
    }


def _jpeg(image: np.ndarray) -> bytes:
    """(H, W, 3) uint8 -> JPEG, without the chroma subsampling that would smear a small picture's colours."""
    return _encoded(Image.fromarray(image), "JPEG", quality=92, subsampling=0)


def palette_png(ids: np.ndarray) -> bytes:
    """(H, W) uint8 -> palette PNG in VOC's colours."""
    image = Image.fromarray(ids)
    image.putpalette(voc_palette().ravel().tolist())
    return _encoded(image, "PNG")


def _encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def voc_palette() -> np.ndarray:
    """(256, 3) uint8, VOC's colours: an id's bits, three by three, from the colours' highest bits down."""
    ids = np.arange(256)[:, None]
    bits = [((ids >> (3 * place + np.arange(3))) & 1) << (7 - place) for place in range(8)]
    return np.sum(bits, axis=0).astype(np.uint8)


def ground_truth_mat(maps: list[np.ndarray]) -> bytes:
    """BSDS500's mat file of segmentations (H, W) with region ids from 1."""
    cell = np.empty((1, len(maps)), dtype=object)
    for index, regions in enumerate(maps):
        edges = np.zeros(regions.shape, dtype=np.uint8)  # where the pixel to the right or below is of another
        edges[:, :-1] |= regions[:, :-1] != regions[:, 1:]
        edges[:-1] |= regions[:-1] != regions[1:]
        cell[0, index] = {"Segmentation": regions.astype(np.uint16), "Boundaries": edges}
    buffer = io.BytesIO()
    savemat(buffer, {"groundTruth": cell}, do_compression=True)
    # scipy's header holds the time, and equal scenes must give equal bytes
    return b"MATLAB 5.0 MAT-file, hgrl scenes".ljust(116) + buffer.getvalue()[116:]


def _annotate(picture: Picture, level: int, rng: np.random.Generator) -> np.ndarray:
    """(H, W) uint16 ids from 1. Level 0: objects and background areas; 1: objects' parts too; 2: objects."""
    regions = picture.objects.astype(np.int32) * 4
    if level == 1:
        regions += picture.parts * 2
    if level != 2:
        regions += np.where(picture.objects == 0, picture.areas, 0)
    return _without_slivers(_shaken(regions, rng))


def _shaken(regions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Outlines displaced by a smooth field of up to about one pixel in 64."""
    size = len(regions)
    coarse = rng.normal(0, 0.5 * size / 64, size=(8, 8, 2)).astype(np.float32)
    shift = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    at = x + shift[..., 0], y + shift[..., 1]
    return cv2.remap(regions.astype(np.float32), *at, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)


def _without_slivers(regions: np.ndarray) -> np.ndarray:
    """Connected regions numbered from 1, those under 12 pixels in 64x64 given to their nearest neighbour."""
    connected = label(regions, background=-1, connectivity=1)
    small = np.bincount(connected.ravel())[connected] < 12 * (len(regions) / 64) ** 2
    nearest = distance_transform_edt(small, return_distances=False, return_indices=True)
    return label(connected[tuple(nearest)], background=-1, connectivity=1).astype(np.uint16)
