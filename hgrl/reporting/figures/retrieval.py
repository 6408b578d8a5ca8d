"""Figure 4: a segment of one image, and the segments of other images that are nearest to it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from hgrl.core.labels import VOID
from hgrl.data.samples import Samples
from hgrl.evaluation.retrieval import Segments, distinct_images, enlarge, majority_classes, nearest_segments
from hgrl.reporting.figures.panels import grid

DEPTH = 200  # ranks searched for neighbours in different images


@dataclass(frozen=True)
class Tile:
    """One picture of the grid."""

    image: np.ndarray  # (H, W, 3) uint8
    mask: np.ndarray  # (H, W) bool: the segment
    title: str
    right: bool = True  # a neighbour of the query's class


def query_rows(queries: Segments, samples: Samples, count: int) -> list[int]:
    """The largest segment of a class other than 0 in `count` images with objects, spread over the split."""
    sizes = np.concatenate([np.bincount(cells.ravel()) / cells.size for cells in queries.maps])
    labels = majority_classes(queries, samples)
    sizes[(labels == 0) | (labels == VOID)] = 0
    per_image = np.split(np.arange(len(sizes)), np.flatnonzero(np.diff(queries.image)) + 1)
    largest = [rows[sizes[rows].argmax()] for rows in per_image]
    objects = [int(row) for row in largest if sizes[row] > 0]
    picked = np.linspace(0, len(objects) - 1, min(count, len(objects))).round()
    return [objects[int(k)] for k in picked]


def retrieval_tiles(
    queries: Segments, val: Samples, gallery: Segments, train: Samples, rows: Sequence[int], neighbours: int
) -> list[list[Tile]]:
    """Per query its tile, then nearest segments in `neighbours` different images, with class and cosine."""
    query_classes, gallery_classes = majority_classes(queries, val), majority_classes(gallery, train)
    depth = min(DEPTH, len(gallery.image))
    found, cosines = nearest_segments(queries.descriptors[rows], gallery.descriptors, depth)
    names, lists = {**dict(enumerate(val.classes)), VOID: "void"}, []
    for row, ranks, similarity in zip(rows, found, cosines, strict=True):
        tiles = [_tile(queries, row, val, f"query: {names[query_classes[row]]}")]
        for near in distinct_images(ranks, gallery, neighbours):
            title = f"{names[gallery_classes[near]]}  {similarity[ranks == near][0]:.2f}"
            right = bool(gallery_classes[near] == query_classes[row])
            tiles.append(_tile(gallery, near, train, title, right))
        lists.append(tiles)
    return lists


def _tile(segments: Segments, row: int, samples: Samples, title: str, right: bool = True) -> Tile:
    number = int(segments.image[row])
    image = samples.image(number)
    return Tile(image, enlarge(segments.maps[number], image.shape[:2]) == segments.segment[row], title, right)


def retrieval_grid(queries: Sequence[Sequence[Tile]]) -> Figure:
    """A row per query, each segment outlined and the rest dimmed; titles of another class are red."""
    figure, axes = grid(len(queries), max(map(len, queries)), 1.7, aspect=1.1)
    for axis in axes.flat:
        axis.axis("off")
    for row, tiles in zip(axes, queries, strict=True):
        for axis, tile in zip(row, tiles, strict=False):  # some have fewer neighbours
            dimmed = np.where(tile.mask[..., None], tile.image, tile.image // 2 + 64).astype(np.uint8)
            axis.imshow(dimmed, interpolation="nearest")
            axis.contour(tile.mask, [0.5], colors="gold", linewidths=1.2)
            axis.set_title(tile.title, fontsize=7, color="black" if tile.right else "tab:red")
    return figure


def segment_map(image: np.ndarray, segments: np.ndarray) -> Figure:
    """An image beside its K-means segments (h, w), each in its own colour."""
    figure, axes = grid(1, 2, 2.4)
    shown = {"image": image, f"{int(segments.max()) + 1} segments": enlarge(segments, image.shape[:2])}
    for axis, (title, picture) in zip(axes[0], shown.items(), strict=True):
        axis.imshow(picture, cmap="tab20", interpolation="nearest")
        axis.set_title(title, fontsize=9)
    return figure
