"""Scenes of one object and of many, alike in all else: is an image one thing, as image-level methods assume?

Picture i of both splits has the same backdrop, light, shadow, blur, noise and first object (outline, texture,
colours). Both show nearly as much object as an ordinary scene does on average, so that there is as much to
learn about objects: the squared radii of many add up to the one's. The one is then sqrt(5) to sqrt(7) times
as large as each of many, and 1.3 times as large as the probe's objects; each of many is half as large as
those. Objects' discs lie inside the picture and hardly overlap: all show, unlike in ordinary scenes."""

import dataclasses

import numpy as np

from hgrl.data.scenes.render import MARGIN, Scene, draw_thing

SINGLE, MANY = "single", "many"  # the splits
WHOLE = (0.32, 0.42)  # root of the radii's sum of squares; squared, 1.7 times an ordinary object's
SPREAD = 0.2  # by which the logarithms of many objects' radii differ from one another
APART = 0.9  # centres, in sums of two radii: discs may touch, and outlines seldom fill them
TRIES = 200


def with_objects(scene: Scene, split: str, things: np.random.Generator, places: np.random.Generator) -> Scene:
    """An ordinary still whose objects are replaced by one, or by 5 to 7.

    `things`, seeded alike in both splits, draws what they are and how large; `places`, where they lie."""
    whole = float(np.exp(things.uniform(*np.log(WHOLE))))
    many = int(things.integers(5, 7, endpoint=True))
    drawn = [draw_thing(things, scene.backdrop) for _ in range(1 if split == SINGLE else many)]
    radii = np.exp(things.uniform(-SPREAD, SPREAD, size=len(drawn)))
    radii *= whole / np.sqrt(np.sum(radii**2))
    centres = _place(radii, places)
    placed = zip(drawn, radii, centres, strict=True)
    moved = (dataclasses.replace(thing, radius=float(radius), centre=at) for thing, radius, at in placed)
    return dataclasses.replace(scene, things=tuple(moved))


def _place(radii: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(n, 2) centres of discs inside the unit square, the largest drawn first, each clear of those before."""
    centres = np.zeros((len(radii), 2))
    placed: list[int] = []
    while len(placed) < len(radii):
        placed = []  # a dead end: all again
        for k in np.argsort(-radii):
            low = max(radii[k], MARGIN)
            tried = rng.uniform(low, 1 - low, size=(TRIES, 2))
            distances = np.hypot(*(tried[:, None] - centres[placed]).T).T
            clear = np.all(APART * (radii[k] + radii[placed]) <= distances, axis=1)
            if not clear.any():
                break
            centres[k] = tried[clear.argmax()]
            placed.append(int(k))
    return centres
