"""What evaluations read: a network's layers, or a baseline that learns nothing, behind one interface."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hgrl.core.errors import InputError
from hgrl.core.settings import TrackingSettings
from hgrl.evaluation import colour as feature_baselines
from hgrl.evaluation.colour import FeatureFunction
from hgrl.pretraining.network import Network, normalise

# of a network's layers; the baselines use the same grids
STRIDES = {"backbone": 16, "hypercolumn": 4, "embedding": 4}


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
    "lab-position": (
        lambda pixels, stride: feature_baselines.lab_colour(pixels, with_position=True, stride=stride),
        5,
    ),
}


def with_lab(function: FeatureFunction, layer: str, share: float) -> FeatureFunction:
    """The features of `function`, maps of a layer's stride, joined with Lab colour: (B, H, W, 3) uint8 -> (B,
    C + 6, h, w), of length 1.

    The cosine of two cells is (1 - share) times that of the features plus `share` times that of the colours
    (`lab_angles`).
    Not the paper's: its embedding is trained to see past colour, which tracking can use.
    """

    def joined(images: np.ndarray) -> Tensor:
        own = F.normalize(function(images).float(), dim=1)
        colour = feature_baselines.lab_angles(images, stride=STRIDES[layer]).to(own.device)
        return torch.cat([own * (1 - share) ** 0.5, colour * share**0.5], 1)

    return joined


def single_layer(features: Features, layer: str) -> FeatureFunction:
    """One layer as a function of (B, H, W, 3) uint8 arrays, without gradients: what retrieval and tracking
    take.
    """
    if layer not in STRIDES:
        raise InputError(f"setting 'layer': {layer!r} is not one of {', '.join(STRIDES)}")

    def function(images: np.ndarray) -> Tensor:
        with torch.no_grad():
            return features(torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2), [layer])[0]

    return function


def tracking_features(
    features: Features, settings: TrackingSettings, layers: Sequence[str]
) -> FeatureFunction:
    """What a run is tracked with: `tracking.layer`, or the backbone where that is not one of the `layers` it
    trained.

    A layer "...+lab" joins Lab colour to a network's features; baselines stay what they are.
    """
    layer, _, colour = settings.layer.partition("+")
    layer = layer if layer in layers else "backbone"
    function = single_layer(features, layer)
    return (
        with_lab(function, layer, settings.lab_share)
        if colour and not isinstance(features, BaselineFeatures)
        else function
    )
