"""The segmentation probe: new heads on frozen features, or on a network trained end to end (sections 4.2 and
5.1).

All heads of one network learn side by side from the same batches: the frozen features are computed once for
all.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.segmentation.deeplabv3 import ASPP

from hgrl.core.errors import InputError
from hgrl.core.labels import VOID
from hgrl.core.settings import ProbeSettings
from hgrl.data.samples import Samples
from hgrl.evaluation.features import Features
from hgrl.evaluation.probe_batches import crop_batches, whole_image_batches
from hgrl.metrics.segmentation import confusion_matrix, segmentation_scores
from hgrl.sampling.order import mixed_seed

TOGETHER = 16  # images of a scored split that are embedded at once


class AsppHead(nn.Sequential):
    """DeepLabV3's head (Chen et al. 2017): torchvision's ASPP, then 3x3 conv-BN-ReLU and a classifier."""

    def __init__(self, channels: int, classes: int, settings: ProbeSettings) -> None:
        width = settings.head_channels
        super().__init__(
            ASPP(channels, settings.atrous_rates, width),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, classes, 1),
        )


class LinearHead(nn.Sequential):
    """One affine classifier of each cell; the batch normalisation only brings layers of any scale to one
    learning rate.
    """

    def __init__(self, channels: int, classes: int, settings: ProbeSettings) -> None:
        super().__init__(nn.BatchNorm2d(channels, affine=False), nn.Conv2d(channels, classes, 1))


class FcnHead(nn.Sequential):
    """The head of MoCo's paper for PASCAL VOC (after Long et al. 2015): two dilated 3x3 conv-BN-ReLU and a
    classifier.
    """

    def __init__(self, channels: int, classes: int, settings: ProbeSettings) -> None:
        width, dilation = settings.head_channels, settings.fcn_dilation
        layers: list[nn.Module] = []
        for inputs in (channels, width):
            layers += [
                nn.Conv2d(inputs, width, 3, padding=dilation, dilation=dilation, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
        super().__init__(*layers, nn.Conv2d(width, classes, 1))


HEADS = {"aspp": AsppHead, "linear": LinearHead, "fcn": FcnHead}


def train_probe(
    features: Features,
    train: Samples,
    settings: ProbeSettings,
    seed: int,
    trained: nn.Module | None = None,
    workers: int = 0,
    tick: Callable[[int], None] = lambda steps: None,
) -> nn.ModuleDict:
    """SGD with cross entropy; returns trained heads by name: all of `settings.heads`, or the first alone when
    the network learns too.

    features: frozen, unless `trained` is the module behind them: then it learns with the head (end to end),
    for `end_to_end_iterations`.
    Deliberately not done: no auxiliary loss, no class weights, no multi-scale testing.
    """
    iterations = settings.iterations if trained is None else settings.end_to_end_iterations
    torch.manual_seed(mixed_seed(seed, 2))
    names = settings.heads if trained is None else settings.heads[:1]
    heads = build_heads(features.channels, len(train.classes), settings, names).to(features.device)
    layers = layers_read(names)
    parameters = [*heads.parameters(), *(trained.parameters() if trained is not None else [])]
    optimizer = torch.optim.SGD(
        parameters, lr=settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay
    )
    milestones = [round(milestone * iterations) for milestone in settings.milestones]
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, gamma=0.1)
    if trained is not None:
        trained.train()
    if trained is None and not settings.crops:
        batches = whole_image_batches(features, layers, train, settings, seed)
    else:
        batches = crop_batches(features, layers, train, settings, seed, workers, frozen=trained is None)
    for _, (maps, masks) in zip(range(iterations), batches):
        loss = sum(_cross_entropy(head(maps[name.partition("-")[2]]), masks) for name, head in heads.items())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        scheduler.step()
        tick(1)
    if trained is not None:
        trained.eval()
    return heads.eval()


def evaluate_probe(
    features: Features, heads: nn.ModuleDict, val: Samples, settings: ProbeSettings
) -> dict[str, dict[str, object]]:
    """Scores of each head over all of `val`: a matrix an image, logits brought bilinearly to the mask's own
    size.

    Returns {head: `hgrl.metrics.segmentation.segmentation_scores`}.
    """
    return split_scores(image_confusions(features, heads, val, settings), val.classes)


def image_confusions(
    features: Features, heads: nn.ModuleDict, val: Samples, settings: ProbeSettings
) -> dict[str, np.ndarray]:
    """The confusion matrix of every image by itself: {head: (N, C, C) int64}, N images in the split's order,
    C classes.
    """
    classes = len(val.classes)
    confusions: dict[str, list[np.ndarray]] = {name: [] for name in heads}
    for images, masks in equal_sized(val, settings.short_side):
        for name, predicted in predict(features, heads, images, masks.shape[1:]).items():
            confusions[name] += [
                confusion_matrix(mask, seen, classes) for mask, seen in zip(masks, predicted, strict=True)
            ]
    return {
        name: np.array(matrices, np.int64).reshape(-1, classes, classes)
        for name, matrices in confusions.items()
    }


def equal_sized(val: Samples, short_side: int | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """A split in its order, neighbours of one size together: (B, h, w, 3) and (B, H, W) uint8, B at most
    `TOGETHER`.
    """
    pairs = ((val.image(index, short_side), val.mask(index)) for index in range(len(val)))
    for _, same in itertools.groupby(pairs, key=lambda pair: (pair[0].shape, pair[1].shape)):
        while batch := list(itertools.islice(same, TOGETHER)):
            images, masks = zip(*batch, strict=True)
            yield np.stack(images), np.stack(masks)


def split_scores(confusions: dict[str, np.ndarray], classes: tuple[str, ...]) -> dict[str, dict[str, object]]:
    """The scores of a whole split from its images' matrices, {head: (N, C, C)}: one sum, not a mean over
    images.
    """
    return {name: segmentation_scores(matrices.sum(0), classes) for name, matrices in confusions.items()}


@torch.no_grad()
def predict(
    features: Features, heads: nn.ModuleDict, images: np.ndarray, size: tuple[int, int]
) -> dict[str, np.ndarray]:
    """Each head's class maps, (B, H, W) uint8 with (H, W) = `size`, for (B, h, w, 3) uint8 images."""
    layers, predicted = layers_read(heads), {}
    seen = torch.from_numpy(images).permute(0, 3, 1, 2).to(features.device)
    maps = dict(zip(layers, features(seen, layers), strict=True))
    for name, head in heads.items():
        logits = F.interpolate(
            head(maps[name.partition("-")[2]]), size=size, mode="bilinear", align_corners=False
        )
        predicted[name] = logits.argmax(1).to(torch.uint8).cpu().numpy()
    return predicted


def build_heads(
    channels: dict[str, int], classes: int, settings: ProbeSettings, names: Sequence[str]
) -> nn.ModuleDict:
    """A fresh head for each name "<kind>-<layer>", e.g. "aspp-backbone"; InputError for any other name."""
    heads = nn.ModuleDict()
    for name in names:
        kind, _, layer = name.partition("-")
        if kind not in HEADS or layer not in ("backbone", "hypercolumn", "embedding"):
            raise InputError(
                f"setting 'probe.heads': {name!r} is not <{'|'.join(HEADS)}>-<backbone|hypercolumn|embedding>"
            )
        heads[name] = HEADS[kind](channels[layer], classes, settings)
    return heads


def layers_read(names: Iterable[str]) -> list[str]:
    """The layers that heads of these names read."""
    return sorted({name.partition("-")[2] for name in names})


def _cross_entropy(logits: Tensor, masks: Tensor) -> Tensor:
    logits = F.interpolate(logits.float(), size=masks.shape[-2:], mode="bilinear", align_corners=False)
    scored = (masks != VOID).sum().clamp_min(1)  # a batch of void alone gives 0, not NaN
    return F.cross_entropy(logits, masks.long(), ignore_index=VOID, reduction="sum") / scored
