"""Edge maps of photographs: by the shipped structured forest, or by a trained edge network (`edges: hed`)."""

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from hgrl.core.errors import InputError
from hgrl.core.settings import GroupingSettings
from hgrl.grouping.forest.detect import edge_bins, edge_strength
from hgrl.grouping.forest.features import MARGIN
from hgrl.grouping.forest.model import Forest
from hgrl.grouping.forest.samples import PAD, pad_image

MODEL = Path(__file__).parent / "models" / "bsds500.npz"


class EdgeNetwork(NamedTuple):
    """Where the network of `edges: hed` lies, and its torch device: what a worker process can be sent."""

    weights: Path
    device: str = "cpu"


def detect_edges(
    image: np.ndarray, settings: GroupingSettings, network: EdgeNetwork | None = None
) -> np.ndarray:
    """Edge strength of an image (H, W, 3) uint8 RGB, or (H, W) grey: (H, W) float32 in [0, 1].

    The mean of the detector's answers at `settings.scales` (times `settings.image_scale`), each sharpened by
    `settings.sharpen` px at its scale and brought back to the image's size. The image is reflected at its
    border, where the detector fades; any size works, down to one pixel. With `edges: hed`, `network` detects
    instead, and nothing is sharpened; InputError when none is given."""
    image = np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image
    size, maps = image.shape[1::-1], []
    for scale in (scale * settings.image_scale for scale in settings.scales):
        resized = _resized(image, tuple(max(1, round(side * scale)) for side in size), scale)
        edges = _ask_network(resized, network) if settings.edges == "hed" else _ask_forest(resized, settings)
        maps.append(_resized(edges, size, 1 / scale))
    return np.clip(np.mean(maps, axis=0), 0, 1).astype(np.float32)


def _resized(image: np.ndarray, size: tuple[int, int], scale: float) -> np.ndarray:
    if image.shape[1::-1] == size:
        return image
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def _ask_network(image: np.ndarray, network: EdgeNetwork | None) -> np.ndarray:
    if network is None:
        remedy = "train one with `python -m hgrl train-hed`"
        raise InputError(f"setting 'grouping.edges': hed needs a trained edge network; {remedy}")
    from hgrl.grouping.hed.network import detect, load_hed  # here: only `edges: hed` needs torch

    return detect(image, load_hed(network.weights, network.device))


def _ask_forest(image: np.ndarray, settings: GroupingSettings) -> np.ndarray:
    padded, pad = pad_image(pad_image(image), MARGIN), PAD + MARGIN
    edges = edge_strength(*shipped_forest(), padded, settings.sharpen)
    return edges[pad : pad + image.shape[0], pad : pad + image.shape[1]]


@lru_cache(maxsize=1)
def shipped_forest() -> tuple[Forest, tuple[np.ndarray, np.ndarray]]:
    """The shipped forest and its leaves' boundaries, read once per process."""
    forest = Forest.load(MODEL)
    return forest, edge_bins(forest)
