"""Edge maps of photographs: by the shipped structured forest, or by a trained edge network (`edges: hed`)."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from hgrl.core.errors import InputError
from hgrl.core.settings import GroupingSettings
from hgrl.grouping.forest.detect import edge_strength
from hgrl.grouping.forest.export import edge_bins, export_key, export_opencv
from hgrl.grouping.forest.features import MARGIN
from hgrl.grouping.forest.model import Forest
from hgrl.grouping.forest.samples import PAD, pad_image

MODEL = Path(__file__).parent / "models" / "bsds500.npz"


class EdgeNetwork(NamedTuple):
    """Where the network of `edges: hed` lies, and the torch device it runs on: what a worker process can be
    sent."""

    weights: Path
    device: str = "cpu"


def detect_edges(
    image: np.ndarray, settings: GroupingSettings, network: EdgeNetwork | None = None
) -> np.ndarray:
    """Edge strength of an image (H, W, 3) uint8 RGB, or (H, W) grey: (H, W) float32 in [0, 1].

    The mean of the detector's answers at `settings.scales` (times `settings.image_scale`), each sharpened by
    `settings.sharpen` px at its scale and brought back to the image's size. The detector fades at the border,
    so the image is reflected by 16 px first; any size works, down to one pixel. With `edges: hed`, `network`
    detects instead, and nothing is sharpened; InputError when none is given."""
    image = np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image
    maps = [_detect_at(image, scale * settings.image_scale, settings, network) for scale in settings.scales]
    return np.clip(np.mean(maps, axis=0), 0, 1).astype(np.float32)


def _detect_at(
    image: np.ndarray, scale: float, settings: GroupingSettings, network: EdgeNetwork | None
) -> np.ndarray:
    height, width = image.shape[:2]
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    resized = (
        image if size == (width, height) else cv2.resize(image, size, interpolation=_interpolation(scale))
    )
    edges = _detect_by_network(resized, network) if settings.edges == "hed" else _detect(resized, settings)
    return (
        edges
        if size == (width, height)
        else cv2.resize(edges, (width, height), interpolation=_interpolation(1 / scale))
    )


def _interpolation(scale: float) -> int:
    return cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR


def _detect_by_network(image: np.ndarray, network: EdgeNetwork | None) -> np.ndarray:
    if network is None:
        raise InputError(
            "setting 'grouping.edges': hed needs a trained edge network; train one with `python -m hgrl train-hed`"
        )
    from hgrl.grouping.hed.network import detect, load_hed  # torch is only for those who ask for it

    return detect(image, load_hed(network.weights, network.device))


def _detect(image: np.ndarray, settings: GroupingSettings) -> np.ndarray:
    height, width = image.shape[:2]
    if settings.detector == "opencv":
        edges = opencv_detector().detectEdges(pad_image(image).astype(np.float32) / np.float32(255))
        return edges[PAD : PAD + height, PAD : PAD + width]
    pad = PAD + MARGIN  # OpenCV's detector adds the margin itself
    edges = edge_strength(*shipped_forest(), pad_image(pad_image(image), MARGIN), settings.sharpen)
    return edges[pad : pad + height, pad : pad + width]


@lru_cache(maxsize=1)
def shipped_forest() -> tuple[Forest, tuple[np.ndarray, np.ndarray]]:
    """The shipped forest and its leaves' boundaries, read once a process."""
    forest = Forest.load(MODEL)
    return forest, edge_bins(forest)


@lru_cache(maxsize=1)
def opencv_detector() -> Any:
    """OpenCV's detector with the shipped forest, made once a process (1 s)."""
    return cv2.ximgproc.createStructuredEdgeDetection(str(opencv_model()))


def opencv_model() -> Path:
    """The shipped forest in OpenCV's format: written at first use to the user's cache folder (`HGRL_CACHE`,
    or ~/.cache/hgrl)."""
    folder = Path(os.environ.get("HGRL_CACHE") or Path.home() / ".cache" / "hgrl")
    path = folder / f"structured-forest-{export_key(MODEL.read_bytes())}.yml.gz"
    if not path.exists():
        export_opencv(Forest.load(MODEL), path)
    return path
