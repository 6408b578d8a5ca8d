"""Embedded scenes of one object and of many, alike in all else: is an image one thing, as image-level methods
take it to be?

Picture i of both splits has the same backdrop, light, shadow, blur and noise, and its first object has the
same outline, texture and colours. Both hold as much object: the radii of many add up, squared, to the one's,
and that sum is on average an ordinary scene's. Without it, pictures of one object would be little but
backdrop, and the two would differ in how much there is to learn about objects at all. What then has to differ
is the size: the one is sqrt(5) to sqrt(7) times as large as each of many. It is larger than the objects that
the probe reads by about as much as each of many is smaller (1.7 times). Objects' discs lie inside the picture
and hardly overlap, so that all show; in ordinary scenes objects are cut by the margin and hide one
another."""

import dataclasses

import numpy as np

from hgrl.data.scenes.render import Scene, draw_thing

SINGLE, MANY = "single", "many"  # the splits
MANY_OBJECTS = (5, 7)
# radius of a disc as large as all objects' discs; squared on average three times an ordinary object's
WHOLE = (0.27, 0.39)
SPREAD = 0.2  # by which the logarithms of many objects' radii differ from one another
APART = 0.9  # centres, in sums of two radii: discs may touch, and outlines seldom fill them
# centres keep off the picture's margin by this, or by their radius; `Thing.position` reflects at it
MARGIN = 0.1
TRIES = 200


def with_objects(scene: Scene, split: str, things: np.random.Generator, places: np.random.Generator) -> Scene:
    """An ordinary still whose objects are replaced by one, or by 5 to 7.

    things: draws what the objects are and how large; seeded alike in both splits, so that the first is alike.
    places: draws where they lie; another seed gives the same objects elsewhere."""
    whole = float(np.exp(things.uniform(*np.log(WHOLE))))
    many = int(things.integers(MANY_OBJECTS[0], MANY_OBJECTS[1] + 1))
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
