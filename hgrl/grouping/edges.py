"""Edge maps of photographs: by the shipped structured forest, or by a network (`edges: hed`, `pidinet`)."""

from collections.abc import Sequence
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
PIDINET = MODEL.with_name("pidinet.pt")  # as `train-pidinet` writes it


class EdgeNetwork(NamedTuple):
    """Where the weights of an edge network lie, and its torch device: what a worker process can be sent."""

    weights: Path
    device: str = "cpu"


def edge_network(settings: GroupingSettings, network: EdgeNetwork | None = None) -> EdgeNetwork | None:
    """The network that detects: the one given, the shipped one for `edges: pidinet`, None for the forest.

    InputError when the settings ask for one that is not there."""
    if settings.edges == "forest":
        return None
    if network is not None:
        return network
    command = f"train one with `python -m hgrl train-{settings.edges}`"
    if settings.edges == "hed":
        raise InputError(f"setting 'grouping.edges': hed needs a trained edge network; {command}")
    if not PIDINET.is_file():
        what = "pidinet: its weights do not come with this version"
        raise InputError(f"setting 'grouping.edges': {what}; {command}, and copy it to {PIDINET}")
    return EdgeNetwork(PIDINET)


def detect_edges(
    image: np.ndarray, settings: GroupingSettings, network: EdgeNetwork | None = None
) -> np.ndarray:
    """Edge strength of an image (H, W, 3) uint8 RGB, or (H, W) grey: (H, W) float32 in [0, 1].

    The mean of the detector's answers at `settings.scales` (times `settings.image_scale`), each sharpened by
    `settings.sharpen` px at its scale and brought back to the image's size. The image is reflected at its
    border, where the detector fades; any size works, down to one pixel. With `edges: hed` or `pidinet`,
    `network` detects instead, and nothing is sharpened; InputError when none is given nor shipped."""
    return detect_edges_of([image], settings, network)[0]


def detect_edges_of(
    images: Sequence[np.ndarray], settings: GroupingSettings, network: EdgeNetwork | None = None
) -> list[np.ndarray]:
    """`detect_edges` of images of one size; a network sees them all at once, which on a GPU is faster."""
    images = [np.repeat(one[..., None], 3, axis=2) if one.ndim == 2 else one for one in images]
    network, size, maps = edge_network(settings, network), images[0].shape[1::-1], []
    for scale in (scale * settings.image_scale for scale in settings.scales):
        scaled = tuple(max(1, round(side * scale)) for side in size)
        resized = [_resized(one, scaled, scale) for one in images]
        answers = _ask_network(resized, settings, network) if network else _ask_forest(resized, settings)
        maps.append([_resized(edges, size, 1 / scale) for edges in answers])
    return [np.clip(np.mean(each, axis=0), 0, 1).astype(np.float32) for each in zip(*maps, strict=True)]


def _resized(image: np.ndarray, size: tuple[int, int], scale: float) -> np.ndarray:
    if image.shape[1::-1] == size:
        return image
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def _ask_network(
    images: list[np.ndarray], settings: GroupingSettings, network: EdgeNetwork
) -> list[np.ndarray]:
    from hgrl.grouping.edge_network import detect, load_network  # here: only networks need torch

    model = load_network(network.weights, settings.edges, network.device)
    return detect(images, model, mirror=settings.mirror and settings.edges == "pidinet")


def _ask_forest(images: list[np.ndarray], settings: GroupingSettings) -> list[np.ndarray]:
    (height, width), pad = images[0].shape[:2], PAD + MARGIN
    padded = (pad_image(pad_image(image), MARGIN) for image in images)
    answers = (edge_strength(*shipped_forest(), image, settings.sharpen) for image in padded)
    return [edges[pad : pad + height, pad : pad + width] for edges in answers]


@lru_cache(maxsize=1)
def shipped_forest() -> tuple[Forest, tuple[np.ndarray, np.ndarray]]:
    """The shipped forest and its leaves' boundaries, read once per process."""
    forest = Forest.load(MODEL)
    return forest, edge_bins(forest)
