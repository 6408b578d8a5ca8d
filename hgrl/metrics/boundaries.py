"""Boundaries against human ones: thinning, one-to-one matching, and the counts behind precision and recall.

As in the BSDS500 benchmark (Martin, Fowlkes, Malik, TPAMI 2004; Arbelaez et al., TPAMI 2011, sec. 2.2)."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numba
import numpy as np

from hgrl.core.errors import InputError

MATCH_TOLERANCE = 0.0075  # of the image's diagonal: the benchmark's maxDist
THRESHOLDS = 99  # the benchmark's nthresh
Maps = Sequence[np.ndarray]  # one per annotator
Pair = tuple[np.ndarray, np.ndarray]


class BoundaryCounts(NamedTuple):
    """Counts of one image (or of many, summed), each (thresholds,) int64."""

    matched_truth: np.ndarray  # human boundary pixels that are matched, over all annotators (cntR)
    truth: np.ndarray  # human boundary pixels, over all annotators (sumR)
    matched_found: np.ndarray  # found boundary pixels that are matched with any annotator (cntP)
    found: np.ndarray  # found boundary pixels (sumP)


def benchmark_thresholds(count: int = THRESHOLDS) -> np.ndarray:
    """(count,) float64, from 1/(count+1) to 1 - 1/(count+1), rounded as MATLAB's linspace does."""
    low, high = 1 / (count + 1), 1 - 1 / (count + 1)
    if count < 2:
        return np.full(count, high)
    thresholds = low + np.arange(count) * (high - low) / (count - 1)
    thresholds[-1] = high
    return thresholds


def contour_strength(labels: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """(H, W): the largest distance of regions in a pixel, its right, lower and lower-right neighbours.

    labels: (H, W) regions; distances: (regions, regions), an ultrametric. What a ucm2 of the same tree holds
    at [2::2, 2::2]: at any threshold the contours are those of `boundary_map` of that cut."""
    strength = np.zeros(labels.shape, distances.dtype)
    across, down = distances[labels[:, :-1], labels[:, 1:]], distances[labels[:-1], labels[1:]]
    np.maximum(strength[:, :-1], across, out=strength[:, :-1])
    np.maximum(strength[:-1], down, out=strength[:-1])
    np.maximum(strength[:-1, :-1], np.maximum(across[1:], down[:, 1:]), out=strength[:-1, :-1])
    return strength


def thin(mask: np.ndarray) -> np.ndarray:
    """Boolean (H, W) thinned until nothing changes: MATLAB's bwmorph(mask, 'thin', inf).

    Guo and Hall, CACM 1989, algorithm A1; OpenCV begins with the other sub-iteration, hence the half turn."""
    turned = np.pad(mask[::-1, ::-1].astype(np.uint8), 1)
    thinned = cv2.ximgproc.thinning(turned * 255, thinningType=cv2.ximgproc.THINNING_GUOHALL)
    return thinned[-2:0:-1, -2:0:-1] > 0


def match_boundaries(found: np.ndarray, truth: np.ndarray, tolerance: float = MATCH_TOLERANCE) -> Pair:
    """Which boundary pixels a one-to-one matching pairs: (of found, of truth), each boolean (H, W).

    found, truth: boolean (H, W). Pixels may be paired up to `tolerance` x the image's diagonal apart. As many
    are paired as possible, as the authors' outlier cost of 100 x that distance asks: near ones first, then
    along augmenting paths. Not done: the least total distance among the largest matchings, which decides
    which pixels are paired, not how many (F within .0001 on the authors' fixture). The authors' solver draws
    part of its graph at random and misses a few pairs, so F comes out above theirs: by .0001 to .0005 on
    their fixture of 5 images; on the official contour maps of the 200 test images by .0001 to .0010 depending
    on the threshold, OIS by .0006, the mean of the images' best F by .0004, and a single image's by -.0006 to
    .0020. Raises InputError for shapes that differ."""
    if found.shape != truth.shape:
        raise InputError(f"boundary maps of {found.shape} and {truth.shape}: they must be of the same image")
    offsets = _disk(tolerance * np.hypot(*truth.shape))
    matched_found, matched_truth = np.zeros(found.shape, bool), np.zeros(truth.shape, bool)
    found_at, truth_at = np.argwhere(found), np.argwhere(truth)
    pairs = _match(found_at, truth_at, offsets, found.shape[0], found.shape[1])
    matched_truth[tuple(truth_at[pairs >= 0].T)] = True
    matched_found[tuple(found_at[pairs[pairs >= 0]].T)] = True
    return matched_found, matched_truth


def boundary_counts(strength: np.ndarray, truths: Maps, thresholds: np.ndarray) -> BoundaryCounts:
    """Counts of one image's contours (H, W), float, thinned at each threshold, which is inclusive.

    truths: the annotators' maps, boolean (H, W). InputError for shapes that differ and for no annotator."""
    if len(truths) == 0:
        raise InputError("no human boundary map: nothing to score against")
    rows, last, row = [], None, None
    for found in (strength >= threshold for threshold in thresholds):
        if last is None or not np.array_equal(found, last):  # equal maps have equal counts
            last, thinned = found, thin(found)
            of_found, of_truth = zip(*(match_boundaries(thinned, truth) for truth in truths), strict=True)
            row = list(map(np.count_nonzero, (of_truth, truths, np.any(of_found, axis=0), thinned)))
        rows.append(row)
    return BoundaryCounts(*np.array(rows, np.int64).reshape(-1, 4).T)


def _disk(radius: float) -> np.ndarray:
    """Offsets (K, 2) int64 no farther than radius, the nearest first."""
    reach = int(np.ceil(radius))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1)
    squared = x * x + y * y
    order = np.argsort(squared, kind="stable")
    order = order[squared[order] <= radius * radius]
    return np.stack([y[order], x[order]], axis=1)


# The matching's arrays: found_at, truth_at (pixels, 2), where they lie; node, the found pixel at a place, or
# -1; offsets (K, 2), from a truth pixel to where its partner may lie; pair_of_truth, pair_of_found, or -1.


@numba.njit(nogil=True, cache=True)
def _match(found_at, truth_at, offsets, height, width):
    """pair_of_truth of a maximum matching."""
    reach = offsets.max()
    node = np.full((height + 2 * reach, width + 2 * reach), -1, np.int64)  # the margin spares bounds checks
    for f in range(len(found_at)):
        node[found_at[f, 0] + reach, found_at[f, 1] + reach] = f
    offsets = offsets + reach
    pair_of_truth, pair_of_found = np.full(len(truth_at), -1), np.full(len(found_at), -1)
    for k in range(len(offsets)):  # what is free on both sides, the nearest first
        for t in range(len(truth_at)):
            if pair_of_truth[t] < 0:
                f = node[truth_at[t, 0] + offsets[k, 0], truth_at[t, 1] + offsets[k, 1]]
                if f >= 0 and pair_of_found[f] < 0:
                    pair_of_truth[t], pair_of_found[f] = f, t
    reached_from = np.full(len(found_at), -1)  # the truth pixel from which a search came to a found pixel
    queue, reached = np.empty(len(truth_at), np.int64), np.empty(len(found_at), np.int64)
    for t in range(len(truth_at)):
        if pair_of_truth[t] < 0:
            _augment(t, node, truth_at, offsets, pair_of_truth, pair_of_found, reached_from, queue, reached)
    return pair_of_truth


@numba.njit(nogil=True, cache=True)
def _augment(start, node, truth_at, offsets, pair_of_truth, pair_of_found, reached_from, queue, reached):
    """Search breadth first from a free truth pixel for a free found one, and swap the pairs along the path.

    What a failed search reached lies on no augmenting path any more (a Hungarian tree): it stays marked."""
    queue[0], head, tail, count, end = start, 0, 1, 0, -1
    while head < tail and end < 0:
        t = queue[head]
        head += 1
        for k in range(len(offsets)):
            f = node[truth_at[t, 0] + offsets[k, 0], truth_at[t, 1] + offsets[k, 1]]
            if f < 0 or reached_from[f] >= 0:
                continue
            reached_from[f], reached[count] = t, f
            count += 1
            if pair_of_found[f] < 0:
                end = f
                break
            queue[tail] = pair_of_found[f]
            tail += 1
    if end < 0:
        return
    t, f = -1, end
    while t != start:
        t = reached_from[f]
        following = pair_of_truth[t]
        pair_of_truth[t], pair_of_found[f] = f, t
        f = following
    for k in range(count):
        reached_from[reached[k]] = -1
