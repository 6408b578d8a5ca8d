"""What a probe learns from: layers and masks of random crops, or of whole images whose frozen features are
computed once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from hgrl.core.errors import InputError
from hgrl.core.settings import ProbeSettings
from hgrl.data.samples import Samples
from hgrl.evaluation.features import Features
from hgrl.sampling.order import EpochOrder, mixed_seed

Maps = dict[str, Tensor]  # layer -> (B, C, h, w) float32
FOREVER = 10**9  # epochs; the caller stops
GRID = 4  # the embedding's stride
TOGETHER = 32  # whole images that are embedded at once


class LabelledCrops(Dataset):
    """(epoch, index) -> a random resized crop, flipped half of the time, of an image and its mask, by seed."""

    def __init__(self, samples: Samples, settings: ProbeSettings, seed: int) -> None:
        self.samples, self.settings, self.seed = samples, settings, seed
        crop = v2.RandomResizedCrop(settings.crop_size, scale=settings.crop_area, antialias=True)
        self.transform = v2.Compose([crop, v2.RandomHorizontalFlip()])
        self.kept: dict[int, tuple[Tensor, Tensor]] = {}

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor]:
        epoch, index = key
        image, mask = self._read(index)
        with torch.random.fork_rng(devices=[]):
            # the CPU alone: see hgrl.sampling.augment
            torch.default_generator.manual_seed(mixed_seed(self.seed, epoch, index))
            image, mask = self.transform(tv_tensors.Image(image), tv_tensors.Mask(mask))
        return image.as_subclass(Tensor), mask.as_subclass(Tensor)

    def _read(self, index: int) -> tuple[Tensor, Tensor]:
        if index in self.kept:
            return self.kept[index]
        image = (
            torch.from_numpy(self.samples.image(index, self.settings.short_side))
            .permute(2, 0, 1)
            .contiguous()
        )
        mask = torch.from_numpy(self.samples.mask(index))
        item = (image, F.interpolate(mask[None, None], size=image.shape[-2:], mode="nearest-exact")[0, 0])
        if self.settings.keep_in_memory:
            self.kept[index] = item
        return item


def crop_batches(
    features: Features,
    layers: Sequence[str],
    train: Samples,
    settings: ProbeSettings,
    seed: int,
    workers: int,
    frozen: bool,
) -> Iterator[tuple[Maps, Tensor]]:
    """Endless batches of random crops, (maps, masks (B, S, S) uint8); gradients reach the network behind
    `features` unless frozen.
    """
    loader = DataLoader(
        LabelledCrops(train, settings, mixed_seed(seed, 4)),
        batch_sampler=EpochOrder(len(train), settings.batch, FOREVER, mixed_seed(seed, 3)),
        num_workers=workers,
        generator=torch.Generator(),  # not the global state, which the heads' dropout draws from
        pin_memory=features.device.type == "cuda",
        multiprocessing_context="forkserver" if workers else None,
    )
    for images, masks in loader:
        with torch.set_grad_enabled(not frozen):
            maps = features(images.to(features.device, non_blocking=True), layers)
        yield dict(zip(layers, maps, strict=True)), masks.to(features.device, non_blocking=True)


def whole_image_batches(
    features: Features, layers: Sequence[str], train: Samples, settings: ProbeSettings, seed: int
) -> Iterator[tuple[Maps, Tensor]]:
    """Endless batches of whole images and their mirror images, (maps, masks (B, h, w) uint8), embedded once
    and kept in memory.

    Masks are read at the centres of the embedding's cells, a quarter of the image: a loss over all pixels
    takes sixteen times as long.
    Raises InputError for images of different sizes, which do not stack.
    """
    maps, masks = _embed_all(features, layers, train, settings)
    order = EpochOrder(len(masks), settings.batch, FOREVER, mixed_seed(seed, 3))
    for batch in order:
        rows = torch.tensor([index for _, index in batch])
        yield (
            {layer: kept[rows].to(features.device) for layer, kept in maps.items()},
            masks[rows].to(features.device),
        )


@torch.no_grad()
def _embed_all(
    features: Features, layers: Sequence[str], train: Samples, settings: ProbeSettings
) -> tuple[Maps, Tensor]:
    parts: dict[str, list[Tensor]] = {layer: [] for layer in layers}
    masks = []
    for first in range(0, len(train), TOGETHER):
        pairs = [_whole(train, index, settings) for index in range(first, min(first + TOGETHER, len(train)))]
        if len({(image.shape, mask.shape) for image, mask in pairs}) > 1:
            raise InputError(
                "setting 'probe.crops': images of different sizes cannot be used whole; set it to true"
            )
        images, batch_masks = (torch.stack(column) for column in zip(*pairs, strict=True))
        for seen, truth in ((images, batch_masks), (images.flip(-1), batch_masks.flip(-1))):
            for layer, embedded in zip(layers, features(seen, layers), strict=True):
                parts[layer].append(embedded.cpu())
            masks.append(truth)
    return {layer: torch.cat(batches) for layer, batches in parts.items()}, torch.cat(masks)


def _whole(train: Samples, index: int, settings: ProbeSettings) -> tuple[Tensor, Tensor]:
    image = torch.from_numpy(train.image(index, settings.short_side)).permute(2, 0, 1).contiguous()
    mask = torch.from_numpy(train.mask(index))
    size = [-(-side // GRID) for side in image.shape[-2:]]
    return image, F.interpolate(mask[None, None], size=size, mode="nearest-exact")[0, 0]
