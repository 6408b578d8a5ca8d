"""Training batches: images joined with their region trees, two views of each, in an order that a seed fixes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from hgrl.core.errors import InputError
from hgrl.core.interruption import ignore_sigterm
from hgrl.core.settings import Settings
from hgrl.data.samples import Samples
from hgrl.grouping.region_tree import RegionTree
from hgrl.pretraining.ranks import Share
from hgrl.sampling.augment import TwoViews
from hgrl.sampling.pixels import in_height_unit


@dataclass(frozen=True)
class Batch:
    """What a method's loss is given; V = 2 views."""

    images: Tensor  # (V, B, 3, S, S) uint8
    labels: Tensor  # (V, B, S / 4, S / 4) uint8, the region of each cell of the embedding
    distances: Tensor  # (B, R, R) float32, d_T in the height unit, padded with zeros
    progress: float  # share of the run that is done, in [0, 1)
    generator: torch.Generator  # on the images' device
    # (B, C) float32, 1 where the image shows the class; only for methods that need it
    classes: Tensor | None = None

    @property
    def flat_images(self) -> Tensor:
        return self.images.flatten(0, 1)


def mixed_seed(*parts: int) -> int:
    """A 63-bit seed from several numbers, the same on every machine."""
    digest = hashlib.blake2b(np.array(parts, dtype="<i8").tobytes(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


class TrainingViews(Dataset):
    """(epoch, index) -> two views of an image, the region labels of their cells, the distances of its tree.

    `trees` is None for methods without regions: labels and distances are then zeros. `height_scale` is the
    factor of
    `height_unit: auto`. With `with_classes` a fourth part says which classes the image's mask has, (C,)
    float32 of zeros and ones.
    """

    def __init__(
        self,
        samples: Samples,
        trees: Path | None,
        settings: Settings,
        seed: int,
        height_scale: float,
        with_classes: bool = False,
    ) -> None:
        self.samples, self.trees, self.settings, self.seed, self.height_scale = (
            samples,
            trees,
            settings,
            seed,
            height_scale,
        )
        self.with_classes = with_classes
        self.views = TwoViews(settings.augment)
        self.kept: dict[int, tuple[Tensor, ...]] = {}

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, ...]:
        epoch, index = key
        image, labels, *rest = self._read(index)
        images, labels = self.views(image, labels, mixed_seed(self.seed, epoch, index))
        return images, labels, *rest

    def _read(self, index: int) -> tuple[Tensor, ...]:
        if index in self.kept:
            return self.kept[index]
        image = (
            torch.from_numpy(self.samples.image(index, self.settings.data.short_side))
            .permute(2, 0, 1)
            .contiguous()
        )
        item = (image, *self._read_tree(index, tuple(image.shape[-2:])))
        if self.with_classes:
            item += (self._read_classes(index),)
        if self.settings.data.keep_in_memory:
            self.kept[index] = item
        return item

    def _read_classes(self, index: int) -> Tensor:
        shown = np.bincount(self.samples.mask(index).ravel(), minlength=256)[: len(self.samples.classes)] > 0
        return torch.from_numpy(shown.astype(np.float32))

    def _read_tree(self, index: int, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        regions = self.settings.grouping.max_regions
        distances = torch.zeros(regions, regions)
        if self.trees is None:
            return torch.zeros(size, dtype=torch.uint8), distances
        path = self.trees / f"{self.samples.names[index]}.npz"
        tree = RegionTree.load(path)
        if len(tree.heights) + 1 > regions:
            found = len(tree.heights) + 1
            raise InputError(
                f"{path}: {found} regions, but grouping.max_regions is {regions}; delete the trees and group again"
            )
        own = torch.from_numpy(
            in_height_unit(tree, self.settings.sampling.height_unit, self.height_scale).distances()
        )
        distances[: len(own), : len(own)] = own
        labels = torch.from_numpy(tree.labels)
        if labels.shape != size:
            labels = torch.nn.functional.interpolate(labels[None, None], size=size, mode="nearest-exact")[
                0, 0
            ]
        return labels, distances


class EpochOrder(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, index), each epoch in a new order by seed, the last partial batch dropped; may start
    at any step.

    share: this rank's part of every batch; `batch` stays the global batch, whose order does not depend on the
    number of ranks.
    """

    def __init__(
        self, images: int, batch: int, epochs: int, seed: int, start: int = 0, share: Share = Share()
    ) -> None:  # noqa: B008, frozen
        if not images:
            raise InputError(
                "no images to learn from: the split is empty; check the data root and the profile's `data` section"
            )
        self.images, self.batch, self.epochs, self.seed, self.start = (
            images,
            min(batch, images),
            epochs,
            seed,
            start,
        )
        self.share, self.steps_per_epoch = share, images // self.batch
        self.total = self.steps_per_epoch * epochs

    def __len__(self) -> int:
        return self.total - self.start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for epoch in range(self.start // self.steps_per_epoch, self.epochs):
            order = torch.randperm(
                self.images, generator=torch.Generator().manual_seed(mixed_seed(self.seed, epoch))
            ).tolist()
            first = max(self.start - epoch * self.steps_per_epoch, 0)
            for step in range(first, self.steps_per_epoch):
                yield [
                    (epoch, index)
                    for index in self.share.of(order[step * self.batch : (step + 1) * self.batch])
                ]


def batches(
    views: TrainingViews, order: EpochOrder, workers: int, device: torch.device
) -> Iterator[tuple[Tensor, ...]]:
    """(V, B, 3, S, S) uint8, (V, B, h, w) uint8, (B, R, R) float32 and, where views have them, (B, C) float32
    on the device, from `order.start` on.

    Loader processes decode and augment ahead (two batches each) for the whole run: one start, whatever the
    number of epochs. On a card batches are pinned, and their copy is queued without waiting for it.
    """
    loader = DataLoader(
        views,
        batch_sampler=order,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        # else each start of the loader draws from the global state, and a resumed run would differ
        generator=torch.Generator(),
        multiprocessing_context="forkserver" if workers else None,
        worker_init_fn=ignore_sigterm,
    )
    for images, labels, *rest in loader:
        yield tuple(
            part.to(device, non_blocking=True)
            for part in (images.transpose(0, 1), labels.transpose(0, 1), *rest)
        )
