"""Networks with their authors' published weights, from files in the authors' own formats."""

import argparse
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import vgg16_bn
from torchvision.ops import Conv2dNormActivation

from hgrl.core.errors import InputError
from hgrl.core.settings import NetworkSettings
from hgrl.pretraining.network import Network


@dataclass(frozen=True)
class Format:
    """What an authors' file looks like."""

    what: str
    network: str  # of `NetworkSettings.backbone`, or of DeepCluster's two
    names: str  # regular expression of the names that are read; its group is torchvision's name
    inside: str = "state_dict"  # the key under which the tensors lie; they may also lie there without it
    padding: str = "zeros"  # of the convolutions


FORMATS = {  # method -> format
    "imagenet": Format("torchvision's resnet50", "resnet50", r"(.+)"),
    "moco-resnet50": Format("MoCo's ResNet-50", "resnet50", r"module\.encoder_q\.(.+)"),
    "timecycle-resnet50": Format("TimeCycle's ResNet-50", "resnet50", r"module\.encoderVideo\.(.+)"),
    "crw-resnet18": Format("CRW's ResNet-18", "resnet18", r"encoder\.(?:model\.)?(.+)", "model", "reflect"),
    "deepcluster-vgg16": Format("DeepCluster's VGG16", "vgg16", r"features\.(?:module\.)?(.+)"),
    "deepcluster-alexnet": Format("DeepCluster's AlexNet", "alexnet", r"features\.(?:module\.)?(.+)"),
}


class DeepCluster(nn.Module):
    """DeepCluster's convolutions (Caron et al., ECCV 2018) on a Sobel-filtered image, as far as stride 8.

    VGG16 up to conv4_3; AlexNet up to conv5, with the stride of its second pooling taken out."""

    def __init__(self, network: str, path: Path, method: str) -> None:
        super().__init__()
        whole, behind, channels = _vgg16() if network == "vgg16" else _alexnet()
        load_weights(whole, path, method)
        self.layers, self.channels = whole[:behind], {"backbone": channels}
        grey = torch.full((1, 3, 1, 1), 1 / 3)
        across = torch.tensor([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]])
        self.register_buffer("sobel", torch.stack([across, across.T])[:, None] * grey, persistent=False)

    @property
    def backbone(self) -> "DeepCluster":
        return self

    @contextmanager
    def last_stride_out(self) -> Iterator[None]:
        """Its stride is 8 anyway."""
        yield

    def features(self, images: Tensor, *layers: str) -> list[Tensor]:
        """(B, 3, H, W) normalised images -> [(B, C, H / 8, W / 8)], for the layer `backbone` alone."""
        edges = nn.functional.conv2d(images, self.sobel, padding=1)
        return [self.layers(edges) for _ in layers]


def _vgg16() -> tuple[nn.Sequential, int, int]:
    layers = vgg16_bn(weights=None).features
    layers[0] = nn.Conv2d(2, 64, 3, padding=1)
    return layers, 33, 512


def _alexnet() -> tuple[nn.Sequential, int, int]:
    convolutions = [(96, 11, 4, 2), (256, 5, 1, 2), (384, 3, 1, 1), (384, 3, 1, 1), (256, 3, 1, 1)]
    pooling = {0: nn.MaxPool2d(3, stride=2), 1: nn.MaxPool2d(3, stride=1, padding=1)}
    layers, channels = [], 2
    for number, own in enumerate(convolutions):
        layers += [*Conv2dNormActivation(channels, *own, bias=True)]
        layers += [pooling[number]] if number in pooling else []
        channels = own[0]
    return nn.Sequential(*layers), 17, 256


def authors_network(path: Path, method: str) -> nn.Module:
    """The network of a method in `FORMATS`, its backbone from the authors' file: see `load_weights`."""
    form = FORMATS[method]
    if form.network in ("vgg16", "alexnet"):
        return DeepCluster(form.network, path, method)
    network = Network(NetworkSettings(backbone=form.network))
    for layer in network.backbone.modules():
        if isinstance(layer, nn.Conv2d) and any(layer.padding):
            layer.padding_mode = form.padding
    load_weights(network.backbone, path, method)
    return network


def load_weights(backbone: nn.Module, path: Path, method: str) -> None:
    """Put an authors' file into a backbone. InputError, one line, unless each of its tensors is there, alone,
    and of its shape; and where a file cannot be read without running code that it brings."""
    form = FORMATS[method]
    try:
        state = _tensors(path, form)
        if hasattr(backbone, "as_own_names"):
            state = backbone.as_own_names(state)
        wanted, found = (
            {name for name in given if "tracked" not in name} for given in (backbone.state_dict(), state)
        )
        if wanted != found:
            there = f"{len(wanted & found)} of {len(wanted)} tensors are there"
            raise ValueError(f"{there}, and {len(found - wanted)} others")
        backbone.load_state_dict(state)
    except InputError:
        raise
    except Exception as error:  # torch and pickle raise a dozen different things on a broken or foreign file
        reason = f"not {form.what} weights ({' '.join(str(error).split())[:120]})"
        raise InputError(f"{path}: {reason}; download them again") from None


def _tensors(path: Path, form: Format) -> dict[str, Tensor]:
    """The tensors that are read, by torchvision's names; 3-D kernels of one frame as 2-D ones."""
    content = _content(path, form)
    content = content.get(form.inside, content)
    tensors = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    matched = ((re.fullmatch(form.names, name), value) for name, value in tensors.items())
    named = {re.sub(r"(conv\d)\.1\.", r"\1.", match[1]): value for match, value in matched if match}
    return {name: value.squeeze(2) if value.ndim == 5 else value for name, value in named.items()}


def _content(path: Path, form: Format) -> dict[str, Any]:
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # CRW's file holds its arguments
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        if foreign := re.search(r"Unsupported (?:global|class)[:\s]*(?:GLOBAL )?(\S+)", str(error)):
            holds = (
                f"{form.what} file holds more than tensors ({foreign[1]}), which loading could run as code"
            )
            saving = f"torch.save(torch.load(FILE, weights_only=False)[{form.inside!r}], FILE)"
            remedy = f"where you trust it, save its tensors alone: {saving}"
            raise InputError(f"{path}: {holds}; {remedy}") from None
        raise
