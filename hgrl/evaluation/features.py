"""What evaluations read: a network's layers, or colour and position, which learn nothing."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hgrl.core.errors import InputError
from hgrl.data.normalise import grey, normalise
from hgrl.pretraining.network import STRIDES, Network

FeatureFunction = Callable[[np.ndarray], Tensor]  # images (B, H, W, 3) uint8 RGB -> (B, C, h, w) float32
DENSE_STRIDE = 8  # of the backbone as tracking reads it: `dense_backbone`


class NetworkFeatures:
    """The layers of a network, frozen and in evaluation mode until it is set to training."""

    def __init__(self, network: Network, device: torch.device, grey_input: bool = False) -> None:
        self.network, self.device, self.grey_input = network.to(device).eval(), device, grey_input
        self.channels = network.channels

    def __call__(self, images: Tensor, layers: Sequence[str]) -> list[Tensor]:
        """(B, 3, H, W) uint8 -> one (B, C, h, w) float32 map per layer; gradients in training mode alone."""
        images = grey(images.to(self.device)) if self.grey_input else images.to(self.device)
        images = normalise(images).contiguous(memory_format=torch.channels_last)
        with torch.set_grad_enabled(self.network.training and torch.is_grad_enabled()):
            return [layer.float() for layer in self.network.features(images, *layers)]


class BaselineFeatures:
    """Colour, position or both on the grids of a network's layers (`STRIDES`)."""

    device = torch.device("cpu")

    def __init__(self, name: str) -> None:
        self.function, channels = BASELINES[name]
        self.channels = dict.fromkeys(STRIDES, channels)

    def __call__(self, images: Tensor, layers: Sequence[str]) -> list[Tensor]:
        """(B, 3, H, W) uint8 -> one (B, C, h, w) float32 map per layer."""
        pixels = images.permute(0, 2, 3, 1).numpy()
        return [self.function(pixels, stride=STRIDES[layer]) for layer in layers]


Features = NetworkFeatures | BaselineFeatures


def position(images: np.ndarray, stride: int = STRIDES["embedding"]) -> Tensor:
    """(B, 2, h, w) x and y of each cell's centre in [-1, 1]: all that a position prior knows."""
    h, w = (-(-side // stride) for side in images.shape[1:3])
    x, y = ((torch.arange(count) + 0.5) * 2 / count - 1 for count in (w, h))
    return torch.stack(torch.meshgrid(x, y, indexing="xy")).expand(len(images), 2, h, w)


def lab_colour(images: np.ndarray, with_position: bool = False, stride: int = STRIDES["embedding"]) -> Tensor:
    """Mean CIE Lab / 100 of each cell of stride x stride pixels, (B, 3, h, w), and `position` if asked for.

    Euclidean distances are perceptual: do not normalise."""
    lab = [cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB) for image in images]
    pixels = torch.from_numpy(np.stack(lab) / 100).permute(0, 3, 1, 2)
    features = F.avg_pool2d(pixels, stride, ceil_mode=True)  # B, 3, h, w
    return torch.cat([features, position(images, stride)], 1) if with_position else features


def lab_angles(images: np.ndarray, stride: int = STRIDES["embedding"]) -> Tensor:
    """Lab colour on the unit sphere, (B, 6, h, w), for retrieval and tracking, which compare directions.

    Each channel of Lab / 100 becomes an angle t, and the pair (cos t, sin t) / sqrt(3): the more two colours
    differ, the smaller is their cosine."""
    angles = lab_colour(images, stride=stride) * (torch.pi / 2)
    return torch.cat([angles.cos(), angles.sin()], 1) / 3**0.5


def with_lab(function: FeatureFunction, stride: int, weight: float) -> FeatureFunction:
    """Features of a grid joined with Lab colour: (B, H, W, 3) uint8 -> (B, C + 6, h, w), of length 1.

    The cosine of two cells is (1 - weight) times that of the features plus weight times that of `lab_angles`.
    Not the paper's: its embedding is trained to see past colour, which tracking can use."""

    def joined(images: np.ndarray) -> Tensor:
        own = F.normalize(function(images).float(), dim=1)
        colour = lab_angles(images, stride=stride).to(own.device)
        return torch.cat([own * (1 - weight) ** 0.5, colour * weight**0.5], 1)

    return joined


BASELINES: dict[str, tuple[Callable[..., Tensor], int]] = {  # function and channels
    "position": (position, 2),
    "lab": (lab_angles, 6),
    "lab-position": (partial(lab_colour, with_position=True), 5),
}


def single_layer(features: Features, layer: str) -> FeatureFunction:
    """One layer as a function of (B, H, W, 3) uint8 arrays, without gradients; InputError if unknown."""
    if layer not in STRIDES:
        raise InputError(f"setting 'layer': {layer!r} is not one of {', '.join(STRIDES)}")

    @torch.no_grad()
    def function(images: np.ndarray) -> Tensor:
        return features(torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2), [layer])[0]

    return function


def dense_backbone(features: Features) -> FeatureFunction:
    """The backbone without its last stride, at `DENSE_STRIDE`; baselines on that grid."""
    if isinstance(features, BaselineFeatures):
        return partial(features.function, stride=DENSE_STRIDE)
    function = single_layer(features, "backbone")

    def dense(images: np.ndarray) -> Tensor:
        with features.network.backbone.last_stride_out():
            return function(images)

    return dense


def equal_sized(items: Iterable[tuple[np.ndarray, ...]], most: int) -> Iterator[tuple[np.ndarray, ...]]:
    """Tuples of arrays, stacked array by array: neighbours of equal shapes together, at most `most`."""
    for _, same in itertools.groupby(items, key=lambda item: [array.shape for array in item]):
        while batch := list(itertools.islice(same, most)):
            yield tuple(np.stack(arrays) for arrays in zip(*batch, strict=True))
