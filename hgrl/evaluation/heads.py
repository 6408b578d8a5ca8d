"""Heads that a probe trains on a layer's features. A head's name is "<kind>-<layer>"."""

from collections.abc import Iterable

from torch import nn
from torchvision.models.segmentation.deeplabv3 import ASPP
from torchvision.ops import Conv2dNormActivation

from hgrl.core.settings import ProbeSettings


def aspp_head(channels: int, classes: int, settings: ProbeSettings) -> nn.Module:
    """DeepLabV3's head (Chen et al. 2017): torchvision's ASPP, then 3x3 conv-BN-ReLU and a classifier."""
    width = settings.head_channels
    aspp = ASPP(channels, settings.atrous_rates, width)
    return nn.Sequential(aspp, *Conv2dNormActivation(width, width), nn.Conv2d(width, classes, 1))


def linear_head(channels: int, classes: int, settings: ProbeSettings) -> nn.Module:
    """One affine classifier per cell; batch normalisation lets layers of any scale share a learning rate."""
    return nn.Sequential(nn.BatchNorm2d(channels, affine=False), nn.Conv2d(channels, classes, 1))


def fcn_head(channels: int, classes: int, settings: ProbeSettings) -> nn.Module:
    """MoCo's head for PASCAL VOC (after Long et al. 2015): two dilated 3x3 conv-BN-ReLU and a classifier."""
    width, dilation = settings.head_channels, settings.fcn_dilation
    first, second = (Conv2dNormActivation(n, width, dilation=dilation) for n in (channels, width))
    return nn.Sequential(*first, *second, nn.Conv2d(width, classes, 1))


HEADS = {"aspp": aspp_head, "linear": linear_head, "fcn": fcn_head}


def build_head(name: str, channels: dict[str, int], classes: int, settings: ProbeSettings) -> nn.Module:
    """A fresh head: (B, C, h, w) of its layer, whose C is in `channels`, -> (B, classes, h, w) logits.

    On `stages`, whose parts differ in scale, each channel is normalised first."""
    layer = layer_of(name)
    head = HEADS[name.partition("-")[0]](channels[layer], classes, settings)
    if layer != "stages" or isinstance(head[0], nn.BatchNorm2d):
        return head
    return nn.Sequential(nn.BatchNorm2d(channels[layer], affine=False), *head)


def layer_of(head: str) -> str:
    """The layer that a head of this name reads."""
    return head.partition("-")[2]


def layers_read(names: Iterable[str]) -> list[str]:
    return sorted({layer_of(name) for name in names})
