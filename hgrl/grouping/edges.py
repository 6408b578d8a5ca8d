"""Edge maps of photographs by the shipped structured forest."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from hgrl.config import GroupingSettings
from hgrl.grouping.forest import Forest
from hgrl.grouping.forest_detect import edge_strength
from hgrl.grouping.forest_export import edge_bins
from hgrl.grouping.forest_samples import PAD, pad_image

MODEL = Path(__file__).parent / "models" / "bsds500.npz"


def detect_edges(image: np.ndarray, settings: GroupingSettings) -> np.ndarray:
    """Edge strength of an image (H, W, 3) uint8 RGB, or (H, W) grey: (H, W) float32 in [0, 1].

    The mean of the detector's answers at `settings.scales` (times `settings.image_scale`), each brought back to the image's size. The
    detector fades at the border, so the image is reflected by 16 px first; any size works, down to one pixel.
    """
    image = np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image
    maps = [_detect_at(image, scale * settings.image_scale) for scale in settings.scales]
    return np.clip(np.mean(maps, axis=0), 0, 1).astype(np.float32)


def _detect_at(image: np.ndarray, scale: float) -> np.ndarray:
    height, width = image.shape[:2]
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    resized = image if size == (width, height) else cv2.resize(image, size, interpolation=_interpolation(scale))
    edges = _detect(resized)
    return edges if size == (width, height) else cv2.resize(edges, (width, height), interpolation=_interpolation(1 / scale))


def _interpolation(scale: float) -> int:
    return cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR


def _detect(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    edges = edge_strength(*shipped_forest(), pad_image(image))
    return edges[PAD : PAD + height, PAD : PAD + width]


@lru_cache(maxsize=1)
def shipped_forest() -> tuple[Forest, tuple[np.ndarray, np.ndarray]]:
    """The shipped forest and its leaves' boundaries, read once a process.

    `cv2.ximgproc` reads the file that `export_opencv` writes, and agrees; for a forest of this size that takes it minutes a process.
    """
    forest = Forest.load(MODEL)
    return forest, edge_bins(forest)
