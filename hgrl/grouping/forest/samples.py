"""Training patches for structured forests: BSDS500 as flat arrays and offsets into them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from hgrl.data.sets.bsds import open_bsds
from hgrl.grouping.forest.features import CHANNELS, LABEL, MARGIN, SHRINK, feature_maps
from hgrl.grouping.forest.growth import Patches

PAD = 16  # reflected pixels around an image, as when detecting
NEAR = LABEL // 2  # a patch whose centre is nearer than this to a human boundary is a positive


@dataclass(frozen=True)
class Annotation:
    """One human segmentation, and where patches may lie in it."""

    at_map: int  # first cell of its image in the flat maps
    at_mask: int  # first pixel in the flat segmentations
    shape: tuple[int, int]  # H, W of the image
    map_width: int  # cells in a row of the padded image
    positive: np.ndarray  # flat numbers of patch positions near a boundary
    negative: np.ndarray


@dataclass(frozen=True)
class TrainingSet:
    """All images' maps (flat float32) and segmentations (flat uint16), and annotations that point there."""

    regular: np.ndarray
    similarity: np.ndarray
    segments: np.ndarray
    annotations: tuple[Annotation, ...]

    def draw(self, count: int, seed: tuple[int, ...]) -> Patches:
        """About `count` random patches in image order, half of them positive, equally many per annotation."""
        generator = np.random.default_rng(seed)
        share = math.ceil(count / 2 / len(self.annotations))
        parts = [_draw_one(annotation, share, generator) for annotation in self.annotations]
        places = (np.concatenate(column) for column in zip(*parts, strict=True))
        return Patches(self.regular, self.similarity, self.segments, *places)


def pad_image(image: np.ndarray, pad: int = PAD) -> np.ndarray:
    """Reflect by `pad` px on every side, then on the right and below to a multiple of 4 (channels are halved
    twice).

    Works on images smaller than the padding: the reflection is reflected again."""
    height, width = image.shape[:2]
    below, right = pad + (-(height + 2 * pad)) % 4, pad + (-(width + 2 * pad)) % 4
    return np.pad(image, ((pad, below), (pad, right), (0, 0)), mode="symmetric")


def read_training_set(bsds_root: Path, splits: tuple[str, ...] = ("train", "val")) -> TrainingSet:
    """Maps and annotations of BSDS500's splits under `<bsds_root>/data/{images,groundTruth}`.

    Raises InputError when the folders, or a ground truth, are missing."""
    root = Path(bsds_root).resolve()
    readers = [
        (samples, i)
        for samples in (open_bsds(root.parent, root.name, split) for split in splits)
        for i in range(len(samples))
    ]
    regular, similarity, segments, annotations = [], [], [], []
    at_map = at_mask = 0
    for samples, i in readers:
        padded = pad_image(samples.image(i))
        maps = feature_maps(padded)
        for segmentation in samples.ground_truth(i):
            annotations.append(_annotation(segmentation, at_map, at_mask, padded.shape[1] // SHRINK))
            segments.append(segmentation.ravel())
            at_mask += segmentation.size
        regular.append(maps[0].ravel())
        similarity.append(maps[1].ravel())
        at_map += maps[0].size
    return TrainingSet(_joined(regular), _joined(similarity), _joined(segments), tuple(annotations))


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """np.concatenate that lets go of each part as it is copied: half the peak memory."""
    out, at = np.empty(sum(part.size for part in parts), parts[0].dtype), 0
    for k in range(len(parts)):
        part, parts[k] = parts[k], None
        out[at : at + part.size] = part
        at += part.size
    return out


def _annotation(segmentation: np.ndarray, at_map: int, at_mask: int, map_width: int) -> Annotation:
    rows, columns = _positions(segmentation.shape)
    distance = _boundary_distance(segmentation)
    centre = MARGIN + LABEL // 2 - PAD
    near = distance[np.ix_(rows * SHRINK + centre, columns * SHRINK + centre)] < NEAR
    flat = (rows[:, None] * map_width + columns[None, :]).astype(np.int32)
    return Annotation(at_map, at_mask, segmentation.shape, map_width, flat[near], flat[~near])


def _positions(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Cell rows and columns of patches whose mask lies inside the image."""
    first = (PAD - MARGIN) // SHRINK
    return tuple(np.arange(first, first + (side - LABEL) // SHRINK + 1) for side in shape)


def _boundary_distance(segmentation: np.ndarray) -> np.ndarray:
    """Pixels to the nearest pixel that differs from its right or lower neighbour: (H, W) float32."""
    inside = np.ones(segmentation.shape, np.uint8)
    inside[:, :-1][segmentation[:, :-1] != segmentation[:, 1:]] = 0
    inside[:-1][segmentation[:-1] != segmentation[1:]] = 0
    if inside.all():
        return np.full(segmentation.shape, np.inf, np.float32)
    return cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def _draw_one(annotation: Annotation, share: int, generator: np.random.Generator) -> tuple[np.ndarray, ...]:
    chosen = [
        generator.choice(group, min(share, len(group)), replace=False)
        for group in (annotation.positive, annotation.negative)
    ]
    flat = np.sort(np.concatenate(chosen)).astype(np.int64)
    row, column = np.divmod(flat, annotation.map_width)
    mask = (row * SHRINK + MARGIN - PAD) * annotation.shape[1] + column * SHRINK + MARGIN - PAD
    width, mask_width = (
        np.full(len(flat), cells, np.int32) for cells in (annotation.map_width, annotation.shape[1])
    )
    return annotation.at_map + flat * CHANNELS, width, annotation.at_mask + mask, mask_width
