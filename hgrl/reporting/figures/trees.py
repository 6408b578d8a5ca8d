"""A region tree as a picture: its cuts in colour, and beside them the dendrogram in the same colours."""

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import AutoLocator

from hgrl.grouping.region_tree import RegionTree
from hgrl.reporting.figures.panels import outlined

HUES = colormaps["turbo"]
MOST_NAMED = 12  # leaves with their numbers below
UNCUT = (0.6, 0.6, 0.6, 1.0)  # branches above the cut


def leaf_colours(tree: RegionTree, level: float) -> np.ndarray:
    """(n, 4) in [0, 1]: one colour per group of the cut at a level, the nearer in the tree the nearer."""
    groups, place = tree.leaf_groups(level), np.argsort(tree.order())
    means = np.bincount(groups, place + 0.5) / np.bincount(groups) / tree.regions
    return HUES(0.06 + 0.88 * means)[groups]


def tinted(image: np.ndarray, tree: RegionTree, level: float) -> np.ndarray:
    """(H, W, 3) uint8: the image's brightness in the colours of the cut's groups, with their outlines."""
    grey = image.mean(2, keepdims=True) / 255
    colours = leaf_colours(tree, level)[tree.labels][..., :3]
    return outlined(np.uint8(255 * (0.45 * colours + 0.55 * grey)), tree.cut(level))


def dendrogram(axes: Axes, tree: RegionTree, level: float | None = None) -> None:
    """Leaves side by side so that no branches cross; two meet at the height of their merge.

    level: of a cut, drawn as a dashed line; what it has merged is in the colours of `tinted`."""
    place, height = list(np.argsort(tree.order()) + 0.5), [0.0] * tree.regions + tree.heights.tolist()
    colours = leaf_colours(tree, -1 if level is None else level)
    inside = list(colours)
    branches, shades = [], []
    for (a, b), top in zip(tree.children, tree.heights, strict=True):
        branches.append([(place[a], height[a]), (place[a], top), (place[b], top), (place[b], height[b])])
        place.append((place[a] + place[b]) / 2)
        inside.append(inside[a] if level is not None and top <= np.float32(level) else np.array(UNCUT))
        shades.append(inside[-1])
    axes.add_collection(LineCollection(branches, colors=shades, linewidths=1.6))
    if level is not None:
        at = place[: tree.regions], np.zeros(tree.regions)
        axes.scatter(*at, color=colours, s=14, clip_on=False, zorder=3)
        axes.axhline(level, color="black", linestyle="--", linewidth=1)
    axes.set(xlim=(0, tree.regions), ylim=(0, 1.04 * tree.heights.max(initial=0.01)))
    named = tree.order() if tree.regions <= MOST_NAMED else []
    axes.set_xticks(np.arange(len(named)) + 0.5, named)
    axes.tick_params(axis="x", length=0)
    axes.yaxis.set_major_locator(AutoLocator())  # which `grid` has taken
    axes.set(xlabel="leaves" if len(named) else f"{tree.regions} leaves", ylabel="height of a merge")
    axes.spines[["top", "right", "bottom"]].set_visible(False)


def tree_and_cut(image: np.ndarray, tree: RegionTree, level: float, size: float = 3.6) -> Figure:
    """The cut of a tree at a level, and beside it the dendrogram with the cut as a dashed line."""
    (height, width), count = image.shape[:2], len(set(tree.leaf_groups(level)))
    figure = Figure(figsize=(size * width / height + size * 1.4, size), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(width / height, 1.4))
    left.imshow(tinted(image, tree, level))
    left.set(xticks=[], yticks=[], title=f"cut at {level:.2f}: {count} region{'s' * (count > 1)}")
    dendrogram(right, tree, level)
    return figure
