"""The full hierarchy of an image, before the cut to few leaves: its contour map as benchmarks read it, and
the way back.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import higra as hg
import numba
import numpy as np
import scipy.ndimage

from hgrl.core.errors import InputError
from hgrl.grouping.region_tree import RegionTree


@dataclass(frozen=True, eq=False)
class MergeTree:
    """A binary tree over n regions of an image, n as large as it comes; node n + k is merge k. `RegionTree`
    is its small, stored kin.

    labels: (H, W) int64, the leaf of each pixel, 0 .. n-1; children: (n-1, 2) int64, the two nodes that merge
    k joins;
    heights: (n-1,) float64, never lower than those of what it joins; merges stand in an order in which
    children come first.
    """

    labels: np.ndarray
    children: np.ndarray
    heights: np.ndarray

    @property
    def regions(self) -> int:
        """n, the number of leaves."""
        return len(self.children) + 1

    @cached_property
    def parents(self) -> np.ndarray:
        """(2n-1,) int64: the parent of each node; the root is its own."""
        parents = np.arange(2 * self.regions - 1)
        parents[self.children] = self.regions + np.arange(len(self.children))[:, None]
        return parents

    def distances(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """The heights at which leaves `first` and `second` (m,) meet: (m,) float64; 0 for a leaf and itself."""
        node_heights = np.concatenate([np.zeros(self.regions), self.heights])
        return node_heights[
            _meetings(self.parents, np.asarray(first, np.int64), np.asarray(second, np.int64))
        ]

    def ucm2(self) -> np.ndarray:
        """Ultrametric contour map at double size, (2H+1, 2W+1) float32 in [0, 1], laid out as in BSDS500's
        `ucm2` files.

        Pixel (y, x) is at (2y+1, 2x+1) and 0; between two pixels stands the height at which their regions
        merge (clipped to 1), on a corner the largest of the four beside it; the border repeats what is next
        to it. The components of `ucm2 <= level` are the partition at that level.
        """
        height, width = self.labels.shape
        out = np.zeros((2 * height + 1, 2 * width + 1), np.float32)
        out[1::2, 2:-1:2] = self._between(self.labels[:, :-1], self.labels[:, 1:])
        out[2:-1:2, 1::2] = self._between(self.labels[:-1], self.labels[1:])
        beside = out[1:-2:2, 2:-1:2], out[3::2, 2:-1:2], out[2:-1:2, 1:-2:2], out[2:-1:2, 3::2]
        out[2:-1:2, 2:-1:2] = np.maximum.reduce(beside)
        out[0], out[-1] = out[1], out[-2]
        out[:, 0], out[:, -1] = out[:, 1], out[:, -2]
        return out

    def _between(self, here: np.ndarray, there: np.ndarray) -> np.ndarray:
        return np.clip(self.distances(here.ravel(), there.ravel()), 0, 1).reshape(here.shape)

    @classmethod
    def from_ucm2(cls, ucm2: np.ndarray) -> MergeTree:
        """The tree of a double-sized contour map (2H+1, 2W+1): the inverse of `ucm2`, but for merges at
        height 0, which leave no trace.

        Leaves are the components of its zeros; regions merge at the lowest contour between them. Raises
        InputError for another shape.
        """
        if ucm2.ndim != 2 or min(ucm2.shape) < 3 or not (ucm2.shape[0] % 2 and ucm2.shape[1] % 2):
            raise InputError(
                f"a double-sized contour map has odd sides (2H+1, 2W+1), this one has {ucm2.shape}; compute it at double size"
            )
        inside = ucm2[1:-1, 1:-1]
        labels = scipy.ndimage.label(inside <= 0)[0][::2, ::2].astype(np.int64) - 1
        first, second, height = [], [], []
        for here, there, between in (
            (labels[:, :-1], labels[:, 1:], inside[::2, 1::2]),
            (labels[:-1], labels[1:], inside[1::2, ::2]),
        ):
            crossing = here != there
            first.append(here[crossing]), second.append(there[crossing]), height.append(between[crossing])
        return cls(
            labels, *_single_linkage(int(labels.max()) + 1, *map(np.concatenate, (first, second, height)))
        )

    def cut(self, most: int) -> RegionTree:
        """The region tree of the highest merges, at most `most` leaves; ties are broken parent first, or
        whole subtrees would drop out.
        """
        regions = self.regions
        order = np.lexsort((np.arange(len(self.heights)), self.heights))  # a parent comes after its children
        kept = order[max(0, len(order) - (most - 1)) :]
        is_kept = np.zeros(2 * regions - 1, bool)
        is_kept[regions + kept] = True
        # for every node outside the kept merges: the leaf of the new tree that holds it
        top = _climb(self.parents, is_kept)
        leaves, leaf_of_region = np.unique(top[:regions], return_inverse=True)
        number = np.full(2 * regions - 1, -1)
        number[leaves] = np.arange(len(leaves))
        number[regions + kept] = len(leaves) + np.arange(len(kept))
        return RegionTree(
            leaf_of_region.astype(np.uint8)[self.labels],
            np.sort(number[self.children[kept]], axis=1).astype(np.uint16).reshape(-1, 2),
            np.clip(self.heights[kept], 0, 1).astype(np.float32),
        )


def raise_to_children(children: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """Heights (n-1,) of merges, each lifted to the highest of what it joins: non-decreasing toward the root."""
    return _raise(np.asarray(children, np.int64), np.array(heights, np.float64))


def _single_linkage(
    regions: int, first: np.ndarray, second: np.ndarray, height: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Merges over `regions` in the order of the contours' heights: children (n-1, 2) int64, heights (n-1,)
    float64.
    """
    if regions == 1:
        return np.zeros((0, 2), np.int64), np.zeros(0)
    graph = hg.UndirectedGraph(regions)
    graph.add_edges(first, second)
    tree, altitudes = hg.bpt_canonical(graph, height.astype(np.float64))
    return children_of(tree), np.array(altitudes[regions:], np.float64)


def children_of(tree: hg.Tree) -> np.ndarray:
    """The two children of each inner node of a binary tree, leaves first: (n-1, 2) int64, the smaller number
    first.
    """
    return np.sort(np.asarray(tree.parents())[:-1].argsort(kind="stable").reshape(-1, 2), axis=1).astype(
        np.int64
    )


@numba.njit(nogil=True, cache=True)
def _meetings(parents, first, second):
    """The lowest node over both of each pair: parents have larger numbers, so the smaller of two nodes is
    always the one to lift.
    """
    out = np.empty(len(first), np.int64)
    for k in range(len(first)):
        if k > 0 and first[k] == first[k - 1] and second[k] == second[k - 1]:  # the same arc goes on
            out[k] = out[k - 1]
            continue
        here, there = first[k], second[k]
        while here != there:
            if here < there:
                here = parents[here]
            else:
                there = parents[there]
        out[k] = here
    return out


@numba.njit(nogil=True, cache=True)
def _climb(parents, is_kept):
    """The highest ancestor of each node that is not kept (itself included); kept nodes map to themselves."""
    top = np.arange(len(parents))
    for node in range(len(parents) - 2, -1, -1):  # parents are known first
        if not is_kept[node] and not is_kept[parents[node]]:
            top[node] = top[parents[node]]
    return top


@numba.njit(nogil=True, cache=True)
def _raise(children, heights):
    leaves = len(children) + 1
    for k in range(len(children)):
        for child in children[k]:
            if child >= leaves and heights[child - leaves] > heights[k]:
                heights[k] = heights[child - leaves]
    return heights
