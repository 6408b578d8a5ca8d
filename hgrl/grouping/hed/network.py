"""Holistically-nested edge detection: VGG-16 with an edge map after each of its stages, and their fusion.

Xie, Tu, "Holistically-nested edge detection" (ICCV 2015); "HED" in the paper's table 1. Not done: the 35 px
of padding in the first convolution (images are reflected instead), and the mean of the side outputs (the
fusion alone is the answer). Only this folder needs torch: it is imported where `edges: hed` asks for it."""

from itertools import chain

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.vgg import make_layers

CONVOLUTIONS = (2, 2, 3, 3, 3)  # in each stage of VGG-16
WIDTHS = (1, 2, 4, 8, 8)  # channels of each stage, in units of the first one's
KIND = "hed"  # what a weights file of this module says it is


class HED(nn.Module):
    """VGG-16's convolutions with a side output after the last one of each stage, and their fusion.

    width: channels of conv1 (64 in VGG-16). `features` has torchvision's names, so that its vgg16 (with
    `batch_norm` its vgg16_bn) fits. From scratch, so deep a chain trains only with batch normalisation."""

    def __init__(self, width: int = 64, batch_norm: bool = False) -> None:
        super().__init__()
        channels = [width * factor for factor in WIDTHS]
        stages = ([*[out] * count, "M"] for count, out in zip(CONVOLUTIONS, channels, strict=True))
        self.features = make_layers(list(chain.from_iterable(stages))[:-1], batch_norm)
        pools = [index for index, layer in enumerate(self.features) if isinstance(layer, nn.MaxPool2d)]
        self.ends = [index - 1 for index in (*pools, len(self.features))]  # the last layer of each stage
        self.sides = nn.ModuleList(nn.Conv2d(out, 1, 1) for out in channels)
        self.fusion = nn.Conv2d(len(channels), 1, 1)
        for layer in self.features:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(layer.bias)
        for side in self.sides:
            nn.init.normal_(side.weight, std=0.01)
            nn.init.zeros_(side.bias)
        nn.init.constant_(self.fusion.weight, 1 / len(self.sides))  # section 4.1 of HED: 1/5
        nn.init.zeros_(self.fusion.bias)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised images, H and W at least 16 -> six (B, 1, H, W) logits, the fusion last."""
        sides, features = [], images
        for index, layer in enumerate(self.features):
            features = layer(features)
            if index in self.ends:
                answer = self.sides[len(sides)](features)
                size = images.shape[-2:]
                sides.append(F.interpolate(answer, size, mode="bilinear", align_corners=False))
        return [*sides, self.fusion(torch.cat(sides, dim=1))]
