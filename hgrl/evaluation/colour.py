"""Feature functions that learn nothing: colour, and colour with position.

A feature function maps images, uint8 (B, H, W, 3) RGB, to features, float32 (B, C, h, w). Every evaluation
takes one, so that a trained network, a random one and plain colour are scored by the same code.
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
    y, x = torch.meshgrid(
        (torch.arange(h) + 0.5) * 2 / h - 1, (torch.arange(w) + 0.5) * 2 / w - 1, indexing="ij"
    )
    return torch.stack([x, y]).expand(len(images), 2, h, w)


def lab_colour(images: np.ndarray, with_position: bool = False, stride: int = STRIDE) -> torch.Tensor:
    """Mean CIE Lab colour of each cell of stride x stride pixels.

    Returns (B, 3, ceil(H / stride), ceil(W / stride)) float32, Lab / 100 (L in [0, 1], a and b about [-1,
    1]); with_position appends x and y in [-1, 1]: 5 channels. Euclidean distances are perceptual: do not
    normalise (see `lab_angles`).
    """
    lab = (
        np.stack([cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB) for image in images]) / 100
    )
    features = F.avg_pool2d(torch.from_numpy(lab).permute(0, 3, 1, 2), stride, ceil_mode=True)  # B, 3, h, w
    return torch.cat([features, position(images, stride)], 1) if with_position else features


def lab_angles(images: np.ndarray, stride: int = STRIDE) -> torch.Tensor:
    """Lab colour as a point of the unit sphere, for the evaluations that compare directions (retrieval,
    tracking).

    Each channel of Lab / 100 becomes an angle t and the pair (cos t, sin t) / sqrt(3): 6 channels of length
    1, so that normalising changes nothing and the cosine of two cells falls with their colours' difference,
    L's included.
    """
    angles = lab_colour(images, stride=stride) * (torch.pi / 2)
    return torch.cat([angles.cos(), angles.sin()], 1) / 3**0.5
