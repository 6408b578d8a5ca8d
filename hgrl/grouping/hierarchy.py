"""From an edge map to a region tree: watershed arcs, average linkage, a cut to few leaves.

Arbelaez et al., "Contour detection and hierarchical image segmentation" (TPAMI 2011), section 4, as the
paper's section 4.1 uses it. Not done: flooding on their double-sized grid; arcs run between pixels."""

from dataclasses import dataclass
from functools import lru_cache

import higra as hg
import numpy as np
import scipy.ndimage
import scipy.sparse

from hgrl.core.settings import GroupingSettings
from hgrl.grouping.arc_segments import arc_normals
from hgrl.grouping.merge_tree import MergeTree
from hgrl.grouping.orientation import Pair, oriented_weights
from hgrl.grouping.region_tree import RegionTree

SMOOTHING = 1.0  # px; the watershed floods a smoothed map, or noise makes basins of its own
REFERENCE = 481 * 321  # px; `min_area` is given for a BSDS image
lattice = lru_cache(maxsize=4)(hg.get_4_adjacency_graph)  # by the image's (H, W)


@dataclass(frozen=True)
class Arcs:
    """Regions of an image and the arcs between them.

    labels: (H, W) int64, 0 .. regions-1; ends: (m, 2) int64, the regions an arc parts (first < second);
    length: (m,) float64, lattice edges along it; strength: (m,) float64, their mean weight."""

    labels: np.ndarray
    ends: np.ndarray
    length: np.ndarray
    strength: np.ndarray

    @property
    def regions(self) -> int:
        return int(self.labels.max()) + 1


def lattice_weights(values: np.ndarray) -> Pair:
    """Mean of both pixels of each lattice edge of (H, W): horizontal (H, W-1), vertical (H-1, W)."""
    return (values[:, :-1] + values[:, 1:]) / 2, (values[:-1] + values[1:]) / 2


def watershed(edge_map: np.ndarray) -> np.ndarray:
    """Basins of the smoothed edge map: (H, W) int64, 0 .. n-1, each connected, without lines between them."""
    if min(edge_map.shape) == 1:  # no lattice to flood: one region
        return np.zeros(edge_map.shape, np.int64)
    graph = lattice(edge_map.shape)
    smooth = scipy.ndimage.gaussian_filter(edge_map.astype(np.float64), SMOOTHING)
    weights = hg.weight_graph(graph, smooth.ravel(), hg.WeightFunction.mean)
    return np.asarray(hg.labelisation_watershed(graph, weights), np.int64).reshape(edge_map.shape) - 1


def watershed_arcs(edge_map: np.ndarray, arc_strength: str) -> Arcs:
    """Watershed regions of an edge map (H, W) in [0, 1] and the strength of their arcs.

    arc_strength: `mean` of the map along the arc; `oriented`: the response at its angle (section 4.2)."""
    labels = watershed(edge_map)
    if arc_strength == "mean":
        return collect_arcs(labels, *lattice_weights(edge_map))
    return collect_arcs(labels, *oriented_weights(edge_map, arc_normals(labels)))


def collect_arcs(labels: np.ndarray, horizontal: np.ndarray, vertical: np.ndarray) -> Arcs:
    """Arcs between the regions, their strength the mean of the lattice weights that cross them."""
    across, down = labels[:, :-1] != labels[:, 1:], labels[:-1] != labels[1:]
    first = np.concatenate([labels[:, :-1][across], labels[:-1][down]])
    second = np.concatenate([labels[:, 1:][across], labels[1:][down]])
    weight = np.concatenate([horizontal[across], vertical[down]]).astype(np.float64)
    return _combined(labels, np.stack([first, second]), np.ones(len(weight)), weight)


def _combined(labels: np.ndarray, ends: np.ndarray, length: np.ndarray, strength: np.ndarray) -> Arcs:
    """One arc for each pair of regions in `ends` (2, m): its length, and its mean strength by length."""
    low, high = np.sort(ends, axis=0)
    keys, number = np.unique(low * (high.max(initial=0) + 1) + high, return_inverse=True)
    total = np.bincount(number, length, len(keys))
    mean = np.bincount(number, length * strength, len(keys)) / total
    ends = np.stack(np.divmod(keys, high.max(initial=0) + 1), axis=1).astype(np.int64)
    return Arcs(labels, ends, total, mean)


def merge_small(arcs: Arcs, least: float) -> Arcs:
    """Merge each region of fewer than `least` pixels into the neighbour behind its weakest arc.

    In rounds, all small regions at once, then arcs are averaged again; never two large enough ones."""
    while True:
        small = np.bincount(arcs.labels.ravel()) < least
        if arcs.regions == 1 or not small.any():
            return arcs
        target = np.arange(len(small))  # the region behind the weakest arc (the first of equals)
        both = np.concatenate([arcs.ends, arcs.ends[:, ::-1]])
        order = np.argsort(-np.tile(arcs.strength, 2), kind="stable")  # the weakest is written last
        order = order[small[both[order, 0]]]
        target[both[order, 0]] = both[order, 1]
        joins = (np.ones(len(target), bool), (np.arange(len(target)), target))
        graph = scipy.sparse.coo_array(joins, shape=(len(target),) * 2)
        number = scipy.sparse.csgraph.connected_components(graph, directed=False)[1].astype(np.int64)
        ends, labels = number[arcs.ends].T, number[arcs.labels]
        still = ends[0] != ends[1]
        arcs = _combined(labels, ends[:, still], arcs.length[still], arcs.strength[still])


def average_linkage(arcs: Arcs, weight: str = "length") -> tuple[np.ndarray, np.ndarray]:
    """Merge the two regions parted by the weakest arc, average the arcs they share, repeat.

    weight: an arc counts by its `length`, or its `root`. Returns children (n-1, 2) int64 and heights (n-1,)
    float64 in merge order; a mean rounded to below the arc removed before it is raised to the highest of what
    it joins."""
    graph = hg.UndirectedGraph(arcs.regions)
    graph.add_edges(arcs.ends[:, 0], arcs.ends[:, 1])
    weights = arcs.length if weight == "length" else np.sqrt(arcs.length)
    tree, altitudes = hg.binary_partition_tree_average_linkage(graph, arcs.strength, weights)
    leaves = np.full(arcs.regions, -np.inf)
    raised = hg.accumulate_and_max_sequential(tree, altitudes, leaves, hg.Accumulators.max)
    children = np.sort(np.stack([tree.child(0), tree.child(1)], axis=1), axis=1)
    return children.astype(np.int64), raised[arcs.regions :]


def build_hierarchy(arcs: Arcs, min_area: float, weight: str = "length") -> MergeTree:
    """Small regions merged (`min_area` px at 481x321), then average linkage; heights are not clipped."""
    arcs = merge_small(arcs, min_area * arcs.labels.size / REFERENCE)
    if arcs.regions == 1:
        return MergeTree(arcs.labels, np.zeros((0, 2), np.int64), np.zeros(0))
    return MergeTree(arcs.labels, *average_linkage(arcs, weight))


def build_tree(arcs: Arcs, settings: GroupingSettings) -> RegionTree:
    """The region tree over arcs (section 4.1): `build_hierarchy`, cut to at most `max_regions` leaves."""
    return build_hierarchy(arcs, settings.min_area, settings.arc_weight).cut(settings.max_regions)
