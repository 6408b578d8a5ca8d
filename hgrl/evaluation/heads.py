"""The heads that a probe trains: each maps one layer, (B, C, h, w), to logits, (B, classes, h, w)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import nn
from torchvision.models.segmentation.deeplabv3 import ASPP

from hgrl.core.errors import InputError
from hgrl.core.settings import ProbeSettings
from hgrl.evaluation.features import STRIDES


class AsppHead(nn.Sequential):
    """DeepLabV3's head (Chen et al. 2017): torchvision's ASPP, then 3x3 conv-BN-ReLU and a classifier."""

    def __init__(self, channels: int, classes: int, settings: ProbeSettings) -> None:
        width = settings.head_channels
        aspp = ASPP(channels, settings.atrous_rates, width)
        super().__init__(aspp, *_conv_bn_relu(width, width), nn.Conv2d(width, classes, 1))


class LinearHead(nn.Sequential):
    """One affine classifier per cell; batch normalisation lets layers of any scale share a learning rate."""

    def __init__(self, channels: int, classes: int, settings: ProbeSettings) -> None:
        super().__init__(nn.BatchNorm2d(channels, affine=False), nn.Conv2d(channels, classes, 1))


class FcnHead(nn.Sequential):
    """MoCo's head for PASCAL VOC (after Long et al. 2015): two dilated 3x3 conv-BN-ReLU and a classifier."""

    def __init__(self, channels: int, classes: int, settings: ProbeSettings) -> None:
        width, dilation = settings.head_channels, settings.fcn_dilation
        first = _conv_bn_relu(channels, width, dilation)
        super().__init__(*first, *_conv_bn_relu(width, width, dilation), nn.Conv2d(width, classes, 1))


def _conv_bn_relu(inputs: int, width: int, dilation: int = 1) -> tuple[nn.Module, ...]:
    conv = nn.Conv2d(inputs, width, 3, padding=dilation, dilation=dilation, bias=False)
    return conv, nn.BatchNorm2d(width), nn.ReLU()


HEADS = {"aspp": AsppHead, "linear": LinearHead, "fcn": FcnHead}


def build_heads(
    channels: dict[str, int], classes: int, settings: ProbeSettings, names: Sequence[str]
) -> nn.ModuleDict:
    """A fresh head for each name "<kind>-<layer>", e.g. "aspp-backbone"; InputError for any other name."""
    heads = nn.ModuleDict()
    for name in names:
        kind, _, layer = name.partition("-")
        if kind not in HEADS or layer not in STRIDES:
            raise InputError(
                f"setting 'probe.heads': {name!r} is not <{'|'.join(HEADS)}>-<{'|'.join(STRIDES)}>"
            )
        heads[name] = HEADS[kind](channels[layer], classes, settings)
    return heads


def layer_of(head: str) -> str:
    """The layer that a head of this name reads."""
    return head.partition("-")[2]


def layers_read(names: Iterable[str]) -> list[str]:
    """The layers that heads of these names read."""
    return sorted({layer_of(name) for name in names})
