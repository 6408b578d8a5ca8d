"""Section 4.2's network: a ResNet from scratch, a hypercolumn over two of its stages, and the embedding."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from torchvision.ops import Conv2dNormActivation

from hgrl.core.errors import InputError
from hgrl.core.settings import NetworkSettings

BLOCKS = {
    "resnet18": (BasicBlock, [2, 2, 2, 2]),
    "resnet34": (BasicBlock, [3, 4, 6, 3]),
    "resnet50": (Bottleneck, [3, 4, 6, 3]),
}
LAYERS = ("backbone", "hypercolumn", "embedding")  # what a method trains
STRIDES = {
    "backbone": 16,
    "stages": 8,
    "hypercolumn": 4,
    "embedding": 4,
}  # what evaluations read: their grids


class Backbone(ResNet):
    """torchvision's ResNet, of any width, that ends at the deepest stage the hypercolumn reads.

    width: the stem's channels (64 in torchvision's own). Stage k (torchvision's `layer{k}`, Res{k+1}) has
    stride 2 ** (k + 1). The classifier and the stages behind the last one read are not built."""

    def __init__(self, name: str, width: int, stages: int) -> None:
        block, depths = BLOCKS[name]
        nn.Module.__init__(self)
        self._norm_layer, self.inplanes, self.dilation = nn.BatchNorm2d, width, 1
        self.groups, self.base_width = 1, 64
        self.conv1 = nn.Conv2d(3, width, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1, self.relu = nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        widths = [width * 2**stage for stage in range(stages)]
        plan = zip(widths, depths, (1, 2, 2, 2), strict=False)
        self.stages = nn.ModuleList(self._make_layer(block, *own) for own in plan)
        self.channels = [width * block.expansion for width in widths]
        initialise(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised images -> the output of every stage: (B, C_k, H / 2^(k+1), W / 2^(k+1))."""
        outputs = [self.maxpool(self.relu(self.bn1(self.conv1(images))))]
        for stage in self.stages:
            outputs.append(stage(outputs[-1]))
        return outputs[1:]

    @contextmanager
    def last_stride_out(self) -> Iterator[None]:
        """While it lasts the last stage (Res4) has no stride: its grid is Res3's, of stride 8.

        Weights unchanged, no dilation: as TimeCycle and CRW read every network for tracking."""
        strided = [layer for layer in self.stages[-1].modules() if getattr(layer, "stride", 1) == (2, 2)]
        for layer in strided:
            layer.stride = (1, 1)
        try:
            yield
        finally:
            for layer in strided:
                layer.stride = (2, 2)

    def as_own_names(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """torchvision's weights by the names they have here, without those of what is not built."""
        behind = tuple(f"layer{stage}." for stage in range(len(self.stages) + 1, 5)) + ("fc.",)
        read = {name: value for name, value in weights.items() if not name.startswith(behind)}
        for stage in range(len(self.stages)):
            read = {name.replace(f"layer{stage + 1}.", f"stages.{stage}."): read[name] for name in read}
        return read


class Hypercolumn(nn.Module):
    """Two stages, each through 3x3 conv-BN-ReLU, at a quarter of the input, concatenated (section 4.2)."""

    def __init__(self, stages: tuple[int, ...], stage_channels: list[int], channels: int) -> None:
        super().__init__()
        self.indices = [stage - 1 for stage in stages]
        projections = (Conv2dNormActivation(stage_channels[index], channels) for index in self.indices)
        self.projections = nn.ModuleList(projections)
        self.channels = channels * len(self.indices)

    def forward(self, stages: list[Tensor]) -> Tensor:
        pairs = zip(self.projections, self.indices, strict=True)
        projected = [projection(stages[index]) for projection, index in pairs]
        return _on_one_grid(projected, stages[0].shape[-2:])  # the first stage has stride 4


def _on_one_grid(maps: list[Tensor], size: Sequence[int]) -> Tensor:
    """Maps (B, C_k, h_k, w_k), resized bilinearly to `size` and concatenated: (B, sum C_k, h, w)."""
    return torch.cat(
        [F.interpolate(own, size=tuple(size), mode="bilinear", align_corners=False) for own in maps], 1
    )


class Network(nn.Module):
    """Backbone, hypercolumn and the final 3x3 convolution to the embedding F (32 channels in the paper)."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.backbone = Backbone(settings.backbone, settings.width, max(settings.hypercolumn_stages))
        stages, channels = settings.hypercolumn_stages, settings.hypercolumn_channels
        self.hypercolumn = Hypercolumn(stages, self.backbone.channels, channels)
        self.embedding = nn.Conv2d(self.hypercolumn.channels, settings.embedding_dim, 3, padding=1)
        initialise(self.hypercolumn)
        outputs = self.backbone.channels
        joined = sum(outputs[index] for index in self.hypercolumn.indices)
        widths = (outputs[-1], joined, self.hypercolumn.channels, settings.embedding_dim)
        self.channels = dict(zip(STRIDES, widths, strict=True))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised images -> (B, embedding_dim, H / 4, W / 4) embedding, not normalised."""
        return self.embedding(self.hypercolumn(self.backbone(images)))

    def features(self, images: Tensor, *layers: str) -> list[Tensor]:
        """The named ones of `STRIDES` in one forward pass, each (B, C, h, w).

        backbone is its last stage; stages are those that the hypercolumn reads (Res3 and Res4), at stride 8,
        concatenated: the backbone alone decides them, and every method trains it."""
        if unknown := [layer for layer in layers if layer not in STRIDES]:
            raise InputError(f"setting 'layer': {unknown[0]!r} is not one of {', '.join(STRIDES)}")
        stages = self.backbone(images)
        found = {"backbone": stages[-1]}
        if "stages" in layers:
            read = [stages[index] for index in self.hypercolumn.indices]
            found["stages"] = _on_one_grid(
                read, [-(-side // STRIDES["stages"]) for side in images.shape[-2:]]
            )
        if {"hypercolumn", "embedding"} & set(layers):
            found["hypercolumn"] = self.hypercolumn(stages)
        if "embedding" in layers:
            found["embedding"] = self.embedding(found["hypercolumn"])
        return [found[layer] for layer in layers]


def initialise(module: nn.Module) -> None:
    """He initialisation of convolutions, as in torchvision's ResNet."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
