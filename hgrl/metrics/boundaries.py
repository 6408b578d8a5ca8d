"""Boundaries against human boundaries: thinning, one-to-one matching, and the counts behind precision and recall.

Martin, Fowlkes and Malik, TPAMI 2004, as the BSDS500 benchmark does it (Arbelaez et al., TPAMI 2011, section 2.2). NumPy and numba.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numba
import numpy as np

from hgrl.errors import InputError

MATCH_TOLERANCE = 0.0075  # of the image's diagonal: the benchmark's maxDist
THRESHOLDS = 99  # the benchmark's nthresh


class BoundaryCounts(NamedTuple):
    """Counts of one image (or of many, summed), each (thresholds,) int64."""

    matched_truth: np.ndarray  # human boundary pixels that are matched, over all annotators (cntR)
    truth: np.ndarray  # human boundary pixels, over all annotators (sumR)
    matched_found: np.ndarray  # found boundary pixels that are matched with any annotator (cntP)
    found: np.ndarray  # found boundary pixels (sumP)


def benchmark_thresholds(count: int = THRESHOLDS) -> np.ndarray:
    """(count,) float64, evenly spaced inside (0, 1): 1/(count+1) .. 1 - 1/(count+1), rounded as MATLAB's linspace rounds them."""
    low, high = 1 / (count + 1), 1 - 1 / (count + 1)
    if count < 2:
        return np.full(count, high)
    thresholds = low + np.arange(count) * (high - low) / (count - 1)
    thresholds[-1] = high
    return thresholds


def thin(mask: np.ndarray) -> np.ndarray:
    """Boolean (H, W) thinned until nothing changes: MATLAB's bwmorph(mask, 'thin', inf).

    Guo and Hall, CACM 1989, algorithm A1: two sub-iterations by turns, each deleting at once all the pixels that its conditions allow.
    """
    padded = np.zeros((mask.shape[0] + 2, mask.shape[1] + 2), np.uint8)
    padded[1:-1, 1:-1] = mask
    _thin(padded, DELETABLE)
    return padded[1:-1, 1:-1].astype(bool)


def match_boundaries(found: np.ndarray, truth: np.ndarray, tolerance: float = MATCH_TOLERANCE) -> tuple[np.ndarray, np.ndarray]:
    """Which boundary pixels a one-to-one matching pairs: (of found, of truth), each boolean (H, W).

    found, truth: boolean (H, W). Pixels may be paired up to `tolerance` x the image's diagonal apart. As many pairs as can be,
    which the authors' outlier cost of 100 x that distance asks for: the near ones are paired first, then the pairing is enlarged along
    augmenting paths. Their solver reaches a few pairs fewer, for it draws the edges to its outlier nodes at random, and takes the least
    total distance among such pairings. Not done here: it decides which pixels are paired. F comes out .0001 to .0005 above theirs.
    Raises InputError for shapes that differ.
    """
    if found.shape != truth.shape:
        raise InputError(f"boundary maps of {found.shape} and {truth.shape}: they must be of the same image")
    offsets = _disk(tolerance * np.hypot(*truth.shape))
    matched_found, matched_truth = np.zeros(found.shape, bool), np.zeros(truth.shape, bool)
    found_at, truth_at = np.argwhere(found), np.argwhere(truth)
    pairs = _match(found_at, truth_at, offsets, found.shape[0], found.shape[1])
    matched_truth[tuple(truth_at[pairs >= 0].T)] = True
    matched_found[tuple(found_at[pairs[pairs >= 0]].T)] = True
    return matched_found, matched_truth


def boundary_counts(strength: np.ndarray, truths: Sequence[np.ndarray], thresholds: np.ndarray, tolerance: float = MATCH_TOLERANCE) -> BoundaryCounts:
    """Counts of one image's boundary map at each threshold.

    strength: (H, W) float, thresholded (>=) and thinned; truths: the annotators' boundary maps, boolean (H, W), at least one.
    """
    return count_boundaries((strength >= threshold for threshold in thresholds), truths, tolerance)


def count_boundaries(maps: Sequence[np.ndarray], truths: Sequence[np.ndarray], tolerance: float = MATCH_TOLERANCE) -> BoundaryCounts:
    """The same of boolean maps (H, W), one a threshold; each is thinned first."""
    rows, last, row = [], None, None
    for found in maps:
        if last is None or not np.array_equal(found, last):  # equal maps have equal counts
            last, row = found, _count(thin(found), truths, tolerance)
        rows.append(row)
    return BoundaryCounts(*np.array(rows, np.int64).reshape(-1, 4).T)


def _count(found: np.ndarray, truths: Sequence[np.ndarray], tolerance: float) -> tuple[int, int, int, int]:
    matched_truth, matched_any = 0, np.zeros(found.shape, bool)
    for truth in truths:
        of_found, of_truth = match_boundaries(found, truth, tolerance)
        matched_any |= of_found
        matched_truth += np.count_nonzero(of_truth)
    return matched_truth, sum(np.count_nonzero(truth) for truth in truths), np.count_nonzero(matched_any), np.count_nonzero(found)


def _disk(radius: float) -> np.ndarray:
    """Offsets (K, 2) int64 no farther than radius, the nearest first."""
    reach = int(np.ceil(radius))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1)
    squared = x * x + y * y
    order = np.argsort(squared, kind="stable")
    order = order[squared[order] <= radius * radius]
    return np.stack([y[order], x[order]], axis=1)


@numba.njit(nogil=True, cache=True)
def _match(found_at: np.ndarray, truth_at: np.ndarray, offsets: np.ndarray, height: int, width: int) -> np.ndarray:
    """(truth pixels,) int64: the found pixel that each is paired with, or -1. A maximum matching."""
    reach = max(0, offsets.max()) if offsets.size else 0
    node = np.full((height + 2 * reach, width + 2 * reach), -1, np.int64)  # found pixel at a place, with a margin that spares bounds checks
    for f in range(len(found_at)):
        node[found_at[f, 0] + reach, found_at[f, 1] + reach] = f
    pair_of_truth, pair_of_found = np.full(len(truth_at), -1), np.full(len(found_at), -1)
    for k in range(len(offsets)):  # the nearest first
        for t in range(len(truth_at)):
            if pair_of_truth[t] < 0:
                f = node[truth_at[t, 0] + offsets[k, 0] + reach, truth_at[t, 1] + offsets[k, 1] + reach]
                if f >= 0 and pair_of_found[f] < 0:
                    pair_of_truth[t], pair_of_found[f] = f, t
    reached_from = np.full(len(found_at), -1)  # the truth pixel from which a search came to a found pixel
    queue, touched = np.empty(len(truth_at), np.int64), np.empty(len(found_at), np.int64)
    for start in range(len(truth_at)):
        if pair_of_truth[start] >= 0:
            continue
        queue[0], head, tail, count, end = start, 0, 1, 0, -1
        while head < tail and end < 0:
            t = queue[head]
            head += 1
            for k in range(len(offsets)):
                f = node[truth_at[t, 0] + offsets[k, 0] + reach, truth_at[t, 1] + offsets[k, 1] + reach]
                if f < 0 or reached_from[f] >= 0:
                    continue
                reached_from[f], touched[count] = t, f
                count += 1
                if pair_of_found[f] < 0:
                    end = f
                    break
                queue[tail] = pair_of_found[f]
                tail += 1
        if end < 0:
            continue  # what a failed search has reached lies on no augmenting path any more: it stays marked
        f = end
        while True:  # swap the pairs along the path
            t = reached_from[f]
            following = pair_of_truth[t]
            pair_of_truth[t], pair_of_found[f] = f, t
            if t == start:
                break
            f = following
        for k in range(count):
            reached_from[touched[k]] = -1
    return pair_of_truth


def _deletable() -> np.ndarray:
    """(2, 256) bool: whether sub-iteration 0 or 1 deletes a pixel, by its neighbours' bits (see NEIGHBOURS)."""
    bits = (np.arange(256)[:, None] >> np.arange(8)) & 1 == 1  # x1 .. x8 of the paper: from the east, counter-clockwise
    x = [bits[:, i % 8] for i in range(10)]
    crossings = sum((~x[2 * i] & (x[2 * i + 1] | x[2 * i + 2])).astype(int) for i in range(4))
    first = sum((x[2 * i] | x[2 * i + 1]).astype(int) for i in range(4))
    second = sum((x[2 * i + 1] | x[2 * i + 2]).astype(int) for i in range(4))
    fewer = np.minimum(first, second)
    common = (crossings == 1) & (fewer >= 2) & (fewer <= 3)
    upper = (x[1] | x[2] | ~x[7]) & x[0]
    lower = (x[5] | x[6] | ~x[3]) & x[4]
    return np.stack([common & ~upper, common & ~lower])


NEIGHBOURS = np.array([[0, 1], [-1, 1], [-1, 0], [-1, -1], [0, -1], [1, -1], [1, 0], [1, 1]])  # of bits 0 .. 7
DELETABLE = _deletable()


@numba.njit(nogil=True, cache=True)
def _thin(image: np.ndarray, deletable: np.ndarray) -> None:
    """Thin a uint8 image with a margin of zeros, in place. Only pixels with a deletion near them since they were last looked at are looked at."""
    height, width = image.shape
    active = np.empty((height * width, 2), np.int64)
    waiting = np.zeros(image.shape, np.uint8)  # bit s: to be looked at by sub-iteration s
    count = 0
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            if image[y, x]:
                active[count, 0], active[count, 1] = y, x
                waiting[y, x] = 3
                count += 1
    deleted = np.empty((count, 2), np.int64)
    changed = True
    while changed:
        changed = False
        for step in range(2):
            gone, bit = 0, 1 << step
            for k in range(count):
                y, x = active[k, 0], active[k, 1]
                if not waiting[y, x] & bit:
                    continue
                waiting[y, x] &= ~bit
                code = 0
                for n in range(8):
                    code |= image[y + NEIGHBOURS[n, 0], x + NEIGHBOURS[n, 1]] << n
                if deletable[step, code]:
                    deleted[gone, 0], deleted[gone, 1] = y, x
                    gone += 1
            for k in range(gone):
                y, x = deleted[k, 0], deleted[k, 1]
                image[y, x], waiting[y, x] = 0, 0
                for n in range(8):
                    if image[y + NEIGHBOURS[n, 0], x + NEIGHBOURS[n, 1]]:
                        waiting[y + NEIGHBOURS[n, 0], x + NEIGHBOURS[n, 1]] = 3
            changed |= gone > 0
        kept = 0
        for k in range(count):
            y, x = active[k, 0], active[k, 1]
            if image[y, x]:
                active[kept, 0], active[kept, 1] = y, x
                kept += 1
        count = kept
