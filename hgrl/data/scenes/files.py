"""Writes rendered scenes in VOC's, DAVIS's and BSDS500's layouts, for the real data's loaders to read."""

import hashlib
import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from scipy.io import savemat
from scipy.ndimage import distance_transform_edt
from skimage.measure import label

from hgrl.core import files as store
from hgrl.data.samples import VOID
from hgrl.data.scenes.render import Picture, Scene

Checksums = dict[str, str]  # path under the root -> sha256 of the bytes
ANNOTATORS = 3


def write_voc(root: Path, name: str, scene: Scene, picture: Picture, labelled: bool) -> Checksums:
    """A JPEG; with `labelled`, class and object masks, 255 on pixels that no object has more than half of."""
    contents = {f"VOC2012/JPEGImages/{name}.jpg": jpeg(picture.image)}
    if labelled:
        classes = np.array([0, *(thing.class_id for thing in scene.things)], dtype=np.uint8)
        masks = {"SegmentationClass": classes[picture.objects], "SegmentationObject": picture.objects}
        for folder, ids in masks.items():
            mask = np.where(picture.mixed, VOID, ids).astype(np.uint8)
            contents[f"VOC2012/{folder}/{name}.png"] = palette_png(mask)
    return write_files(root, contents)


def write_davis(root: Path, name: str, frames: list[Picture]) -> Checksums:
    """A sequence of JPEGs, and palette masks with the objects' ids, without void."""
    contents = {}
    for t, picture in enumerate(frames):
        contents[f"DAVIS/JPEGImages/480p/{name}/{t:05d}.jpg"] = jpeg(picture.image)
        contents[f"DAVIS/Annotations/480p/{name}/{t:05d}.png"] = palette_png(picture.objects)
    return write_files(root, contents)


def write_bsds(root: Path, split: str, name: str, picture: Picture, rng: np.random.Generator) -> Checksums:
    """An image and its ground truth by three "annotators" of shaky hand, who differ in how fine they go."""
    maps = [_annotate(picture, level, rng) for level in range(ANNOTATORS)]
    contents = {f"BSDS500/data/images/{split}/{name}.jpg": jpeg(picture.image)}
    contents[f"BSDS500/data/groundTruth/{split}/{name}.mat"] = ground_truth_mat(maps)
    return write_files(root, contents)


def jpeg(image: np.ndarray) -> bytes:
    """(H, W, 3) uint8 -> JPEG, without the chroma subsampling that would smear a small picture's colours."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=92, subsampling=0)
    return buffer.getvalue()


def palette_png(ids: np.ndarray) -> bytes:
    """(H, W) uint8 -> palette PNG in VOC's colours."""
    image = Image.fromarray(ids)
    image.putpalette(voc_palette().ravel().tolist())
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
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
        cell[0, index] = {"Segmentation": regions.astype(np.uint16), "Boundaries": _boundaries(regions)}
    buffer = io.BytesIO()
    savemat(buffer, {"groundTruth": cell}, do_compression=True)
    # scipy's holds the time, and equal scenes must give equal bytes
    header = b"MATLAB 5.0 MAT-file, hgrl scenes".ljust(116)
    return header + buffer.getvalue()[116:]


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


def _boundaries(segmentation: np.ndarray) -> np.ndarray:
    """(H, W) uint8: 1 where the pixel to the right or below is of another region."""
    edges = np.zeros(segmentation.shape, dtype=np.uint8)
    edges[:, :-1] |= segmentation[:, :-1] != segmentation[:, 1:]
    edges[:-1] |= segmentation[:-1] != segmentation[1:]
    return edges


def write_files(root: Path, contents: dict[str, bytes]) -> Checksums:
    for path, content in contents.items():
        store.write_bytes(root / path, content, durable=False)
    return {path: hashlib.sha256(content).hexdigest() for path, content in contents.items()}
