"""The scenes' backgrounds: crops of the photographs and textures in scikit-image's wheel."""

from functools import cache
from pathlib import Path

import cv2
import numpy as np
import skimage

from hgrl.data.images import read_image
from hgrl.data.scenes.appearance import polar

FOLDER = Path(skimage.__file__).parent / "data"
PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "hubble_deep_field.jpg", "ihc.png", "rocket.jpg")
GREY = ("camera.png", "moon.png")  # tinted at random, as materials are
MATERIALS = ("brick", "gravel")  # classes of their own: "stuff", as in MSRC
MATERIAL_SHARE = 0.4  # of the areas; the others show a photograph, and are background
PARTS = ("train", "tune", "val")
Backdrop = tuple[np.ndarray, np.ndarray, tuple[str | None, ...]]


@cache
def part_of(file: str, part: str) -> np.ndarray:
    """(h, w, 3) float32 in [0, 1], RGB: the pixels of a photograph that one split alone may use.

    `train` is the left 60 %; of the rest, `tune` is the upper half and `val` the lower one."""
    image = read_image(FOLDER / file).astype(np.float32) / 255
    height, width = image.shape[:2]
    cut, middle = int(0.6 * width), height // 2
    region = {"train": image[:, :cut], "tune": image[:middle, cut:], "val": image[middle:, cut:]}[part]
    return np.ascontiguousarray(region)


def draw_backdrop(rng: np.random.Generator, part: str, size: int, crop: tuple[float, float]) -> Backdrop:
    """A background (size, size, 3) float32 in [0, 1], its areas (size, size) uint8, numbered from 0, and the
    material of each area, None where it shows a photograph.

    `crop` is the range of the crop's side in photograph pixels. Two in three have a second area: ground below
    a wavy horizon, or a patch; so not every closed outline is an object."""
    material = _material(rng)
    image = _crop(rng, part, size, crop, material)
    kind = rng.choice(["plain", "horizon", "patch"], p=[0.35, 0.35, 0.3])
    if kind == "plain":
        return image, np.zeros((size, size), dtype=np.uint8), (material,)
    areas, second = _horizon(rng, size) if kind == "horizon" else _patch(rng, size), _material(rng)
    behind = _crop(rng, part, size, crop, second)
    return np.where(areas[..., None] == 1, behind, image), areas, (material, second)


def _material(rng: np.random.Generator) -> str | None:
    return str(rng.choice(MATERIALS)) if rng.random() < MATERIAL_SHARE else None


def _crop(
    rng: np.random.Generator, part: str, size: int, crop: tuple[float, float], material: str | None
) -> np.ndarray:
    file = f"{material}.png" if material else str(rng.choice(PHOTOGRAPHS + GREY))
    region = part_of(file, part)
    height, width = region.shape[:2]
    side = min(int(rng.uniform(*crop)), height, width)
    y, x = rng.integers(height - side + 1), rng.integers(width - side + 1)
    window = region[y : y + side, x : x + side]
    window = np.ascontiguousarray(window[:, ::-1] if rng.random() < 0.5 else window)
    how = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    resized = cv2.resize(window, (size, size), interpolation=how)
    return _tint(rng, resized) if material or file in GREY else _jitter(rng, resized)


def _tint(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """A grey texture between a dark and a light colour of about one hue."""
    hue = rng.random()
    dark = hsv(hue + rng.normal(0, 0.05), rng.uniform(0, 0.6), rng.uniform(0.0, 0.3))
    light = hsv(hue + rng.normal(0, 0.05), rng.uniform(0, 0.45), rng.uniform(0.6, 1.0))
    return dark + (light - dark) * image[..., :1]


def _jitter(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    grey = image.mean(axis=2, keepdims=True)
    image = np.clip(grey + (image - grey) * np.float32(rng.uniform(0.3, 1.2)), 0, 1)
    gains = np.exp(rng.normal(0, 0.15, size=3)).astype(np.float32)
    return np.clip(image ** np.float32(np.exp(rng.normal(0, 0.2))) * gains, 0, 1)


def _horizon(rng: np.random.Generator, size: int) -> np.ndarray:
    x = np.linspace(0, 1, size)
    height = rng.uniform(0.25, 0.75) + rng.normal(0, 0.15) * (x - 0.5)
    for wave in (1, 2, 4):
        height = height + rng.normal(0, 0.035 / np.sqrt(wave)) * np.sin(2 * np.pi * (wave * x + rng.random()))
    return (np.arange(size)[:, None] > height * size).astype(np.uint8)


def _patch(rng: np.random.Generator, size: int) -> np.ndarray:
    """A smooth blob of a quarter to half the picture's side."""
    turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    radius = rng.uniform(0.16, 0.34)
    waves = sum(rng.normal(0, 0.12) * np.cos(k * turn + rng.uniform(0, 6.3)) for k in (1, 2, 3))
    points = rng.uniform(0.15, 0.85, size=2) + polar(radius * (1 + waves), turn)
    areas = np.zeros((size, size), dtype=np.uint8)
    cv2.fillPoly(areas, [np.round(points * size).astype(np.int32)], 1)
    return areas


def hsv(hue: float, saturation: float, value: float) -> np.ndarray:
    """(3,) float32 RGB in [0, 1] of a hue in turns."""
    ramps = np.clip(np.abs((hue + np.array([0, 2 / 3, 1 / 3])) % 1 * 6 - 3) - 1, 0, 1)
    return (value * (1 - saturation + saturation * ramps)).astype(np.float32)
