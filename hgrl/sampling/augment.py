"""Two views of an image, and the SAME geometry on its region labels (section 4.2)."""

from typing import Any

import cv2
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from hgrl.core.settings import AugmentSettings

BLUR = (0.1, 2.0)  # standard deviations in pixels of a 224 px crop (SimCLR, MoCo v2); scaled with the crop


def middle(image: Tensor, size: int) -> Tensor:
    """(3, H, W) uint8 -> (3, size, size): the largest square in the middle, not augmented."""
    return F.center_crop(F.resize(image, [size], antialias=True), [size, size])


class TwoViews:
    """Random resized crop, flip, jitter, greyscale and blur, twice; labels follow by nearest neighbour.

    grid: the embedding's stride; the labels of a view are read at the centre of each grid cell."""

    def __init__(self, settings: AugmentSettings, grid: int = 4) -> None:
        self.size, self.grid = settings.crop_size, grid
        crop = v2.RandomResizedCrop(settings.crop_size, scale=settings.crop_area, antialias=True)
        jitter = ColorJitter(settings.brightness, settings.contrast, settings.saturation, settings.hue)
        maybe = (
            (settings.jitter, jitter),
            (settings.greyscale, v2.Grayscale(3)),
            (settings.blur, GaussianBlur(self.size / 224)),
        )
        colours = [step if p == 1 else v2.RandomApply([step], p) for p, step in maybe if p]
        self.transform = v2.Compose([crop, v2.RandomHorizontalFlip(settings.flip), *colours])

    def __call__(self, image: Tensor, labels: Tensor, seed: int) -> tuple[Tensor, ...]:
        """(3, H, W) and (H, W) uint8 -> (2, 3, S, S) and (2, S / grid, S / grid) uint8, by `seed` alone."""
        with torch.random.fork_rng(devices=[]):
            # not torch.manual_seed: it would reseed the GPU too, which nothing here restores
            torch.default_generator.manual_seed(seed)
            return self._views(tv_tensors.Image(image), tv_tensors.Mask(labels))

    def _views(self, image: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        return self._stacked(*(self.transform(image, labels) for _ in range(2)))

    def _stacked(self, *views: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        images, masks = (torch.stack(parts).as_subclass(Tensor) for parts in zip(*views, strict=True))
        half = self.grid // 2
        return images, masks[:, half :: self.grid, half :: self.grid]


class ImageAndView(TwoViews):
    """The paper's words ("augmented reference"): the image itself, and one view of it as in `TwoViews`.

    The whole image is resized to S x S whatever its aspect ratio, without flip or jitter. A third part, int64
    ((S / grid)**2,), has for each cell of the image, row by row, the cell of the view that shows its centre;
    -1 where the crop has lost it."""

    def _views(self, image: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        height, width = image.shape[-2:]
        centres = torch.arange(0.5, self.size // self.grid) * self.grid / self.size
        y, x = torch.meshgrid(centres * height, centres * width, indexing="ij")
        corners = torch.tensor([[0.0, 0.0], [width, 0.0]])
        points = torch.cat([corners, torch.stack([x, y], -1).flatten(0, 1)])  # of (x, y)
        whole = v2.Resize((self.size, self.size), antialias=True)(image, labels)
        keypoints = tv_tensors.KeyPoints(points, canvas_size=(height, width))
        *view, moved = self.transform(image, labels, keypoints)
        (left, right), moved = moved[:2, 0], moved[2:].as_subclass(Tensor)
        moved = moved + torch.tensor([float(left > right), 0.0])  # torchvision flips x to S - 1 - x
        column, row = (moved / self.grid).floor().long().unbind(-1)
        lost = ((moved < 0) | (moved >= self.size)).any(-1)
        cells = (row * (self.size // self.grid) + column).masked_fill(lost, -1)
        return *self._stacked(whole, tuple(view)), cells


class ColorJitter(v2.ColorJitter):
    """torchvision's, with the hue turned in 8 bits, as in its code for Pillow: an eighth of the time."""

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """An image (3, H, W) uint8 is changed; all else stays as it is."""
        if not isinstance(inpt, tv_tensors.Image):
            return inpt
        image, names = inpt.as_subclass(Tensor), ("brightness", "contrast", "saturation", "hue")
        steps = F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, turned_hue
        for index in params["fn_idx"]:
            factor = params[f"{names[index]}_factor"]
            image = image if factor is None else steps[index](image, factor)
        return tv_tensors.Image(image)


def turned_hue(image: Tensor, factor: float) -> Tensor:
    """(3, H, W) uint8 RGB with the hue turned by `factor` of a full circle."""
    hsv = cv2.cvtColor(_pixels(image), cv2.COLOR_RGB2HSV_FULL)
    hsv[..., 0] += round(factor * 256) % 256  # a full circle has 256 steps, and bytes wrap around
    return _tensor(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL))


class GaussianBlur(v2.Transform):
    """A blur whose standard deviation is uniform in `BLUR` times `scale`."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        return {"sigma": torch.empty(1).uniform_(*BLUR).item() * self.scale}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        if not isinstance(inpt, tv_tensors.Image):
            return inpt
        return tv_tensors.Image(_tensor(cv2.GaussianBlur(_pixels(inpt), (0, 0), params["sigma"])))


def _pixels(image: Tensor) -> "cv2.typing.MatLike":
    return image.permute(1, 2, 0).contiguous().numpy()


def _tensor(pixels: "cv2.typing.MatLike") -> Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
