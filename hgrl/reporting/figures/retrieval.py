"""Figure 4: a segment of one image, and the segments of other images that are nearest to it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from hgrl.core.labels import VOID
from hgrl.data.samples import Samples
from hgrl.evaluation.retrieval import Segments, distinct_images, enlarge, majority_classes, nearest_segments
from hgrl.reporting.figures.panels import grid

DEPTH = 200  # ranks searched for neighbours in different images
MOSTLY = 0.75  # of a query's pixels are of its class
SIGNS = {True: "\N{CHECK MARK}", False: "\N{BALLOT X}"}
COLOURS = {True: "#0072B2", False: "#D55E00", None: "black"}  # blue and vermilion: apart for any eye


@dataclass(frozen=True)
class Tile:
    """One picture of the grid."""

    image: np.ndarray  # (H, W, 3) uint8
    mask: np.ndarray  # (H, W) bool: the segment
    title: str
    right: bool | None = None  # whether a neighbour has the query's class; of the query itself None


def query_rows(queries: Segments, samples: Samples, count: int) -> list[int]:
    """Of `count` classes other than 0, spread over their list, the largest segment that is mostly of it."""
    labels, sizes = majority_classes(queries, samples), []
    for image, cells in enumerate(queries.maps):
        mask, own = samples.mask(image), labels[queries.image == image]
        inside = enlarge(cells, mask.shape).ravel()
        pixels = np.bincount(inside, minlength=len(own))
        pure = np.bincount(inside, mask.ravel() == own[inside], len(own)) >= MOSTLY * pixels
        sizes.append(np.where(pure & (own != 0) & (own != VOID), pixels / mask.size, 0))
    sizes = np.concatenate(sizes)
    shown = np.unique(labels[sizes > 0])
    objects = [int(np.where(labels == class_, sizes, 0).argmax()) for class_ in shown]
    picked = np.linspace(0, len(objects) - 1, min(count, len(objects))).round()
    return [objects[int(k)] for k in picked]


def same_places(rows: Sequence[int], queries: Segments, others: Segments) -> list[int]:
    """For segments of one network those of another, in the same images, that overlap them most (IoU).

    Both have their maps on grids of one size."""
    found = []
    for image, segment in zip(queries.image[rows], queries.segment[rows], strict=True):
        own, candidates = queries.maps[image] == segment, np.flatnonzero(others.image == image)
        masks = others.maps[image] == others.segment[candidates][:, None, None]
        overlap = (masks & own).sum((1, 2)) / (masks | own).sum((1, 2))
        found.append(int(candidates[overlap.argmax()]))
    return found


def retrieval_tiles(
    queries: Segments,
    val: Samples,
    gallery: Segments,
    train: Samples,
    rows: Sequence[int],
    classes: Sequence[int],
    neighbours: int,
) -> list[list[Tile]]:
    """Per query its tile, then nearest segments in `neighbours` different images, with class and cosine.

    classes: of each query, which a right neighbour has to have; ids of `val.classes`."""
    gallery_classes, depth = majority_classes(gallery, train), min(DEPTH, len(gallery.image))
    found, cosines = nearest_segments(queries.descriptors[rows], gallery.descriptors, depth)
    names, lists = {**dict(enumerate(val.classes)), VOID: "void"}, []
    for row, wanted, ranks, similarity in zip(rows, classes, found, cosines, strict=True):
        tiles = [_tile(queries, row, val, f"query: {names[wanted]}")]
        for near in distinct_images(ranks, gallery, neighbours):
            right = bool(gallery_classes[near] == wanted)
            title = f"{SIGNS[right]} {names[gallery_classes[near]]} {similarity[ranks == near][0]:.2f}"
            tiles.append(_tile(gallery, near, train, title, right))
        lists.append(tiles)
    return lists


def _tile(segments: Segments, row: int, samples: Samples, title: str, right: bool | None = None) -> Tile:
    number = int(segments.image[row])
    image = samples.image(number)
    return Tile(image, enlarge(segments.maps[number], image.shape[:2]) == segments.segment[row], title, right)


def retrieval_grid(networks: Mapping[str, Sequence[Sequence[Tile]]]) -> Figure:
    """{network: a list of tiles per query}: query by query a row for each network, segments outlined.

    Neighbours of the query's class have a tick and a blue frame, others a cross and an orange one."""
    rows = [
        (name, tiles)
        for of_query in zip(*networks.values(), strict=True)
        for name, tiles in zip(networks, of_query, strict=True)
    ]
    figure, axes = grid(len(rows), max(len(tiles) for _, tiles in rows), 1.25, aspect=1.1)
    for row, (name, tiles) in zip(axes, rows, strict=True):
        row[0].set_ylabel(name, fontsize=8)
        for axis in row[len(tiles) :]:  # some have fewer neighbours
            axis.axis("off")
        for axis, tile in zip(row, tiles, strict=False):
            dimmed = np.where(tile.mask[..., None], tile.image, tile.image // 2 + 64).astype(np.uint8)
            axis.imshow(dimmed, interpolation="nearest")
            axis.contour(tile.mask, [0.5], colors="gold", linewidths=1.2)
            axis.set_title(tile.title, fontsize=7, color=COLOURS[tile.right])
            axis.spines[:].set(color=COLOURS[tile.right], linewidth=1 if tile.right is None else 2.5)
    return figure


def segment_map(image: np.ndarray, networks: Mapping[str, np.ndarray]) -> Figure:
    """An image beside the K-means segments (h, w) of each network, each in its own colour."""
    figure, axes = grid(1, 1 + len(networks), 2.4)
    maps = {f"{name}: {cells.max() + 1} segments": cells for name, cells in networks.items()}
    shown = {"image": image, **{title: enlarge(cells, image.shape[:2]) for title, cells in maps.items()}}
    for axis, (title, picture) in zip(axes[0], shown.items(), strict=True):
        axis.imshow(picture, cmap="tab20", interpolation="nearest")
        axis.set_title(title, fontsize=8)
    return figure
