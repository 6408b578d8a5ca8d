"""Six surface patterns of the embedded data set's objects, each preferred by one class, none its own."""

from collections.abc import Callable
from functools import cache

import cv2
import numpy as np


def veins(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Ribs that leave a midline at an angle."""
    return np.where(np.abs(v) < 0.12, np.float32(1), np.sin(2 * np.pi * (0.8 * u - 0.7 * np.abs(v))))


def speckle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    at = [np.mod(6 * axis, 127).astype(np.float32) for axis in (u, v)]
    return cv2.remap(_noise_tile(), *at, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


@cache
def _noise_tile() -> np.ndarray:
    """(128, 128) float32 band-passed noise that tiles; about four samples per grain."""
    noise = np.random.default_rng(7).standard_normal((128, 128))
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(128), np.fft.fftfreq(128)))
    grains = np.fft.ifft2(np.fft.fft2(noise) * np.exp(-(((frequency - 0.18) / 0.07) ** 2))).real
    return np.clip(1.2 * grains / grains.std(), -1, 1).astype(np.float32)


# Each maps object coordinates, in periods, to about [-1, 1]; positive is the light colour.
TEXTURES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "stripes": lambda u, v: np.sin(2 * np.pi * v),
    "dots": lambda u, v: 0.9 * (np.cos(2 * np.pi * u) + np.cos(2 * np.pi * v)) - 0.55,
    "checks": lambda u, v: 2.0 * np.sin(np.pi * u) * np.sin(np.pi * v),
    "zigzag": lambda u, v: np.sin(2 * np.pi * (0.9 * v + 1.6 * np.abs(np.mod(0.5 * u, 1) - 0.5))),
    "veins": veins,
    "speckle": speckle,
}
