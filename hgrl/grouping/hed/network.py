"""Holistically-nested edge detection: VGG-16 with an edge map after each of its stages, and their fusion.

Xie, Tu, "Holistically-nested edge detection" (ICCV 2015); "HED" in the paper's table 1. Not done: the 35 px
of padding in the first convolution (images are reflected instead), and the mean of the side outputs (the
fusion alone is the answer). Only this folder needs torch: it is imported where `edges: hed` asks for it."""

from functools import lru_cache
from itertools import chain
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.vgg import make_layers

from hgrl.core.checkpoint import load_checkpoint
from hgrl.core.errors import InputError
from hgrl.data.normalise import normalise

CONVOLUTIONS = (2, 2, 3, 3, 3)  # in each stage of VGG-16
WIDTHS = (1, 2, 4, 8, 8)  # channels of each stage, in units of the first one's
STRIDE = 16  # of the last stage
PAD = 8  # reflected px around an image: the network's own zeros at the border look like an edge
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


def balanced_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Class-balanced cross entropy (HED, equation 2), the mean over images.

    logits: (B, 1, H, W); target: (B, H, W) uint8, 1 edge, 0 none, else ignored. Per image, with beta the
    share of counted pixels that are no edge: -beta log p on edges and -(1 - beta) log(1 - p) elsewhere,
    summed; here divided by the number of counted pixels, so that the rate does not depend on the image's
    size. An image without an edge has beta = 1 and adds nothing."""
    edge, none = target == 1, target == 0
    counted = (edge | none).sum(dim=(1, 2), keepdim=True).clamp(min=1)
    beta = none.sum(dim=(1, 2), keepdim=True) / counted  # (B, 1, 1)
    weight = torch.where(edge, beta, torch.where(none, 1 - beta, 0.0))
    losses = F.binary_cross_entropy_with_logits(logits[:, 0].float(), edge.float(), reduction="none")
    return (weight * losses / counted).sum(dim=(1, 2)).mean()


def deep_loss(answers: list[Tensor], target: Tensor) -> Tensor:
    """The sum of `balanced_loss` over the side outputs and the fusion, each of weight 1 (HED, equation 4)."""
    return torch.stack([balanced_loss(answer, target) for answer in answers]).sum()


@torch.inference_mode()
def detect(image: np.ndarray, model: HED) -> np.ndarray:
    """Edge strength of an image (H, W, 3) uint8 RGB, or grey (H, W), of any size: float32 in [0, 1]."""
    image = np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image
    height, width = image.shape[:2]
    below, right = (PAD + -(side + 2 * PAD) % STRIDE for side in (height, width))
    padded = np.pad(image, ((PAD, below), (PAD, right), (0, 0)), mode="symmetric")
    pixels = torch.from_numpy(padded).permute(2, 0, 1)[None].to(next(model.parameters()).device)
    edges = torch.sigmoid(model(normalise(pixels).contiguous(memory_format=torch.channels_last))[-1])
    return edges[0, 0, PAD : PAD + height, PAD : PAD + width].float().cpu().numpy()


def load_hed(path: Path, device: str = "cpu") -> HED:
    """A weights file's network, read once per process. InputError if missing, foreign or half-trained."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; train the edge network with `python -m hgrl train-hed`")
    return _load(path, path.stat().st_mtime_ns, device)


@lru_cache(maxsize=1)
def _load(path: Path, changed: int, device: str) -> HED:
    saved = load_checkpoint(path)
    if not isinstance(saved.identity, dict) or saved.identity.get("kind") != KIND:
        raise InputError(f"{path}: holds no edge network; give a file that `python -m hgrl train-hed` wrote")
    if not saved.complete:
        remedy = "run `python -m hgrl train-hed` again to finish it"
        raise InputError(f"{path}: trained to step {saved.step} of {saved.total_steps} only; {remedy}")
    model = HED(saved.identity["settings"]["width"], saved.identity["batch_norm"])
    model.load_state_dict(saved.method)
    return model.to(device, memory_format=torch.channels_last).eval()
