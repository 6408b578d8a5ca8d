"""Images as the networks want them."""

import torch
from torch import Tensor

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # torchvision's, so that its weights fit


def normalise(images: Tensor) -> Tensor:
    """(B, 3, H, W) uint8 or float in [0, 255] -> float32, zero mean and unit deviation of ImageNet."""
    # filled in on the device: torch.tensor would copy from the host, and wait, in every step
    pixel = [[torch.full((1, 1), value, device=images.device) for value in values] for values in (MEAN, STD)]
    mean, std = map(torch.stack, pixel)
    return (images.float() / 255 - mean) / std


def grey(images: Tensor) -> Tensor:
    """(..., 3, H, W) uint8 or float RGB -> float32, the luma of ITU-R BT.601 in all three channels."""
    red, green, blue = images.float().unbind(-3)
    return (0.299 * red + 0.587 * green + 0.114 * blue).unsqueeze(-3).expand(images.shape)
