"""Feature functions that learn nothing: colour, and colour with position.

A feature function maps images, (B, H, W, 3) uint8 RGB, to features, (B, C, h, w) float32. Every evaluation
takes one, so that the same code scores a trained network, a random one and plain colour.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import torch
import torch.nn.functional as F

FeatureFunction = Callable[[np.ndarray], torch.Tensor]
STRIDE = 4  # the embedding's grid is a quarter of its input (section 4.2); the baselines share it


def position(images: np.ndarray, stride: int = STRIDE) -> torch.Tensor:
    """(B, 2, h, w) x and y of each cell's centre in [-1, 1]: all that a position prior knows."""
    h, w = (-(-side // stride) for side in images.shape[1:3])
    x, y = ((torch.arange(count) + 0.5) * 2 / count - 1 for count in (w, h))
    return torch.stack(torch.meshgrid(x, y, indexing="xy")).expand(len(images), 2, h, w)


def lab_colour(images: np.ndarray, with_position: bool = False, stride: int = STRIDE) -> torch.Tensor:
    """Mean CIE Lab colour of each cell of stride x stride pixels.

    Returns (B, 3, ceil(H / stride), ceil(W / stride)) float32, Lab / 100 (L in [0, 1], a and b about [-1,
    1]); with_position appends x and y in [-1, 1]: 5 channels. Euclidean distances are perceptual: do not
    normalise (see `lab_angles`)."""
    lab = [cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB) for image in images]
    pixels = torch.from_numpy(np.stack(lab) / 100).permute(0, 3, 1, 2)
    features = F.avg_pool2d(pixels, stride, ceil_mode=True)  # B, 3, h, w
    return torch.cat([features, position(images, stride)], 1) if with_position else features


def lab_angles(images: np.ndarray, stride: int = STRIDE) -> torch.Tensor:
    """Lab colour as a point of the unit sphere, for retrieval and tracking, which compare directions.

    Each channel of Lab / 100 becomes an angle t and the pair (cos t, sin t) / sqrt(3): 6 channels of length
    1. Normalising changes nothing, and the cosine of two cells falls as their colours differ more, L
    included."""
    angles = lab_colour(images, stride=stride) * (torch.pi / 2)
    return torch.cat([angles.cos(), angles.sin()], 1) / 3**0.5
