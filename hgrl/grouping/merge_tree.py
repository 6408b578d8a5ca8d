"""The full hierarchy of an image: its contour map as benchmarks read it, and its cut to few leaves."""

from dataclasses import dataclass
from functools import cached_property

import higra as hg
import numpy as np

from hgrl.grouping.region_tree import RegionTree


@dataclass(frozen=True, eq=False)
class MergeTree:
    """A binary tree over n regions of an image; node n + k is merge k. `RegionTree` is its stored form.

    labels: (H, W) int64, the leaf of each pixel, 0 .. n-1; children: (n-1, 2) int64, the nodes that merge k
    joins, made before it; heights: (n-1,) float64, never lower than those of what it joins."""

    labels: np.ndarray
    children: np.ndarray
    heights: np.ndarray

    @property
    def regions(self) -> int:
        """n, the number of leaves."""
        return len(self.children) + 1

    @cached_property
    def tree(self) -> hg.Tree:
        """The same nodes as a higra tree."""
        parents = np.arange(2 * self.regions - 1)
        parents[self.children] = self.regions + np.arange(len(self.children))[:, None]
        return hg.Tree(parents)

    def distances(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """The heights at which leaves `first` and `second` (m,) meet: (m,) float64; 0 for equal ones."""
        meetings = self.tree.lowest_common_ancestor(first.astype(np.int64), second.astype(np.int64))
        return np.concatenate([np.zeros(self.regions), self.heights])[meetings]

    def ucm2(self) -> np.ndarray:
        """Ultrametric contour map of double size, as BSDS500's `ucm2`: (2H+1, 2W+1) float32 in [0, 1].

        Pixel (y, x) is at (2y+1, 2x+1) and 0; between two pixels stands the height at which their regions
        merge (clipped to 1), on a corner the largest of the four beside it; the border repeats what is next
        to it. The components of `ucm2 <= level` are the partition at that level."""
        graph, leaves = hg.get_4_adjacency_graph(self.labels.shape), self.labels.ravel()
        first, second = graph.edge_list()
        weights = np.clip(self.distances(leaves[first], leaves[second]), 0, 1)
        return np.pad(hg.graph_4_adjacency_2_khalimsky(graph, weights).astype(np.float32), 1, mode="edge")

    def cut(self, most: int) -> RegionTree:
        """The region tree of the highest merges: at most `most` leaves. Of equal merges the parent wins."""
        regions, nodes = self.regions, 2 * self.regions - 1
        order = np.argsort(self.heights, kind="stable")  # a parent comes after its children
        highest = order[max(0, len(order) - (most - 1)) :]
        is_inner = np.zeros(nodes, bool)
        is_inner[regions + highest] = True
        # below the chosen merges a node belongs to the leaf of the new tree that its parent belongs to
        is_below = ~is_inner & ~is_inner[self.tree.parents()]
        leaf_nodes = hg.propagate_sequential(self.tree, np.arange(nodes), is_below)[:regions]
        leaves, leaf_of_region = np.unique(leaf_nodes, return_inverse=True)
        number = np.zeros(nodes, np.uint16)
        number[leaves] = np.arange(len(leaves))
        number[regions + highest] = len(leaves) + np.arange(len(highest))
        children = np.sort(number[self.children[highest]], axis=1)
        heights = np.clip(self.heights[highest], 0, 1).astype(np.float32)
        return RegionTree(leaf_of_region.astype(np.uint8)[self.labels], children, heights)
