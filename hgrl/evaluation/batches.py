"""What a probe learns from: layers and masks of random crops, or of whole images embedded once."""

from collections.abc import Iterator

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


def read_pair(samples: Samples, index: int, short_side: int | None, stride: int = 1) -> tuple[Tensor, Tensor]:
    """An image, (3, H, W) uint8, and its mask read at the centres of its cells of stride x stride pixels."""
    image = torch.from_numpy(samples.image(index, short_side)).permute(2, 0, 1).contiguous()
    mask = torch.from_numpy(samples.mask(index))
    size = [-(-side // stride) for side in image.shape[-2:]]
    return image, F.interpolate(mask[None, None], size=size, mode="nearest-exact")[0, 0]


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
    """Endless batches of whole images and their mirror images, embedded once.

    Masks are read at the centres of the embedding's cells: a loss over all pixels takes sixteen times as
    long. Raises InputError for images of different sizes, which do not stack."""
    parts, masks = {layer: [] for layer in layers}, []
    for indices in torch.arange(len(train)).split(EMBEDDED_AT_ONCE):
        pairs = [read_pair(train, i, settings.short_side, STRIDES["embedding"]) for i in indices.tolist()]
        if len({image.shape for image, _ in pairs}) > 1:
            raise InputError("setting 'probe.crops': images differ in size; set it to true")
        images, truths = (torch.stack(column) for column in zip(*pairs, strict=True))
        masks += [truths, truths.flip(-1)]
        for seen in (images, images.flip(-1)):
            for layer, embedded in zip(layers, features(seen, layers), strict=True):
                parts[layer].append(embedded.cpu())
    maps, truth = {layer: torch.cat(part) for layer, part in parts.items()}, torch.cat(masks)
    for batch in EpochOrder(len(truth), settings.batch, FOREVER, mixed_seed(seed, 3)):
        rows = [index for _, index in batch]
        chosen = {layer: embedded[rows].to(features.device) for layer, embedded in maps.items()}
        yield chosen, truth[rows].to(features.device)
