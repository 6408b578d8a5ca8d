"""What networks of motion share: pairs of frames, the correlation of two feature maps, warping by a flow."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

BLOCK = 16  # columns: fewer are slower to multiply, more are multiplied in vain


def correlation(first: Tensor, second: Tensor, reach: int) -> Tensor:
    """FlowNetC's cost volume (Dosovitskiy et al., ICCV 2015, section 3), of single cells.

    first, second: (B, C, h, w). Returns (B, (2 reach + 1)^2, h, w): the mean over channels of the product of
    first at p and second at p + d, d from (-reach, -reach) on, row by row; 0 where p + d is outside."""
    count, (channels, height, width) = 2 * reach + 1, first.shape[1:]
    padded = F.pad(second, [reach, reach + -width % BLOCK, reach, reach])
    # products of all columns of a block with all that lie in reach of it, of which the band is kept
    rows = F.pad(first, [0, -width % BLOCK]).permute(0, 2, 3, 1).unflatten(2, (-1, BLOCK)) / channels
    columns = torch.arange(BLOCK, device=first.device)[:, None] + torch.arange(count, device=first.device)
    columns = columns.expand(*rows.shape[:3], -1, -1)  # B, h, blocks, BLOCK, K
    found = []
    for top in range(count):
        others = padded[:, :, top : top + height].unfold(3, BLOCK + 2 * reach, BLOCK)
        found.append((rows @ others.permute(0, 2, 3, 1, 4)).gather(-1, columns))
    return torch.cat(found, -1).flatten(2, 3)[:, :, :width].permute(0, 3, 1, 2)


def warped(layers: Tensor, flow: Tensor) -> Tensor:
    """(B, C, h, w) layers looked up at p + flow(p), bilinearly; their border beyond. flow: (B, 2, h, w)."""
    height, width = layers.shape[-2:]
    x, y = (torch.arange(n, device=flow.device, dtype=flow.dtype) for n in (width, height))
    right, down = flow[:, 0] + x, flow[:, 1] + y[:, None]
    grid = torch.stack([(right + 0.5) * (2 / width) - 1, (down + 0.5) * (2 / height) - 1], -1)
    return F.grid_sample(layers, grid.to(layers.dtype), padding_mode="border", align_corners=False)


def resized_flow(flow: Tensor, size: tuple[int, int]) -> Tensor:
    """A flow (B, 2, h, w) in its own pixels -> (B, 2, *size) in the new ones."""
    height, width = (new / old for new, old in zip(size, flow.shape[-2:], strict=True))
    finer = F.interpolate(flow, size, mode="bilinear", align_corners=False)
    return torch.stack([width * finer[:, 0], height * finer[:, 1]], 1)


def pairs_of(clips: Tensor) -> tuple[Tensor, Tensor]:
    """Clips (B, T, C, S, S) -> every frame but the last and its successor, (B (T - 1), C, S, S) each."""
    return clips[:, :-1].flatten(0, 1), clips[:, 1:].flatten(0, 1)


def frames_of(model: nn.Module, *frames: np.ndarray) -> list[Tensor]:
    """(h, w, 3) uint8 frames as (1, 3, h, w) on a model's device."""
    device = next(model.parameters()).device
    return [torch.from_numpy(np.array(frame)).to(device).permute(2, 0, 1)[None] for frame in frames]


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.LeakyReLU(0.1))
