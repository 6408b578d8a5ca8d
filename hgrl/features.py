"""What evaluations read: a network's layers, or a baseline that learns nothing, behind one interface."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from hgrl import feature_baselines
from hgrl.errors import InputError
from hgrl.network import Network, normalise

STRIDES = {"backbone": 16, "hypercolumn": 4, "embedding": 4}  # of a network's layers; the baselines use the same grids


class Features(Protocol):
    """Named layers as maps."""

    device: torch.device
    channels: dict[str, int]

    def __call__(self, images: Tensor, layers: Sequence[str]) -> list[Tensor]:
        """(B, 3, H, W) uint8 -> one (B, C, h, w) float32 map a layer."""


class NetworkFeatures:
    """The layers of a network, in evaluation mode unless its owner says otherwise."""

    def __init__(self, network: Network, device: torch.device) -> None:
        self.network, self.device = network.to(device).eval(), device
        self.channels = network.channels

    def __call__(self, images: Tensor, layers: Sequence[str]) -> list[Tensor]:
        images = normalise(images.to(self.device)).contiguous(memory_format=torch.channels_last)
        return [layer.float() for layer in self.network.features(images, *layers)]


class BaselineFeatures:
    """Colour, position or both, averaged over the cells of a network's layers."""

    device = torch.device("cpu")

    def __init__(self, name: str) -> None:
        self.function, channels = BASELINES[name]
        self.channels = dict.fromkeys(STRIDES, channels)

    def __call__(self, images: Tensor, layers: Sequence[str]) -> list[Tensor]:
        pixels = images.permute(0, 2, 3, 1).numpy()
        return [self.function(pixels, stride=STRIDES[layer]) for layer in layers]


BASELINES: dict[str, tuple[Callable[..., Tensor], int]] = {
    "position": (feature_baselines.position, 2),
    "lab": (feature_baselines.lab_angles, 6),
    "lab-position": (lambda pixels, stride: feature_baselines.lab_colour(pixels, with_position=True, stride=stride), 5),
}


def single_layer(features: Features, layer: str) -> Callable[[np.ndarray], Tensor]:
    """One layer as a function of (B, H, W, 3) uint8 arrays, without gradients: what retrieval and tracking take."""
    if layer not in STRIDES:
        raise InputError(f"setting 'layer': {layer!r} is not one of {', '.join(STRIDES)}")

    def function(images: np.ndarray) -> Tensor:
        with torch.no_grad():
            return features(torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2), [layer])[0]

    return function
