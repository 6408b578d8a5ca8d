"""The outlines of the embedded data set's objects: six classes of polygon that vary, bend and wobble."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Polygons = list[np.ndarray]  # each (N, 2) float, (x, y) in units of the object's radius; later ones are holes
_TURN = np.linspace(0, 2 * np.pi, 64, endpoint=False)


def _circle(radius: float) -> np.ndarray:
    return radius * np.stack([np.cos(_TURN), np.sin(_TURN)], axis=1)


def ring(rng: np.random.Generator) -> Polygons:
    return [_circle(1.0), _circle(rng.uniform(0.38, 0.6))]


def star(rng: np.random.Generator) -> Polygons:
    arms = 5
    radii = np.where(np.arange(2 * arms) % 2 == 0, 1.12, rng.uniform(0.38, 0.52))
    angles = np.arange(2 * arms) * np.pi / arms
    return [radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)]


def cross(rng: np.random.Generator) -> Polygons:
    w, v = rng.uniform(0.22, 0.36, size=2)
    quarter = [(w, 1), (w, v), (1, v)]
    half = quarter + [(x, -y) for x, y in reversed(quarter)]
    corners = half + [(-x, -y) for x, y in half]
    return [np.array(corners, dtype=float)]


def crescent(rng: np.random.Generator) -> Polygons:
    """A disc with a shifted disc bitten out of it: the outer arc, then the inner one backwards."""
    half, depth = rng.uniform(0.72, 0.85) * np.pi, rng.uniform(0.15, 0.45)
    outer = np.linspace(-half, half, 40)
    tip_x, tip_y = np.cos(half), np.sin(half)
    inner = np.linspace(-1, 1, 30)
    bite = np.stack([tip_x + (depth - tip_x) * np.sqrt(1 - inner**2), -tip_y * inner], axis=1)
    return [1.1 * np.concatenate([np.stack([np.cos(outer), np.sin(outer)], axis=1), bite])]


def leaf(rng: np.random.Generator) -> Polygons:
    """A pointed lens, broader towards its stalk."""
    width, lean = rng.uniform(0.4, 0.62), rng.uniform(0.1, 0.45)
    x = np.linspace(-1, 1, 32)
    edge = width * (1 - x**2) * (1 - lean * x)
    upper, lower = np.stack([x, edge], axis=1), np.stack([x[::-1], -edge[::-1]], axis=1)
    return [1.25 * np.concatenate([upper, lower[1:-1]])]


def bolt(rng: np.random.Generator) -> Polygons:
    """A lightning bolt; its mirror image counts as well."""
    reach, notch = rng.uniform(0.6, 0.8), rng.uniform(0.12, 0.3)
    half = [(0.0, 1.2), (reach, 1.1), (notch, 0.22), (reach, 0.35)]
    corners = np.array(half + [(-x, -y) for x, y in half])
    return [corners * (rng.choice([-1.0, 1.0]), 1.0)]


SHAPES: dict[str, Callable[[np.random.Generator], Polygons]] = {
    "ring": ring, "star": star, "cross": cross, "crescent": crescent, "leaf": leaf, "bolt": bolt,
}  # fmt: skip


@dataclass(frozen=True)
class Deformation:
    """What an object's outline goes through: a radial wobble of two harmonics, a bend, an aspect ratio."""

    amplitudes: np.ndarray  # (2,) share of the radius
    phases: np.ndarray  # (2,) radians at time 0
    speeds: np.ndarray  # (2,) radians per frame
    bend: float
    bend_speed: float  # radians per frame
    aspect: float

    @staticmethod
    def draw(rng: np.random.Generator) -> "Deformation":
        return Deformation(
            amplitudes=rng.uniform(0, (0.12, 0.07)),
            phases=rng.uniform(0, 2 * np.pi, size=2),
            speeds=rng.uniform(-0.35, 0.35, size=2),
            bend=rng.normal(0, 0.18),
            bend_speed=rng.uniform(0.1, 0.3),
            aspect=float(np.exp(rng.normal(0, 0.14))),
        )

    def apply(self, points: np.ndarray, t: float = 0.0) -> np.ndarray:
        """(N, 2) points in units of the radius -> the same, deformed at frame `t`."""
        angle = np.arctan2(points[:, 1], points[:, 0])
        waves = np.cos(np.outer(angle, (2, 3)) + self.phases + self.speeds * t)
        x, y = (points * (1 + waves @ self.amplitudes)[:, None]).T
        x = x + self.bend * np.cos(self.bend_speed * t) * (y**2 - 0.4)
        return np.stack([x * self.aspect, y / self.aspect], axis=1)
