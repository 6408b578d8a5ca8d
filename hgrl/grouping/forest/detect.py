"""Detecting edges with a structured forest (numba kernels): OpenCV's `detectEdges`, and sharpening.

Dollar & Zitnick, "Fast edge detection using structured forests", section 3.3: at every second pixel four of
the trees answer with a mask, whose boundaries are added up. Unlike OpenCV's: a feature rounded differently
may fall on the other side of a threshold, and the caller adds the margin. OpenCV cannot sharpen: its file has
no masks. Not done: joining segments of at most 5 px, as their code; it changed nothing on 20 val images."""

import numba
import numpy as np

from hgrl.grouping.forest.features import LABEL, PATCH, feature_maps, feature_table, smooth
from hgrl.grouping.forest.model import Forest, mask_edges
from hgrl.grouping.forest.sharpen import PIXELS, add_edges, colours

BLOCK = 16384  # leaves looked at together: of all at once, the places of the boundaries take 400 MB
STRIDE = 2  # pixels between patches
EVALUATED = 4  # trees asked at a place, of those there are
GAIN = (2.0, 1.8, 1.66)  # by px of sharpening, the last for more: votes gather in fewer pixels (their code)


@numba.njit(nogil=True, cache=True)
def find_leaves(regular, similarity, table, first, child, feature, threshold, found):
    """found[i, j, k] = the node that the k-th tree asked at patch (i, j) ends in (OpenCV's choice)."""
    trees, evaluated = len(first) - 1, found.shape[2]
    for tree in range(trees):  # in turn, or their nodes push one another out of the cache
        root = first[tree]
        for i in range(found.shape[0]):
            for j in range(found.shape[1]):
                k = (tree - (i + j) % (2 * evaluated)) % trees
                if k >= evaluated:
                    continue
                node = root
                while child[node] > 0:
                    where = table[feature[node]]
                    if where[2] < 0:
                        value = regular[i + where[0], j + where[1], where[4]]
                    else:
                        value = similarity[i + where[0], j + where[1], where[4]]
                        value -= similarity[i + where[2], j + where[3], where[4]]
                    node = root + child[node] + (0 if value < threshold[node] else 1)
                found[i, j, k] = node


def edge_bins(forest: Forest) -> tuple[np.ndarray, np.ndarray]:
    """Boundary pixels of the masks: starts (leaves + 1,) int64 into bins (.,) uint8: 16 column + row."""
    counts, bins = [], []
    for start in range(0, len(forest.masks), BLOCK):
        edges = mask_edges(forest.masks[start : start + BLOCK]).transpose(0, 2, 1).reshape(-1, PIXELS)
        counts.append(np.count_nonzero(edges, axis=1))
        bins.append((np.flatnonzero(edges) % PIXELS).astype(np.uint8))
    return np.concatenate([[0], np.cumsum(np.concatenate(counts))]), np.concatenate(bins)


def edge_strength(
    forest: Forest, boundaries: tuple[np.ndarray, np.ndarray], padded: np.ndarray, sharpen: int = 0
) -> np.ndarray:
    """How many of the asked leaves see a boundary at each pixel, scaled and smoothed; one scale.

    boundaries: `edge_bins(forest)`. padded: (H, W, 3) uint8, sides multiples of 4. sharpen: px from a
    boundary within which a mask is fitted to the image first; 0 gives what OpenCV's `detectEdges` gives.
    Returns (H, W) float32; within 16 px of the border fewer patches vote than inside, so the caller pads."""
    places = [-(-(side - PATCH) // STRIDE) for side in padded.shape[:2]]
    found = np.empty((*places, min(EVALUATED, forest.trees)), np.int32)
    nodes = (forest.first, forest.child, forest.feature, forest.threshold)
    find_leaves(*feature_maps(padded), feature_table(), *nodes, found)
    votes = np.zeros(padded.shape[:2], np.float32)
    colour = colours(padded) if sharpen else np.zeros((0, 0, 3), np.float32)
    add_edges(found, forest.leaf, forest.masks.reshape(-1, PIXELS), *boundaries, colour, sharpen, votes)
    votes *= GAIN[min(sharpen, len(GAIN) - 1)] * STRIDE**2 / LABEL**2 / found.shape[2]
    return smooth(votes[..., None], 1).reshape(votes.shape)
