"""Figure 5: masks carried through a video; the neighbours a cell listens to; scores over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hgrl.core.labels import VOID
from hgrl.metrics.outlines import boundary_map

if TYPE_CHECKING:
    from hgrl.data.samples import Video

COLOURS = (np.array(colormaps["Set1"].colors) * 255).astype(np.uint8)


def overlay(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8: the image with every object of an id map (0 background, 255 void) tinted and outlined
    in its own colour.
    """
    picture = image.copy()
    for k in np.unique(mask[(mask > 0) & (mask != VOID)]):
        colour = COLOURS[(int(k) - 1) % len(COLOURS)]
        inside = mask == k
        picture[inside] = (picture[inside] * 0.5 + colour * 0.5).astype(np.uint8)
        picture[boundary_map(inside)] = colour
    return picture


def tracking_overlay(
    video: Video, tracks: Mapping[str, Sequence[np.ndarray]], frames: Sequence[int]
) -> Figure:
    """A row a tracker ({name: one id map a frame}), a column a frame of `frames`."""
    height, width = video.frame(0).shape[:2]
    figure = Figure(
        figsize=(1.7 * len(frames), 1.75 * len(tracks) * height / width + 0.3), layout="constrained"
    )
    for row, (axes, (name, masks)) in enumerate(
        zip(figure.subplots(len(tracks), len(frames), squeeze=False), tracks.items())
    ):
        for axis, t in zip(axes, frames):
            axis.imshow(overlay(video.frame(t), masks[t]), interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            if row == 0:
                axis.set_title(f"frame {t}", fontsize=8)
        axes[0].set_ylabel(name, fontsize=8)
    return figure


def neighbour_picture(
    images: Sequence[np.ndarray],
    cell: tuple[int, int],
    neighbours: Sequence[tuple[int, int, int]],
    grid: tuple[int, int],
) -> Figure:
    """Where a cell's neighbours lie: images of the context frames and, last, of the query's frame.

    cell: (y, x) on the feature grid of shape `grid`; neighbours: (frame index, y, x) of each.
    """
    figure = Figure(figsize=(2.6 * len(images), 2.6), layout="constrained")
    points = [(len(images) - 1, *cell), *neighbours]
    for s, (axis, image) in enumerate(zip(figure.subplots(1, len(images), squeeze=False)[0], images)):
        axis.imshow(image)
        scale = np.array(image.shape[:2]) / grid
        places = np.array(
            [(np.array(place) + 0.5) * scale - 0.5 for frame, *place in points if frame == s]
        ).reshape(-1, 2)
        query = s == len(images) - 1
        style = (
            {"marker": "+", "color": "red", "ms": 12}
            if query
            else {"marker": "o", "color": "gold", "ms": 5, "mec": "black"}
        )
        axis.plot(places[:, 1], places[:, 0], linestyle="", **style)
        axis.set_title(
            "the cell" if query else f"{len(places)} of its neighbours, {len(images) - 1 - s} back",
            fontsize=8,
        )
        axis.axis("off")
    return figure


def scores_over_time(scores: Mapping[str, Sequence[float]], label: str = "J") -> Figure:
    """{tracker: a score in [0, 1] for each scored frame, from frame 1 on}."""
    figure = Figure(figsize=(6, 2.6), layout="constrained")
    axes = figure.subplots()
    for name, values in scores.items():
        axes.plot(range(1, len(values) + 1), values, marker=".", label=name)
    axes.set(xlabel="frame", ylabel=label, ylim=(0, 1.02))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, fontsize=8)
    return figure


def match_picture(truth: np.ndarray, predicted: np.ndarray) -> Figure:
    """Regions and boundaries of two boolean masks laid over each other: what J and F compare."""
    figure = Figure(figsize=(5, 2.5), layout="constrained")
    layers = (
        (truth, predicted, "regions: J"),
        (boundary_map(truth), boundary_map(predicted), "boundaries: F"),
    )
    for axis, (true, found, title) in zip(figure.subplots(1, 2), layers):
        axis.imshow(np.stack([1.0 - found, 1.0 - (true ^ found) * 0.7, 1.0 - true], -1))
        axis.set_title(title, fontsize=9)
        axis.axis("off")
    return figure
