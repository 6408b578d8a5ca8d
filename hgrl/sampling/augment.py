"""Two random views of an image, and the SAME geometry on its region labels (section 4.2)."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from hgrl.core.settings import AugmentSettings


class TwoViews:
    """Random resized crop, horizontal flip and colour jitter, twice; labels follow the geometry by nearest
    neighbour.

    `grid` is the embedding's stride: the labels of a view are read at the centre of each grid cell.
    """

    def __init__(self, settings: AugmentSettings, grid: int = 4) -> None:
        self.grid = grid
        self.transform = v2.Compose(
            [
                v2.RandomResizedCrop(settings.crop_size, scale=settings.crop_area, antialias=True),
                v2.RandomHorizontalFlip(settings.flip),
                v2.ColorJitter(settings.brightness, settings.contrast, settings.saturation, settings.hue),
            ]
        )

    def __call__(self, image: Tensor, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """(3, H, W) uint8 and (H, W) uint8 -> (2, 3, S, S) uint8 and (2, S / grid, S / grid) uint8, by `seed`
        alone.
        """
        with torch.random.fork_rng(devices=[]):
            # torch.manual_seed would reseed the GPU too, which nothing here restores
            torch.default_generator.manual_seed(seed)
            views = [self.transform(tv_tensors.Image(image), tv_tensors.Mask(labels)) for _ in range(2)]
        images, masks = zip(*views, strict=True)
        half = self.grid // 2
        return torch.stack(images).as_subclass(Tensor), torch.stack(masks).as_subclass(Tensor)[
            :, half :: self.grid, half :: self.grid
        ]
