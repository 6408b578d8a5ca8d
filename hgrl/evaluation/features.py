"""What evaluations read: a network's layers, or a baseline that learns nothing, behind one interface."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from hgrl.core.errors import InputError
from hgrl.evaluation.colour import FeatureFunction, lab_angles, lab_colour, position
from hgrl.pretraining.network import Network, normalise

# of a network's layers; the baselines use the same grids
STRIDES = {"backbone": 16, "hypercolumn": 4, "embedding": 4}
BASELINES: dict[str, tuple[Callable[..., Tensor], int]] = {  # function and channels
    "position": (position, 2),
    "lab": (lab_angles, 6),
    "lab-position": (partial(lab_colour, with_position=True), 5),
}


class Features(Protocol):
    """Named layers as maps."""

    device: torch.device
    channels: dict[str, int]

    def __call__(self, images: Tensor, layers: Sequence[str]) -> list[Tensor]:
        """(B, 3, H, W) uint8 -> one (B, C, h, w) float32 map per layer."""


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


def single_layer(features: Features, layer: str) -> FeatureFunction:
    """One layer as a function of (B, H, W, 3) uint8 arrays, without gradients; InputError if unknown."""
    if layer not in STRIDES:
        raise InputError(f"setting 'layer': {layer!r} is not one of {', '.join(STRIDES)}")

    def function(images: np.ndarray) -> Tensor:
        with torch.no_grad():
            return features(torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2), [layer])[0]

    return function


def equal_sized(items: Iterable[tuple[np.ndarray, ...]], most: int) -> Iterator[tuple[np.ndarray, ...]]:
    """Tuples of arrays, stacked array by array: neighbours of equal shapes together, at most `most`."""
    for _, same in itertools.groupby(items, key=lambda item: [array.shape for array in item]):
        while batch := list(itertools.islice(same, most)):
            yield tuple(np.stack(arrays) for arrays in zip(*batch, strict=True))
