"""How the embedded data set's objects look: six classes of polygon that vary, bend and wobble, and six
surface patterns, each preferred by one class, none its own."""

from collections.abc import Callable
from functools import cache

import cv2
import numpy as np

Polygons = list[np.ndarray]  # each (N, 2) float, (x, y) in units of the object's radius; later ones are holes


def polar(radius: np.ndarray | float, angle: np.ndarray | float) -> np.ndarray:
    """(..., 2) x and y of polar coordinates; angles in radians."""
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)


def ring(rng: np.random.Generator) -> Polygons:
    turn = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    return [polar(1.0, turn), polar(rng.uniform(0.38, 0.6), turn)]


def star(rng: np.random.Generator) -> Polygons:
    corners = np.arange(10)
    radii = np.where(corners % 2 == 0, 1.12, rng.uniform(0.5, 0.62))
    return [polar(radii, corners * np.pi / 5)]


def cross(rng: np.random.Generator) -> Polygons:
    w, v = rng.uniform(0.3, 0.42, size=2)
    quarter = [(w, 1), (w, v), (1, v)]
    half = quarter + [(x, -y) for x, y in reversed(quarter)]
    return [np.array(half + [(-x, -y) for x, y in half], dtype=float)]


def crescent(rng: np.random.Generator) -> Polygons:
    """A disc with a shifted disc bitten out of it: the outer arc, then the inner one backwards."""
    half, depth = rng.uniform(0.72, 0.85) * np.pi, rng.uniform(0.15, 0.45)
    outer = polar(1.0, np.linspace(-half, half, 40))
    tip_x, tip_y = np.cos(half), np.sin(half)
    inner = np.linspace(-1, 1, 30)
    bite = np.stack([tip_x + (depth - tip_x) * np.sqrt(1 - inner**2), -tip_y * inner], axis=1)
    return [1.1 * np.concatenate([outer, bite])]


def leaf(rng: np.random.Generator) -> Polygons:
    """A pointed lens, broader towards its stalk."""
    width, lean = rng.uniform(0.5, 0.7), rng.uniform(0.1, 0.45)
    x = np.linspace(-1, 1, 32)
    edge = width * (1 - x**2) * (1 - lean * x)
    upper, lower = np.stack([x, edge], axis=1), np.stack([x[::-1], -edge[::-1]], axis=1)
    return [1.25 * np.concatenate([upper, lower[1:-1]])]


def bolt(rng: np.random.Generator) -> Polygons:
    """A lightning bolt; its mirror image counts as well."""
    reach, notch = rng.uniform(0.65, 0.85), rng.uniform(0.2, 0.35)
    half = [(0.0, 1.2), (reach, 1.1), (notch, 0.22), (reach, 0.35)]
    return [np.array(half + [(-x, -y) for x, y in half]) * (rng.choice([-1.0, 1.0]), 1.0)]


SHAPES = {shape.__name__: shape for shape in (ring, star, cross, crescent, leaf, bolt)}


def draw_deformation(rng: np.random.Generator) -> Callable[[np.ndarray, float], np.ndarray]:
    """A wobble of the radius in two harmonics, a bend, and an aspect ratio, at random.

    Returns a function of (N, 2) points in units of the radius and of the frame, to deformed (N, 2) points."""
    amplitudes, phases = rng.uniform(0, (0.12, 0.07)), rng.uniform(0, 2 * np.pi, size=2)
    speeds = rng.uniform(-0.35, 0.35, size=2)  # radians per frame, as `bend_speed`
    bend, bend_speed = rng.normal(0, 0.18), rng.uniform(0.1, 0.3)
    aspect = float(np.exp(rng.normal(0, 0.14)))

    def deform(points: np.ndarray, t: float) -> np.ndarray:
        angle = np.arctan2(points[:, 1], points[:, 0])
        waves = np.cos(np.outer(angle, (2, 3)) + phases + speeds * t)
        x, y = (points * (1 + waves @ amplitudes)[:, None]).T
        x = x + bend * np.cos(bend_speed * t) * (y**2 - 0.4)
        return np.stack([x * aspect, y / aspect], axis=1)

    return deform


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
