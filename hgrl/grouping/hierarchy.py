"""From an edge map to a region tree: oriented-watershed-style arcs, average linkage, a cut to few leaves.

Arbelaez, Maire, Fowlkes, Malik, "Contour detection and hierarchical image segmentation" (TPAMI 2011), section 4, as the paper's section 4.1
uses it. Not done: the oriented re-weighting of arcs (it harmed on BSDS val), their double-sized contour grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import higra as hg
import numpy as np
import scipy.ndimage
import scipy.sparse

from hgrl.config import GroupingSettings
from hgrl.grouping.region_tree import RegionTree

SMOOTHING = 1.0  # px; the watershed floods a smoothed map, or noise makes basins of its own
REFERENCE = 481 * 321  # px; `min_area` is given for a BSDS image


@dataclass(frozen=True)
class Arcs:
    """Regions of an image and the arcs between them.

    labels: (H, W) int64, 0 .. regions-1; ends: (m, 2) int64, the regions an arc parts (first < second);
    length: (m,) float64, lattice edges along it; strength: (m,) float64, their mean weight.
    """

    labels: np.ndarray
    ends: np.ndarray
    length: np.ndarray
    strength: np.ndarray

    @property
    def regions(self) -> int:
        return int(self.labels.max()) + 1


def lattice_weights(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the two pixels of each lattice edge of (H, W): horizontal edges (H, W-1), vertical edges (H-1, W)."""
    return (values[:, :-1] + values[:, 1:]) / 2, (values[:-1] + values[1:]) / 2


@lru_cache(maxsize=4)
def _lattice(shape: tuple[int, int]) -> hg.UndirectedGraph:
    return hg.get_4_adjacency_graph(shape)


def watershed(edge_map: np.ndarray) -> np.ndarray:
    """Basins of the smoothed edge map: (H, W) int64, 0 .. n-1, each connected, without lines between them."""
    if min(edge_map.shape) == 1:  # no lattice to flood: one region
        return np.zeros(edge_map.shape, np.int64)
    graph = _lattice(edge_map.shape)
    smooth = scipy.ndimage.gaussian_filter(edge_map.astype(np.float64), SMOOTHING)
    weights = hg.weight_graph(graph, smooth.ravel(), hg.WeightFunction.mean)
    return np.asarray(hg.labelisation_watershed(graph, weights), np.int64).reshape(edge_map.shape) - 1


def collect_arcs(labels: np.ndarray, horizontal: np.ndarray, vertical: np.ndarray) -> Arcs:
    """Arcs between the regions, their strength the mean of the lattice weights that cross them."""
    across, down = labels[:, :-1] != labels[:, 1:], labels[:-1] != labels[1:]
    first = np.concatenate([labels[:, :-1][across], labels[:-1][down]])
    second = np.concatenate([labels[:, 1:][across], labels[1:][down]])
    weight = np.concatenate([horizontal[across], vertical[down]]).astype(np.float64)
    return Arcs(labels, *_combine(first, second, np.ones(len(weight)), weight))


def _combine(first: np.ndarray, second: np.ndarray, length: np.ndarray, strength: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One arc for each pair of regions: its ends, its length, its mean strength weighted by length."""
    low, high = np.minimum(first, second), np.maximum(first, second)
    keys, number = np.unique(low * (high.max(initial=0) + 1) + high, return_inverse=True)
    total = np.bincount(number, length, len(keys))
    mean = np.bincount(number, length * strength, len(keys)) / total
    ends = np.stack(np.divmod(keys, high.max(initial=0) + 1), axis=1).astype(np.int64)
    return ends, total, mean


def merge_small(arcs: Arcs, least: float) -> Arcs:
    """Merge each region of fewer than `least` pixels into the neighbour behind its weakest arc, until none is left.

    In rounds: all small regions at once, then arcs are averaged again. Two regions that are large enough are never merged.
    """
    while True:
        areas = np.bincount(arcs.labels.ravel())
        small = areas < least
        if arcs.regions == 1 or not small.any():
            return arcs
        target = _weakest_neighbours(arcs, small)
        graph = scipy.sparse.coo_array((np.ones(len(target), bool), (np.arange(len(target)), target)), shape=(len(target),) * 2)
        arcs = _relabel(arcs, scipy.sparse.csgraph.connected_components(graph, directed=False)[1].astype(np.int64))


def _weakest_neighbours(arcs: Arcs, small: np.ndarray) -> np.ndarray:
    """For each small region the region behind its weakest arc (the first of equals); itself for the others."""
    target = np.arange(len(small))
    both = np.concatenate([arcs.ends, arcs.ends[:, ::-1]])
    order = np.argsort(-np.tile(arcs.strength, 2), kind="stable")  # the weakest is written last
    order = order[small[both[order, 0]]]
    target[both[order, 0]] = both[order, 1]
    return target


def _relabel(arcs: Arcs, number: np.ndarray) -> Arcs:
    """Regions joined as `number` (old region -> new region) says."""
    first, second = number[arcs.ends[:, 0]], number[arcs.ends[:, 1]]
    keep = first != second
    return Arcs(number[arcs.labels], *_combine(first[keep], second[keep], arcs.length[keep], arcs.strength[keep]))


def average_linkage(arcs: Arcs) -> tuple[np.ndarray, np.ndarray]:
    """Merge the two regions parted by the weakest arc, average the arcs they share, repeat.

    Returns children (n-1, 2) int64 and heights (n-1,) float64 in merge order, made non-decreasing toward the root: a merge is never
    lower than what it joins (averaging can bring an arc under the one just removed).
    """
    graph = hg.UndirectedGraph(arcs.regions)
    graph.add_edges(arcs.ends[:, 0], arcs.ends[:, 1])
    tree, altitudes = hg.binary_partition_tree_average_linkage(graph, arcs.strength, arcs.length)
    children = np.sort(np.asarray(tree.parents())[:-1].argsort(kind="stable").reshape(-1, 2), axis=1)
    heights = np.array(altitudes, np.float64)
    for node, pair in enumerate(children, start=arcs.regions):
        heights[node] = max(heights[node], heights[pair[0]], heights[pair[1]])
    return children, heights[arcs.regions :]


def cut_tree(labels: np.ndarray, children: np.ndarray, heights: np.ndarray, most: int) -> RegionTree:
    """Keep the highest merges so that at most `most` leaves remain; ties are broken parent first, or whole subtrees would drop out."""
    regions = len(children) + 1
    order = np.lexsort((np.arange(len(heights)), heights))  # a parent comes after its children
    kept = order[max(0, len(order) - (most - 1)) :]
    parent = np.arange(2 * regions - 1)
    parent[children] = regions + np.arange(len(children))[:, None]
    is_kept = np.zeros(2 * regions - 1, bool)
    is_kept[regions + kept] = True
    top = _climb(parent, is_kept)  # for every node outside the kept merges: the leaf of the new tree that holds it
    leaves, leaf_labels = np.unique(top[labels], return_inverse=True)
    number = np.full(2 * regions - 1, -1)
    number[leaves] = np.arange(len(leaves))
    number[regions + kept] = len(leaves) + np.arange(len(kept))
    return RegionTree(
        leaf_labels.reshape(labels.shape).astype(np.uint8),
        np.sort(number[children[kept]], axis=1).astype(np.uint16).reshape(-1, 2),
        np.clip(heights[kept], 0, 1).astype(np.float32),
    )


def _climb(parent: np.ndarray, is_kept: np.ndarray) -> np.ndarray:
    """The highest ancestor of each node that is not kept (itself included); kept nodes map to themselves."""
    top = np.arange(len(parent))
    for node in reversed(range(len(parent) - 1)):  # parents have larger numbers: they are known first
        if not is_kept[node] and not is_kept[parent[node]]:
            top[node] = top[parent[node]]
    return top


def build_tree(arcs: Arcs, settings: GroupingSettings) -> RegionTree:
    """The region tree over arcs: small regions merged first, average linkage, at most `max_regions` leaves (section 4.1)."""
    arcs = merge_small(arcs, settings.min_area * arcs.labels.size / REFERENCE)
    if arcs.regions == 1:
        return RegionTree(np.zeros(arcs.labels.shape, np.uint8), np.zeros((0, 2), np.uint16), np.zeros(0, np.float32))
    return cut_tree(arcs.labels, *average_linkage(arcs), settings.max_regions)
