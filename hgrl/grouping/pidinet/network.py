"""PiDiNet: a small edge network of pixel-difference convolutions, which fold into plain ones for inference.

Su, Liu, Yu, Hu, Liao, Tian, Pietikäinen, Liu, "Pixel difference networks for efficient edge detection" (ICCV
2021). Trained from scratch. No batch normalisation: it would have to cope with one image at a time. Not done:
the variants without CDCM and CSAM (-L), and the other orders of table 2 than [CARV] x 4."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KIND = "pidinet"  # what a weights file of this module says it is
SIZES = {"tiny": (20, 8), "small": (30, 12), "full": (60, 24)}  # C of the first stage, M of the side branches
STAGES = (1, 2, 4, 4)  # channels of each stage, in units of the first one's
ORDER = ("central", "angular", "radial", "vanilla")  # CARV, in each stage anew
DILATIONS = (5, 7, 9, 11)  # of CDCM
CLOCKWISE = (3, 0, 1, 6, 4, 2, 7, 8, 5)  # of each of the 3x3 places, the one before it around the centre
OUTER = (0, 2, 4, 10, 14, 20, 22, 24)  # of the 5x5 places: in eight directions at distance 2
INNER = (6, 7, 8, 11, 13, 16, 17, 18)  # and at distance 1
RING = (0, 1, 2, 3, 5, 6, 7, 8)  # of the 3x3 places: those eight directions


def plain_kernel(weight: Tensor, kind: str) -> Tensor:
    """The plain kernel (O, I, K, K) that does what the (O, I, 3, 3) weights do to differences of pixels.

    Section 3.2: sum_i w_i (x_i - x'_i) = sum_i w_i x_i - sum_i w_i x'_i. K is 5 if `kind` is radial, else 3.
    x'_i is the centre (central), the next pixel clockwise (angular), or the one at half the way (radial)."""
    flat = weight.flatten(2)
    if kind == "central":
        centre = torch.zeros_like(flat[0, 0])
        centre[4] = 1
        return (flat - flat.sum(dim=2, keepdim=True) * centre).view_as(weight)
    if kind == "angular":
        return (flat - flat[..., list(CLOCKWISE)]).view_as(weight)
    if kind == "radial":
        kernel, ring = flat.new_zeros(*flat.shape[:2], 25), flat[..., list(RING)]
        kernel[..., list(OUTER)] = ring
        kernel[..., list(INNER)] = -ring
        return kernel.unflatten(2, (5, 5))
    return weight


class DifferenceConv(nn.Conv2d):
    """A convolution of pixel differences, 3x3 weights without a bias; also trained in its folded form."""

    def __init__(self, inputs: int, outputs: int, kind: str, groups: int = 1) -> None:
        super().__init__(inputs, outputs, 3, padding=1, groups=groups, bias=False)
        self.kind = kind

    def forward(self, features: Tensor) -> Tensor:
        kernel = plain_kernel(self.weight, self.kind)
        return F.conv2d(features, kernel, padding=kernel.shape[-1] // 2, groups=self.groups)

    def folded(self) -> nn.Conv2d:
        """The plain convolution with the same answers."""
        kernel = plain_kernel(self.weight.detach(), self.kind)
        size = kernel.shape[-1]
        how = {"padding": size // 2, "groups": self.groups, "bias": False}
        plain = nn.Conv2d(self.in_channels, self.out_channels, size, **how)
        plain.weight = nn.Parameter(kernel, requires_grad=False)
        return plain


class Block(nn.Module):
    """Depthwise differences, ReLU, 1x1 and a shortcut; the first of a later stage halves the size first."""

    def __init__(self, inputs: int, outputs: int, kind: str, shrink: bool) -> None:
        super().__init__()
        self.shrink = shrink
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if shrink else nn.Identity()
        self.differences = DifferenceConv(inputs, inputs, kind, groups=inputs)
        self.mix = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        features = F.max_pool2d(features, 2) if self.shrink else features
        return self.mix(F.relu(self.differences(features))) + self.shortcut(features)


class Side(nn.Module):
    """A stage's edge logits (B, 1, h, w): CDCM (dilated context), CSAM (spatial attention), a 1x1."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(inputs, channels, 1)
        self.context = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=step, dilation=step, bias=False) for step in DILATIONS
        )
        self.attend = nn.Conv2d(channels, 4, 1)
        self.attention = nn.Conv2d(4, 1, 3, padding=1, bias=False)
        self.answer = nn.Conv2d(channels, 1, 1)
        for layer in (self.reduce, self.attend, self.answer):
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor) -> Tensor:
        reduced = self.reduce(F.relu(features))
        context = sum(layer(reduced) for layer in self.context)
        attention = torch.sigmoid(self.attention(self.attend(F.relu(context))))
        return self.answer(context * attention)


class PiDiNet(nn.Module):
    """Four stages of four layers with a side output each, and their fusion. size: a name in SIZES."""

    def __init__(self, size: str = "small") -> None:
        super().__init__()
        width, branch = SIZES[size]
        kinds, channels = ORDER * len(STAGES), [width * factor for factor in STAGES]
        self.first = DifferenceConv(3, width, kinds[0])
        self.stages = nn.ModuleList(nn.Sequential() for _ in STAGES)
        for layer in range(1, len(kinds)):
            stage, place = divmod(layer, len(ORDER))
            shrink = place == 0
            inputs = channels[stage - 1] if shrink else channels[stage]
            self.stages[stage].append(Block(inputs, channels[stage], kinds[layer], shrink))
        self.sides = nn.ModuleList(Side(inputs, branch) for inputs in channels)
        self.fusion = nn.Conv2d(len(STAGES), 1, 1)
        nn.init.constant_(self.fusion.weight, 1 / len(STAGES))
        nn.init.zeros_(self.fusion.bias)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised images, sides at least 8 -> five (B, 1, H, W) logits, the fusion last."""
        size, features, sides = images.shape[-2:], self.first(images), []
        for stage, side in zip(self.stages, self.sides, strict=True):
            features = stage(features)
            sides.append(F.interpolate(side(features), size, mode="bilinear", align_corners=False))
        return [*sides, self.fusion(torch.cat(sides, dim=1))]

    def fold(self) -> "PiDiNet":
        """Put plain convolutions in place of all differences, for inference; returns itself."""
        self.first = self.first.folded()
        for block in self.modules():
            if isinstance(block, Block):
                block.differences = block.differences.folded()
        return self
