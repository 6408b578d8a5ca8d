"""What a probe learns from: layers and masks of random crops, or of whole images embedded once."""

import itertools
from collections.abc import Iterator, Sequence

import cv2
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
from hgrl.pretraining.network import STRIDES
from hgrl.sampling.order import EpochOrder, mixed_seed

Batches = Iterator[tuple[dict[str, Tensor], Tensor]]  # layer -> (B, C, h, w) float32; masks (B, H, W) uint8
Kept = tuple[dict[str, Tensor], Tensor]  # layer -> (N, C, h, w) bfloat16; masks (N, H, W) uint8
FOREVER = 10**9  # epochs; the caller stops
EMBEDDED_AT_ONCE = 32  # whole images


class LabelledCrops(Dataset):
    """(epoch, index) -> a random resized crop of an image and its mask, flipped half of the time, by seed."""

    def __init__(self, samples: Samples, settings: ProbeSettings, seed: int) -> None:
        self.samples, self.settings, self.seed = samples, settings, seed
        crop = v2.RandomResizedCrop(settings.crop_size, scale=settings.crop_area, antialias=True)
        self.transform = v2.Compose([crop, v2.RandomHorizontalFlip()])
        self.decoded: dict[int, tuple[Tensor, Tensor]] = {}

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor]:
        epoch, index = key
        pair = self.decoded.get(index) or read_pair(self.samples, index, self.settings.short_side)
        if self.settings.keep_in_memory:
            self.decoded[index] = pair
        with torch.random.fork_rng(devices=[]):  # the CPU alone: see hgrl.sampling.augment
            torch.default_generator.manual_seed(mixed_seed(self.seed, epoch, index))
            image, mask = self.transform(tv_tensors.Image(pair[0]), tv_tensors.Mask(pair[1]))
        return image.as_subclass(Tensor), mask.as_subclass(Tensor)


def read_pair(samples: Samples, index: int, short_side: int | None) -> tuple[Tensor, Tensor]:
    """An image, (3, H, W) uint8, and its mask at the same size."""
    image = torch.from_numpy(samples.image(index, short_side)).permute(2, 0, 1).contiguous()
    return image, _mask_of(samples, index, image.shape[-2:])


def crop_batches(
    features: Features, layers: list[str], train: Samples, settings: ProbeSettings, seed: int, workers: int
) -> Batches:
    """Endless batches of random crops."""
    loader = DataLoader(
        LabelledCrops(train, settings, mixed_seed(seed, 4)),
        batch_sampler=EpochOrder(len(train), settings.batch, FOREVER, mixed_seed(seed, 3)),
        num_workers=workers,
        generator=torch.Generator(),  # not the global state, which the heads' dropout draws from
        pin_memory=features.device.type == "cuda",
        multiprocessing_context="forkserver" if workers else None,
    )
    for images, masks in loader:
        maps = features(images.to(features.device, non_blocking=True), layers)
        yield dict(zip(layers, maps, strict=True)), masks.to(features.device, non_blocking=True)


def whole_image_batches(
    features: Features, layers: list[str], train: Samples, settings: ProbeSettings, seed: int
) -> Batches:
    """Endless batches of whole images and their mirror images, embedded once, by seed; one size a batch.

    An epoch shows each once. Sides are rounded to whole cells of the coarsest layer, so that sizes are few.
    Masks are read at the centres of the embedding's cells: a loss over all pixels takes sixteen times as
    long. Kept in bfloat16: for a ResNet-18 of width 32 at 176x128 pixels, 135 KB an image for `stages`, 180
    KB for `embedding`, 45 KB for `backbone`."""
    groups = _embedded(features, layers, train, settings.short_side)
    if not groups:
        raise InputError("no images to learn from: the split is empty; check the profile's `data` section")
    sizes = [len(masks) for _, masks in groups]
    for group, rows in grouped_order(sizes, settings.batch, mixed_seed(seed, 3)):
        maps, masks = groups[group]
        chosen = {layer: kept[rows].to(features.device).float() for layer, kept in maps.items()}
        yield chosen, masks[rows].to(features.device)


def grouped_order(sizes: Sequence[int], batch: int, seed: int) -> Iterator[tuple[int, Tensor]]:
    """Endless (group, rows of it): an epoch has each row of each group once, in parts of about one length,
    at most `batch`, and in a new order by seed."""
    for epoch in itertools.count():
        generator = torch.Generator().manual_seed(mixed_seed(seed, epoch))
        parts = []
        for group, size in enumerate(sizes):
            rows = torch.randperm(size, generator=generator)
            parts += [(group, part) for part in rows.tensor_split(-(-size // batch))]
        for index in torch.randperm(len(parts), generator=generator).tolist():
            yield parts[index]


def _embedded(features: Features, layers: list[str], train: Samples, short_side: int | None) -> list[Kept]:
    """All images and their mirror images, a group for each size."""
    waiting, parts = {}, {}

    def embed(size: torch.Size) -> None:
        images, truths = (torch.stack(column) for column in zip(*waiting.pop(size), strict=True))
        maps, masks = parts.setdefault(size, ({layer: [] for layer in layers}, []))
        masks += [truths, truths.flip(-1)]
        for seen in (images, images.flip(-1)):
            for layer, embedded in zip(layers, features(seen, layers), strict=True):
                maps[layer].append(embedded.to("cpu", torch.bfloat16))

    for index in range(len(train)):
        image, mask = read_whole_cells(train, index, short_side)
        waiting.setdefault(image.shape, []).append((image, mask))
        if len(waiting[image.shape]) == EMBEDDED_AT_ONCE:
            embed(image.shape)
    for size in [*waiting]:
        embed(size)
    # layer by layer, so that parts and whole lie side by side for one of them alone
    return [
        ({layer: torch.cat(maps.pop(layer)) for layer in layers}, torch.cat(m)) for maps, m in parts.values()
    ]


def read_whole_cells(samples: Samples, index: int, short_side: int | None) -> tuple[Tensor, Tensor]:
    """An image, (3, H, W) uint8, resized so that both sides are multiples of 16; its mask at 4x4 pixels."""
    image, cell = samples.image(index, short_side), max(STRIDES.values())
    height, width = (max(1, round(side / cell)) * cell for side in image.shape[:2])
    image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    image = torch.from_numpy(image).permute(2, 0, 1).contiguous()
    return image, _mask_of(samples, index, [side // STRIDES["embedding"] for side in (height, width)])


def _mask_of(samples: Samples, index: int, size: Sequence[int]) -> Tensor:
    """A mask (H, W) uint8 at another size: read at the centres of the cells."""
    mask = torch.from_numpy(samples.mask(index))
    return F.interpolate(mask[None, None], size=tuple(size), mode="nearest-exact")[0, 0]
