"""Training patches for structured forests: BSDS500 as flat arrays and offsets into them."""

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
    width: int  # of the image
    map_width: int  # cells in a row of the padded image
    positive: np.ndarray  # flat numbers of patch positions near a boundary
    negative: np.ndarray

    def draw(self, share: int, generator: np.random.Generator) -> tuple[np.ndarray, ...]:
        """At most `share` positives and as many negatives, as the last four fields of `Patches`."""
        groups = self.positive, self.negative
        chosen = [generator.choice(group, min(share, len(group)), replace=False) for group in groups]
        flat = np.sort(np.concatenate(chosen)).astype(np.int64)
        row, column = np.divmod(flat, self.map_width)
        mask = (row * SHRINK + MARGIN - PAD) * self.width + column * SHRINK + MARGIN - PAD
        widths = [np.full(len(flat), width, np.int32) for width in (self.map_width, self.width)]
        return self.at_map + flat * CHANNELS, widths[0], self.at_mask + mask, widths[1]


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
        parts = [annotation.draw(share, generator) for annotation in self.annotations]
        places = (np.concatenate(column) for column in zip(*parts, strict=True))
        return Patches(self.regular, self.similarity, self.segments, *places)


def pad_image(image: np.ndarray, pad: int = PAD) -> np.ndarray:
    """Reflect by `pad` px on every side, then to a multiple of 4 on the right and below.

    Works on images smaller than the padding: the reflection is reflected again."""
    height, width = image.shape[:2]
    below, right = pad + (-(height + 2 * pad)) % 4, pad + (-(width + 2 * pad)) % 4
    return np.pad(image, ((pad, below), (pad, right), (0, 0)), mode="symmetric")


def read_training_set(bsds_root: Path, splits: tuple[str, ...] = ("train", "val")) -> TrainingSet:
    """`<bsds_root>/data/{images,groundTruth}/<split>` as flat arrays. InputError when any is missing."""
    root = Path(bsds_root).resolve()
    regular, similarity, segments, annotations = [], [], [], []
    at_map = at_mask = 0
    opened = [open_bsds(root.parent, root.name, split) for split in splits]  # all are there, or none is read
    for samples in opened:
        for i in range(len(samples)):
            padded = pad_image(samples.image(i))
            maps, map_width = feature_maps(padded), padded.shape[1] // SHRINK
            for segmentation in samples.ground_truth(i):
                places = _patch_positions(segmentation, map_width)
                annotations.append(Annotation(at_map, at_mask, segmentation.shape[1], map_width, *places))
                segments.append(segmentation.ravel())
                at_mask += segmentation.size
            regular.append(maps[0].ravel())
            similarity.append(maps[1].ravel())
            at_map += maps[0].size
    return TrainingSet(*map(np.concatenate, (regular, similarity, segments)), tuple(annotations))


def _patch_positions(segmentation: np.ndarray, map_width: int) -> tuple[np.ndarray, np.ndarray]:
    """Flat numbers (int32) of the patches whose mask is inside the image: near a boundary, and the others."""
    inside = np.ones(segmentation.shape, np.uint8)  # but where the right or the lower neighbour differs
    inside[:, :-1][segmentation[:, :-1] != segmentation[:, 1:]] = 0
    inside[:-1][segmentation[:-1] != segmentation[1:]] = 0
    distance = np.full(segmentation.shape, np.inf, np.float32)
    if not inside.all():
        distance = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    first, centre = (PAD - MARGIN) // SHRINK, MARGIN + LABEL // 2 - PAD
    rows, columns = (first + np.arange((side - LABEL) // SHRINK + 1) for side in segmentation.shape)
    near = distance[np.ix_(rows * SHRINK + centre, columns * SHRINK + centre)] < NEAR
    flat = (rows[:, None] * map_width + columns).astype(np.int32)
    return flat[near], flat[~near]
