"""Short clips for methods that learn from motion: frames of videos, or stills set in motion.

Stills move as in FlyingChairs (Dosovitskiy et al. 2015): an image and objects pasted on it, cut from other
images, each with a smooth motion of its own. The flow from a frame to the next is then known."""

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from hgrl.core.errors import InputError
from hgrl.core.settings import ClipsSettings, Settings
from hgrl.data.samples import Samples
from hgrl.sampling.augment import middle
from hgrl.sampling.order import mixed_seed

CONTROL = np.stack(np.meshgrid(*[np.linspace(-0.5, 0.5, 3)] * 2)).reshape(2, -1)  # of the splines
SMALLEST = 0.15  # diameter of a pasted object, of the frame's side
LARGEST = 0.5


@dataclass(frozen=True)
class Motion:
    """Where a point of one frame is in the next: bent by a thin-plate spline, then moved by an affine map.

    Points are in units of the frame's side, from its middle: (-.5, -.5) is the top left corner."""

    linear: np.ndarray  # (2, 2)
    shift: np.ndarray  # (2,)
    bend: np.ndarray  # (2, 9), the displacement of each of `CONTROL`

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """(2, n) x and y -> (2, n) of the same type."""
        weights = np.concatenate([self.bend, np.zeros((2, 3))], axis=1) @ WEIGHTS  # 2, 12
        # the affine map of the bent points: one product for both
        weights[:, -2:] += np.eye(2)
        weights = self.linear @ weights
        weights[:, -3] += self.shift
        return weights.astype(points.dtype) @ _spline_basis(points)


def _spline_basis(points: np.ndarray) -> np.ndarray:
    """(2, n) -> (12, n): r^2 log r for the distance r from each control point, 1, x and y."""
    control = CONTROL.astype(points.dtype)
    squared = (control**2).sum(0)[:, None] + (points**2).sum(0) - 2 * control.T @ points
    squared = np.maximum(squared, np.finfo(points.dtype).tiny)
    return np.concatenate([0.5 * squared * np.log(squared), np.ones_like(points[:1]), points])


def _spline_weights() -> np.ndarray:
    """(12, 12): the weights of splines from their displacements at the control points, and three zeros."""
    rows = _spline_basis(CONTROL)  # 12, 9
    return np.linalg.inv(np.concatenate([rows, np.concatenate([rows[-3:].T, np.zeros((3, 3))])], axis=1))


WEIGHTS = _spline_weights()


def draw_motion(settings: ClipsSettings, rng: np.random.Generator) -> Motion:
    """A motion of random direction; sizes are normally distributed."""
    angle = np.deg2rad(settings.rotation) * rng.normal()
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    stretch = np.exp(settings.scale * rng.normal()) * np.eye(2) + settings.shear * rng.normal(size=(2, 2))
    shift, bend = (
        size * rng.normal(size=(2, n)) for size, n in ((settings.translation, 1), (settings.bend, 9))
    )
    return Motion(turn @ stretch, shift[:, 0], bend)


@dataclass(frozen=True)
class Layer:
    """A picture that moves: the last frame shows `pixels[corner + side * point]` at each point."""

    pixels: np.ndarray  # (h, w, 4) uint8, RGB and coverage
    corner: np.ndarray  # (2,) pixels: x and y of the frame's middle
    motion: Motion  # from each frame to the next
    border: int = cv2.BORDER_CONSTANT  # beyond the picture: nothing

    def paths(self, grid: np.ndarray, steps: int) -> list[np.ndarray]:
        """Where the points (2, n) of a frame are 0, 1, ... `steps` frames later."""
        paths = [grid]
        for _ in range(steps):
            paths.append(self.motion(paths[-1]))
        return paths

    def shown(self, points: np.ndarray, side: int) -> np.ndarray:
        """(side, side, 4) uint8: the picture at points of the last frame, row by row."""
        at = points * np.float32(side) + self.corner.astype(np.float32)[:, None]
        return cv2.remap(self.pixels, *at.reshape(2, side, side), cv2.INTER_LINEAR, borderMode=self.border)


def unit_grid(side: int) -> np.ndarray:
    """(2, side * side) float32: x and y of the middle of each pixel, row by row, in units of the side."""
    centres = (np.arange(side, dtype=np.float32) + 0.5) / np.float32(side) - np.float32(0.5)
    return np.stack(np.meshgrid(centres, centres)).reshape(2, -1)


def film(layers: list[Layer], frames: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames (T, S, S, 3) uint8 of layers, the topmost last, and the flow (T - 1, 2, S, S) float32.

    flow[t][:, y, x]: pixels that what frame t shows there moves right and down until frame t + 1, be it
    hidden then or outside. Each frame is drawn from the pictures themselves: none is blurred by another."""
    grid, shown, flow = unit_grid(side), [], []
    paths = [layer.paths(grid, frames - 1) for layer in layers]
    for t in range(frames):
        frame, moved = np.zeros((side, side, 3), np.float32), np.zeros((2, side, side), np.float32)
        for layer, path in zip(layers, paths, strict=True):
            pixels = layer.shown(path[frames - 1 - t], side)
            coverage = pixels[..., 3:].astype(np.float32) / 255
            frame += coverage * (pixels[..., :3] - frame)
            own = (path[1] - grid).reshape(2, side, side) * np.float32(side)
            moved = np.where(coverage[..., 0] >= 0.5, own, moved)
        shown.append(np.round(frame).astype(np.uint8))
        flow.append(moved)
    return np.stack(shown), np.stack(flow[:-1])


def draw_outline(rng: np.random.Generator) -> np.ndarray:
    """(n, 2) corners of an ellipse or a star-shaped polygon in [-.5, .5]^2."""
    if rng.random() < 0.5:
        angles, radius = np.linspace(0, 2 * np.pi, 32, endpoint=False), np.array([0.5, rng.uniform(0.2, 0.5)])
    else:
        angles = np.sort(rng.uniform(0, 2 * np.pi, size=rng.integers(4, 10)))
        radius = rng.uniform(0.25, 0.5, size=(len(angles), 1))
    turned = np.stack([np.cos(angles), np.sin(angles)], -1) * radius
    angle = rng.uniform(0, np.pi)
    return turned @ np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def cut_out(image: np.ndarray, outline: np.ndarray, side: int) -> np.ndarray:
    """(side, side, 4) uint8: an image (side, side, 3), covered inside an outline in [-.5, .5]^2."""
    coverage, fixed = np.zeros((side, side), np.uint8), np.round(((outline + 0.5) * side - 0.5) * 16)
    cv2.fillPoly(coverage, [fixed.astype(np.int32)], 255, lineType=cv2.LINE_AA, shift=4)
    return np.dstack([image, coverage])


@dataclass(frozen=True)
class Window:
    """A square part of an image, (x, y) its corner, in pixels; mirrored or not."""

    x: int
    y: int
    side: int
    mirrored: bool

    @classmethod
    def draw(cls, shape: tuple[int, ...], settings: Settings, rng: np.random.Generator) -> "Window":
        """`augment.crop_area` of the largest square, anywhere; mirrored as often as `augment.flip` says."""
        short = min(shape[:2])
        side = max(2, round(short * rng.uniform(*settings.augment.crop_area) ** 0.5))
        y, x = (int(rng.integers(length - side + 1)) for length in shape[:2])
        return cls(x, y, side, bool(rng.random() < settings.augment.flip))

    def crop(self, image: np.ndarray, side: int) -> np.ndarray:
        """(H, W, 3) -> (side, side, 3) uint8."""
        part = image[self.y : self.y + self.side, self.x : self.x + self.side]
        return _resized(part[:, ::-1] if self.mirrored else part, (side, side))

    def layer(self, image: np.ndarray, side: int, motion: Motion) -> Layer:
        """The whole image, with the window in the last frame; motion brings in what lies around it."""
        scale, (height, width) = side / self.side, image.shape[:2]
        size = max(1, round(width * scale)), max(1, round(height * scale))
        middle = np.array([self.x, self.y]) + self.side / 2
        if self.mirrored:
            image, middle[0] = image[:, ::-1], width - middle[0]
        pixels = _resized(image, size)
        corner = middle * size / (width, height) - 0.5
        opaque = np.full(pixels.shape[:2], 255, np.uint8)
        return Layer(np.dstack([pixels, opaque]), corner, motion, cv2.BORDER_REFLECT_101)


def _resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    how = cv2.INTER_AREA if size[0] < image.shape[1] else cv2.INTER_LINEAR
    return cv2.resize(np.ascontiguousarray(image), size, interpolation=how)


@dataclass(eq=False)
class ClipViews(Dataset):
    """(epoch, index) -> a clip as the tensors of a `Batch`, by name, by the job's seed alone.

    `images` are the T frames, (T, 3, S, S) uint8, and `flow` is there for stills in motion. The images are
    frames of videos (`data.clips`): the clip begins with the one asked for, or as late as the video allows;
    or stills."""

    samples: Samples
    settings: Settings
    seed: int
    videos: bool  # the images are frames; else stills

    def __post_init__(self) -> None:
        folders = [path.parent for path in self.samples.images]
        starts = [i + 1 for i, (one, other) in enumerate(pairwise(folders)) if one != other]
        self.bounds = np.array([0, *starts, len(folders)])  # of the videos
        self.in_memory: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        epoch, index = key
        cv2.setNumThreads(1)  # frames are too small to share
        rng = np.random.default_rng(mixed_seed(self.seed, epoch, index))
        own, side = self.settings.clips, self.settings.augment.crop_size
        if self.videos:
            pictures = [self._read(t) for t in self.frames_of(index)]
            window = Window.draw(pictures[0].shape, self.settings, rng)
            frames, known = np.stack([window.crop(picture, side) for picture in pictures]), {}
        else:
            frames, flow = film(self._layers(index, rng), own.frames, side)
            known = {"flow": torch.from_numpy(flow)}
        cells = torch.zeros(own.frames, side // 4, side // 4, dtype=torch.uint8)
        images = torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2)))
        return {"images": images, "labels": cells, "distances": torch.zeros(1, 1)} | known

    def whole(self, index: int) -> Tensor:
        image = torch.from_numpy(self._read(index)).permute(2, 0, 1)
        return middle(image, self.settings.augment.crop_size)

    def frames_of(self, index: int) -> range:
        """The frames of the clip that begins with frame `index`. InputError for a video that is too short."""
        own, video = self.settings.clips, np.searchsorted(self.bounds, index, side="right")
        (first, end), span = self.bounds[video - 1 : video + 1], (own.frames - 1) * own.stride + 1
        if end - first < span:
            problem = f"a video of {end - first} frames, but a clip spans {span}"
            remedy = "lower clips.frames or clips.stride, or remove the video"
            raise InputError(f"{self.samples.images[index].parent}: {problem}; {remedy}")
        start = int(min(index, end - span))
        return range(start, start + span, own.stride)

    def _layers(self, index: int, rng: np.random.Generator) -> list[Layer]:
        """A still, and objects cut from others, each with a motion of its own."""
        own, side, image = self.settings.clips, self.settings.augment.crop_size, self._read(index)
        window = Window.draw(image.shape, self.settings, rng)
        layers = [window.layer(image, side, draw_motion(own, rng))]
        for _ in range(rng.integers(own.objects[0], own.objects[1] + 1)):
            other = self._read(int(rng.integers(len(self.samples))))
            diameter = max(4, round(side * rng.uniform(SMALLEST, LARGEST)))
            picture = Window.draw(other.shape, self.settings, rng).crop(other, diameter)
            pixels = cut_out(picture, draw_outline(rng), diameter)
            place = rng.uniform(-0.45, 0.45, size=2) * side
            layers.append(Layer(pixels, (diameter - 1) / 2 - place, draw_motion(own, rng)))
        return layers

    def _read(self, index: int) -> np.ndarray:
        """(H, W, 3) uint8."""
        if index in self.in_memory:
            return self.in_memory[index]
        image = self.samples.image(index, self.settings.data.short_side)
        if self.settings.data.keep_in_memory:
            self.in_memory[index] = image
        return image
