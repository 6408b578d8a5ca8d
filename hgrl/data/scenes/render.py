"""Draws the embedded data set's pictures: objects with texture, shading and shadow over a background.

`draw_scene` draws all that a `Scene` is made of; `render` gives its picture and labels at a frame."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from hgrl.data.scenes.appearance import SHAPES, TEXTURES, Polygons, draw_deformation, polar
from hgrl.data.scenes.backdrops import draw_backdrop, hsv

OVERSAMPLING = 2  # drawn at twice the size, then averaged
OBJECTS = (2, 3)  # per picture
RADII = (0.22, 0.36)  # shares of the picture's side
PERIODS = (1.5, 2.7)  # of a texture, per radius
NOISE = (0.004, 0.02)  # of a grey level in [0, 1]
OWN_TEXTURE = 0.95  # how often an object wears its class's texture; otherwise any of the six
CAMOUFLAGE = 0.15  # how often an object takes its colour from the background
MARGIN = 0.1  # of the picture, where centres turn back
Maps = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Thing:
    """One object: how it looks and moves; lengths in shares of the picture's side, angles in radians."""

    class_id: int  # 1..6
    polygons: Polygons
    deform: Callable[[np.ndarray, float], np.ndarray]  # an outline at a frame
    radius: float
    centre: np.ndarray  # (2,) x, y at frame 0
    velocity: np.ndarray  # (2,) per frame
    sway: np.ndarray  # (2,) amplitude of a slow swing on top
    angle: float
    spin: float  # radians per frame
    texture: str
    texture_frame: np.ndarray  # (2, 2): object coordinates -> periods
    texture_phase: np.ndarray  # (2,)
    sharpness: float
    colours: np.ndarray  # (2 parts, dark and light, RGB)
    parting: float  # object coordinate x at which the second part begins; infinite when there is none

    def position(self, t: float) -> np.ndarray:
        """(2,) centre at frame `t`, reflected at the margins so that the object stays in view."""
        free = self.centre + self.velocity * t + self.sway * np.sin(0.5 * t)
        span = (1 - MARGIN) - MARGIN
        folded = np.mod(free - MARGIN, 2 * span)
        return MARGIN + np.where(folded > span, 2 * span - folded, folded)


@dataclass(frozen=True)
class Scene:
    """Everything a picture is made of; colours are float32 in [0, 1], sizes in oversampled pixels."""

    size: int  # of the final picture
    backdrop: np.ndarray  # (S, S, 3); larger than the picture where the camera moves
    areas: np.ndarray  # (S, S) uint8
    materials: tuple[str | None, ...]  # of each area: one of `MATERIALS`, or none
    pan: np.ndarray  # (2,) direction and length of the camera's whole path, in pixels of the backdrop
    things: tuple[Thing, ...]  # back to front
    light: np.ndarray  # (2,) unit vector towards the light
    shadow: float
    gradient: np.ndarray  # (2,) change of brightness across the picture
    blur: float  # px
    noise: float  # of a grey level in [0, 1]


@dataclass(frozen=True)
class Picture:
    """A rendered frame."""

    image: np.ndarray  # (H, W, 3) uint8
    objects: np.ndarray  # (H, W) uint8: 0 background, 1..n back to front
    mixed: np.ndarray  # (H, W) bool: at most half of the pixel belongs to one object
    parts: np.ndarray  # (H, W) uint8: 1 where an object shows its second part
    areas: np.ndarray  # (H, W) uint8: the background's areas, also beneath objects


def draw_scene(rng: np.random.Generator, size: int, part: str, moving: bool = False) -> Scene:
    """2 or 3 objects over a background of one split's `part` of the photographs."""
    canvas = OVERSAMPLING * size
    extent = int(1.3 * canvas) if moving else canvas
    backdrop, areas, materials = draw_backdrop(rng, part, extent, crop=(1.2 * size, 2.2 * size))
    count = rng.integers(*OBJECTS, endpoint=True)
    heading, bearing = rng.uniform(0, 2 * np.pi, size=2)
    return Scene(
        size=size,
        backdrop=backdrop,
        areas=areas,
        materials=materials,
        pan=polar((extent - canvas) / 2 * rng.uniform(0.3, 1), heading),
        things=tuple(draw_thing(rng, backdrop) for _ in range(count)),
        light=polar(1.0, bearing).astype(np.float32),
        shadow=rng.uniform(0.15, 0.5),
        gradient=rng.normal(0, 0.14, size=2),
        blur=rng.uniform(0, 0.5),
        noise=rng.uniform(*NOISE),
    )


def draw_thing(rng: np.random.Generator, backdrop: np.ndarray) -> Thing:
    """One of the six classes at random, for a place in a scene of this backdrop (S, S, 3)."""
    shapes, textures = list(SHAPES.values()), list(TEXTURES)
    kind, heading, two_parts = int(rng.integers(len(shapes))), rng.uniform(0, 2 * np.pi), rng.random() < 0.2
    return Thing(
        class_id=kind + 1,
        polygons=shapes[kind](rng),
        deform=draw_deformation(rng),
        radius=float(np.exp(rng.uniform(*np.log(RADII)))),
        centre=rng.uniform(0.12, 0.88, size=2),
        velocity=polar(rng.uniform(0.018, 0.045), heading),
        sway=rng.normal(0, 0.02, size=2),
        angle=rng.uniform(0, 2 * np.pi),
        spin=rng.normal(0, 0.07),
        texture=textures[kind if rng.random() < OWN_TEXTURE else rng.integers(len(textures))],
        texture_frame=_texture_frame(rng),
        texture_phase=rng.uniform(0, 1, size=2),
        sharpness=rng.uniform(1.0, 3.0),
        colours=_colours(rng, kind, backdrop),
        parting=rng.uniform(-0.3, 0.3) if two_parts else np.inf,
    )


def _texture_frame(rng: np.random.Generator) -> np.ndarray:
    """Periods per radius, unequal along the two axes, turned a little against the object."""
    turn, periods = rng.normal(0, 0.12), rng.uniform(*PERIODS) * np.exp(rng.normal(0, 0.1, size=2))
    return (periods[:, None] * _rotation(turn)).astype(np.float32)


def _rotation(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _colours(rng: np.random.Generator, kind: int, backdrop: np.ndarray) -> np.ndarray:
    """Dark and light colour of both parts. The class shifts the hue, by less than hues vary: a weak cue."""
    if rng.random() < CAMOUFLAGE:
        middle = backdrop[tuple(rng.integers(len(backdrop), size=2))]
    else:
        hue = kind / len(SHAPES) + rng.normal(0, 0.3)
        middle = hsv(hue, rng.uniform(0.1, 0.85), rng.uniform(0.3, 0.9))
    second = np.clip(middle * np.exp(rng.normal(0, 0.35)) + rng.normal(0, 0.12, size=3), 0, 1)
    contrast = rng.uniform(0.2, 0.4)
    return np.clip([[base - contrast, base + contrast] for base in (middle, second)], 0, 1).astype(np.float32)


def render(scene: Scene, rng: np.random.Generator, t: float = 0.0, progress: float = 0.0) -> Picture:
    """The scene at frame `t`; `progress` in [0, 1] moves the camera along its path; `rng` draws the noise."""
    canvas, areas = _camera(scene, progress)
    objects, parts = np.zeros_like(areas), np.zeros_like(areas)
    for number, thing in enumerate(scene.things, start=1):
        _paint((canvas, objects, parts), thing, number, scene, t)
    labels, mixed = _majority(objects)
    step = slice(None, None, OVERSAMPLING)
    return Picture(_expose(canvas, scene, rng), labels, mixed, parts[step, step], areas[step, step])


def _camera(scene: Scene, progress: float) -> Maps:
    side = OVERSAMPLING * scene.size
    middle = (len(scene.backdrop) - side) / 2
    x, y = middle + scene.pan * (progress - 0.5) if middle else (0.0, 0.0)
    shift = np.array([[1, 0, x], [0, 1, y]], dtype=np.float32)
    ways = (scene.backdrop, cv2.INTER_LINEAR), (scene.areas, cv2.INTER_NEAREST)
    return tuple(cv2.warpAffine(m, shift, (side, side), flags=how | cv2.WARP_INVERSE_MAP) for m, how in ways)


def _paint(maps: Maps, thing: Thing, number: int, scene: Scene, t: float) -> None:
    """Draws a thing onto the canvas (S, S, 3) and into the objects and parts (S, S), in place."""
    side = OVERSAMPLING * scene.size
    radius, angle = thing.radius * side, thing.angle + thing.spin * t
    rotation = _rotation(angle).astype(np.float32)
    centre = thing.position(t) * side
    outlines = (thing.deform(polygon, t) @ rotation.T * radius + centre for polygon in thing.polygons)
    coverage = np.zeros((side, side), dtype=np.uint8)  # later outlines are holes; four fractional bits
    fixed = [np.round(outline * 16).astype(np.int32) for outline in outlines]
    cv2.fillPoly(coverage, fixed, 255, lineType=cv2.LINE_AA, shift=4)
    wide, _ = _box_around(coverage, margin=int(0.6 * radius) + 2)  # with room for the shadow
    _cast_shadow(maps[0][wide], coverage[wide], scene, radius)
    box, corner = _box_around(coverage, margin=2)
    coverage, canvas, objects, parts = (values[box] for values in (coverage, *maps))
    rows, columns = (np.arange(n, dtype=np.float32) / np.float32(radius) for n in coverage.shape)
    start = ((corner - centre) / radius).astype(np.float32)
    across, down = columns + start[0], (rows + start[1])[:, None]
    x, y = (across * a + down * b for a, b in rotation.T)  # in the object's own frame, in units of its radius
    second = x > thing.parting
    colour = _surface(thing, x, y, second) * _relief(coverage, scene, radius)[..., None]
    canvas += (coverage * np.float32(1 / 255))[..., None] * (colour - canvas)
    inside = coverage >= 128
    objects[inside], parts[inside] = number, second[inside]


def _box_around(coverage: np.ndarray, margin: int) -> tuple[tuple[slice, slice], np.ndarray]:
    """The rows and columns that an object and its margin take, and their (x, y) corner."""
    x, y, width, height = cv2.boundingRect(coverage)
    x0, y0 = max(x - margin, 0), max(y - margin, 0)
    return np.s_[y0 : y + height + margin, x0 : x + width + margin], np.array([x0, y0])


def _cast_shadow(canvas: np.ndarray, coverage: np.ndarray, scene: Scene, radius: float) -> None:
    x, y = -0.22 * radius * scene.light
    moved = cv2.warpAffine(coverage, np.array([[1, 0, x], [0, 1, y]], dtype=np.float32), coverage.shape[::-1])
    canvas *= (1 - np.float32(scene.shadow / 255) * _soften(moved, 0.12 * radius + 0.5))[..., None]


def _soften(coverage: np.ndarray, sigma: float) -> np.ndarray:
    """A blur of about `sigma` pixels, by three box filters, several times faster than a Gaussian."""
    width = 2 * int(sigma + 0.5) + 1
    for _ in range(3):
        coverage = cv2.blur(coverage, (width, width), borderType=cv2.BORDER_REPLICATE)
    return coverage


def _surface(thing: Thing, x: np.ndarray, y: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(h, w, 3) float32 colour of an object before light falls on it."""
    phase = thing.texture_phase * (1, thing.texture != "veins")  # veins keep their midline
    u, v = (a * x + b * y + np.float32(p) for (a, b), p in zip(thing.texture_frame, phase, strict=True))
    light = np.clip(0.5 + np.float32(0.5 * thing.sharpness) * TEXTURES[thing.texture](u, v), 0, 1)[..., None]
    first, other = (dark + (bright - dark) * light for dark, bright in thing.colours)
    return np.where(second[..., None], other, first)


def _relief(coverage: np.ndarray, scene: Scene, radius: float) -> np.ndarray:
    """(h, w) float32 brightness of a surface that curves down towards its outline, lit from one side."""
    height = _soften(coverage.astype(np.float32) / 255, 0.16 * radius + 0.5)
    slope_x, slope_y = cv2.Sobel(height, cv2.CV_32F, 1, 0), cv2.Sobel(height, cv2.CV_32F, 0, 1)
    facing = (slope_x * scene.light[0] + slope_y * scene.light[1]) * np.float32(-radius / 16)
    return np.clip(1 + facing, 0.45, 1.5)


def _expose(canvas: np.ndarray, scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """(size, size, 3) uint8: averaged down, lit unevenly, blurred, with the sensor's noise."""
    image = cv2.resize(canvas, (scene.size, scene.size), interpolation=cv2.INTER_AREA)
    ramp = np.linspace(-1, 1, scene.size, dtype=np.float32)
    across, down = np.float32(scene.gradient)
    image *= (1 + across * ramp + down * ramp[:, None])[..., None]
    if scene.blur > 0.3:
        image = cv2.GaussianBlur(image, (0, 0), scene.blur)
    image += np.float32(scene.noise) * rng.standard_normal(image.shape, dtype=np.float32)
    return np.clip(np.round(image * 255), 0, 255).astype(np.uint8)


def _majority(objects: np.ndarray) -> Maps:
    """Of each pixel's four samples: the commonest id, and whether it covers no more than half."""
    samples = np.stack([objects[y::2, x::2] for y in (0, 1) for x in (0, 1)])  # (4, H, W)
    votes = (samples[:, None] == samples[None]).sum(axis=1, dtype=np.uint8)
    winner = votes.argmax(axis=0)
    return np.take_along_axis(samples, winner[None], axis=0)[0], votes.max(axis=0) <= OVERSAMPLING
