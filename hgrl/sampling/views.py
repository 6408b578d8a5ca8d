"""Training batches: two views of each image, with the regions and distances of its tree."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.data import DataLoader, Dataset

from hgrl.core.errors import InputError
from hgrl.core.interruption import ignore_sigterm
from hgrl.core.settings import Settings
from hgrl.data.samples import Samples
from hgrl.grouping.region_tree import RegionTree
from hgrl.sampling.augment import ImageAndView, TwoViews, middle
from hgrl.sampling.heights import in_height_unit
from hgrl.sampling.order import EpochOrder, mixed_seed

# image (H, W, 3) uint8 and its tree -> the region of each pixel, uint8, at the image's size or the tree's
Partition = Callable[[np.ndarray, RegionTree], np.ndarray]


@dataclass(frozen=True)
class Batch:
    """What a method's loss is given; V = 2 views of S x S pixels, or T frames of clips (`needs_clips`)."""

    images: Tensor  # (V, B, 3, S, S) uint8
    labels: Tensor  # (V, B, S / 4, S / 4) uint8, the region of each cell of the embedding
    distances: Tensor  # (B, R, R) float32, d_T in the height unit, padded with zeros
    progress: float  # fraction of the run that is done, in [0, 1)
    generator: torch.Generator  # on the images' device
    classes: Tensor | None = None  # (B, C) float32, 1 where the image shows the class; if `needs_classes`
    # (B, (S / 4)**2) int64, the second view's cell that shows each of the first's, or -1; for `views: one`
    same_pixels: Tensor | None = None
    indices: Tensor | None = None  # (B,) int64, which of the images these are; if it `begins` each epoch
    # (B, T - 1, 2, S, S) float32, pixels right and down from each frame to the next; for stills in motion
    flow: Tensor | None = None

    @property
    def clips(self) -> Tensor:
        """(B, T, 3, S, S) uint8 frames."""
        return self.images.transpose(0, 1)

    @property
    def flat_images(self) -> Tensor:
        return self.images.flatten(0, 1)


@dataclass(eq=False)
class TrainingViews(Dataset):
    """(epoch, index) -> the tensors of a `Batch` for one image, by name."""

    samples: Samples
    trees: Path | None  # None for methods without regions: labels and distances are then zeros
    settings: Settings
    seed: int
    height_scale: float  # the factor of `height_unit: auto`
    with_classes: bool = False  # also `classes`, from the image's label or mask
    with_original: bool = False  # the first view is the image itself; also `same_pixels`
    with_index: bool = False  # also `indices`
    partition: Partition | None = None  # labels by it, and distances of zeros; None: the trees' own

    def __post_init__(self) -> None:
        self.views = (ImageAndView if self.with_original else TwoViews)(self.settings.augment)
        self.in_memory: dict[int, tuple[Tensor, Tensor, dict[str, Tensor]]] = {}

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        epoch, index = key
        image, labels, rest = self._read(index)
        views = self.views(image, labels, mixed_seed(self.seed, epoch, index))
        parts = dict(zip(("images", "labels", "same_pixels"), views, strict=False)) | rest
        return parts | ({"indices": torch.tensor(index)} if self.with_index else {})

    def whole(self, index: int) -> Tensor:
        return middle(self._read(index)[0], self.settings.augment.crop_size)

    def _read(self, index: int) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Image (3, H, W) and labels (H, W), uint8; distances, and classes if asked for."""
        if index in self.in_memory:
            return self.in_memory[index]
        pixels = self.samples.image(index, self.settings.data.short_side)
        image = torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
        labels, distances = self._read_tree(index, pixels)
        rest = {"distances": distances}
        if self.with_classes:
            rest["classes"] = torch.from_numpy(self.samples.shown(index))
        if self.settings.data.keep_in_memory:
            self.in_memory[index] = image, labels, rest
        return image, labels, rest

    def _read_tree(self, index: int, pixels: np.ndarray) -> tuple[Tensor, Tensor]:
        most, size = self.settings.grouping.max_regions, pixels.shape[:2]
        distances = torch.zeros(most, most)
        if self.trees is None:
            return torch.zeros(size, dtype=torch.uint8), distances
        path = self.trees / f"{self.samples.names[index]}.npz"
        tree = RegionTree.load(path)
        if tree.regions > most:
            remedy = "delete the trees and group again"
            raise InputError(f"{path}: {tree.regions} regions, but grouping.max_regions is {most}; {remedy}")
        (height, width), resized = tree.labels.shape, self.settings.data.short_side is not None
        # the rounding of the reduced JPEG and of the resize may change the aspect
        same_aspect = abs(height * size[1] - width * size[0]) <= max(height, width)
        if (height, width) != size and not (resized and same_aspect):
            sizes = "a tree of {1}x{0} pixels for an image of {3}x{2}".format(height, width, *size)
            raise InputError(f"{path}: {sizes}: it is of another image; delete the tree and group again")
        if self.partition is None:
            scaled = in_height_unit(tree, self.settings.sampling.height_unit, self.height_scale)
            distances[: tree.regions, : tree.regions] = torch.from_numpy(scaled.distances())
        labels = torch.from_numpy(tree.labels if self.partition is None else self.partition(pixels, tree))
        if labels.shape != size:
            labels = interpolate(labels[None, None], size=size, mode="nearest-exact")[0, 0]
        return labels, distances


@dataclass(eq=False)
class WholeImages(Dataset):
    """index -> the middle of an image, (3, S, S) uint8, not augmented."""

    views: Dataset  # `TrainingViews`, or `ClipViews`

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, index: int) -> Tensor:
        return self.views.whole(index)


def batches(
    views: Dataset, order: EpochOrder, workers: int, device: torch.device
) -> Iterator[dict[str, Tensor]]:
    """The tensors of each `Batch`, by name, on the device; from `order.start` on.

    Loader processes decode and augment two batches each ahead; they start once for all epochs. For a card
    batches are pinned, and their copy is queued without waiting for it."""
    for parts in _loader(views, workers, device, batch_sampler=order):
        parts |= {name: parts[name].transpose(0, 1) for name in ("images", "labels")}  # views first
        yield {name: part.to(device, non_blocking=True) for name, part in parts.items()}


def whole_images(views: Dataset, batch: int, workers: int, device: torch.device) -> Iterator[Tensor]:
    """(B, 3, S, S) uint8 of `WholeImages`, all images in their order, on the device."""
    for images in _loader(WholeImages(views), workers, device, batch_size=batch):
        yield images.to(device, non_blocking=True)


def _loader(dataset: Dataset, workers: int, device: torch.device, **order: Any) -> DataLoader:
    return DataLoader(
        dataset,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),  # the global one would make a resumed run differ
        multiprocessing_context="forkserver" if workers else None,
        worker_init_fn=ignore_sigterm,
        **order,
    )
