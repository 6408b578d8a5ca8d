"""Figure 4: a segment of one image, and the segments of other images that are nearest to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hgrl.core.labels import VOID
from hgrl.evaluation.retrieval import Segments, distinct_images, enlarge, majority_classes, nearest_segments

if TYPE_CHECKING:
    from hgrl.data.samples import Samples

DEPTH = 200  # ranks searched for neighbours in different images


@dataclass(frozen=True)
class Tile:
    """One picture of the grid."""

    image: np.ndarray  # (H, W, 3) uint8
    mask: np.ndarray  # (H, W) bool: the segment
    title: str
    right: bool = True  # a neighbour of the query's class


def query_rows(queries: Segments, samples: Samples, count: int) -> list[int]:
    """`count` query segments, one an image, picked by rule and not by eye.

    The images that hold an object, in order, spread over the split; of each, the largest segment whose
    majority class is not class 0.
    """
    sizes = np.concatenate([np.bincount(grid.ravel()) / grid.size for grid in queries.maps])
    labels = majority_classes(queries, samples)
    sizes[(labels == 0) | (labels == VOID)] = 0
    best = [
        rows[sizes[rows].argmax()]
        for rows in np.split(np.arange(len(sizes)), np.flatnonzero(np.diff(queries.image)) + 1)
    ]
    objects = [int(row) for row in best if sizes[row] > 0]
    return [
        objects[i] for i in np.linspace(0, len(objects) - 1, min(count, len(objects))).round().astype(int)
    ]


def retrieval_tiles(
    queries: Segments, val: Samples, gallery: Segments, train: Samples, rows: Sequence[int], neighbours: int
) -> list[list[Tile]]:
    """A list a query: the query's tile, then its nearest segments in `neighbours` different images, with
    class and cosine.
    """
    query_classes, gallery_classes = majority_classes(queries, val), majority_classes(gallery, train)
    found, cosines = nearest_segments(queries, gallery, np.asarray(rows), min(DEPTH, len(gallery.image)))
    grid = []
    for row, ranks, similarity in zip(rows, found, cosines):
        tiles = [_tile(queries, row, val, f"query: {_name(query_classes[row], val)}")]
        for near in distinct_images(ranks, gallery, neighbours):
            cosine = similarity[ranks == near][0]
            title = f"{_name(gallery_classes[near], train)}  {cosine:.2f}"
            tiles.append(
                _tile(gallery, near, train, title, bool(gallery_classes[near] == query_classes[row]))
            )
        grid.append(tiles)
    return grid


def _name(label: int, samples: Samples) -> str:
    return "void" if label == VOID else samples.classes[label]


def _tile(segments: Segments, row: int, samples: Samples, title: str, right: bool = True) -> Tile:
    image = samples.image(int(segments.image[row]))
    return Tile(image, segments.mask(row, image.shape[:2]), title, right)


def retrieval_grid(grid: Sequence[Sequence[Tile]]) -> Figure:
    """A row a query: the segment outlined and the rest dimmed; titles of another class than the query's are
    red.
    """
    columns = max(len(tiles) for tiles in grid)
    figure = Figure(figsize=(1.7 * columns, 1.85 * len(grid)), layout="constrained")
    for axes, tiles in zip(figure.subplots(len(grid), columns, squeeze=False), grid):
        for axis in axes:
            axis.axis("off")
        for axis, tile in zip(axes, tiles):
            outline(axis, tile.image, tile.mask)
            axis.set_title(tile.title, fontsize=7, color="black" if tile.right else "tab:red")
    return figure


def outline(axis: Axes, image: np.ndarray, mask: np.ndarray, colour: str = "gold") -> None:
    """An image whose segment `mask` keeps its light and has a line around it."""
    dimmed = np.where(mask[..., None], image, image // 2 + 64).astype(np.uint8)
    axis.imshow(dimmed, interpolation="nearest")
    axis.contour(np.pad(mask, 1)[1:-1, 1:-1], [0.5], colors=colour, linewidths=1.2)


def segment_map(image: np.ndarray, grid: np.ndarray) -> Figure:
    """An image beside its K-means segments, each in its own colour."""
    figure = Figure(figsize=(5, 2.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.imshow(image)
    right.imshow(enlarge(grid, image.shape[:2]), cmap="tab20", interpolation="nearest")
    for axis, title in ((left, "image"), (right, f"{int(grid.max()) + 1} segments")):
        axis.set_title(title, fontsize=9)
        axis.axis("off")
    return figure
