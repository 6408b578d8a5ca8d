"""Images as the networks want them."""

from __future__ import annotations

import torch
from torch import Tensor

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # torchvision's, so that its weights fit


def normalise(images: Tensor) -> Tensor:
    """(B, 3, H, W) uint8 or float in [0, 255] -> float32, zero mean and unit deviation of ImageNet."""
    mean, std = (_channels(values, images.device) for values in (MEAN, STD))
    return (images.float() / 255 - mean) / std


def _channels(values: tuple[float, ...], device: torch.device) -> Tensor:
    """(C, 1, 1), filled in on the device: torch.tensor would copy from the host, and wait, in every step."""
    return torch.stack([torch.full((1, 1), value, device=device) for value in values])
