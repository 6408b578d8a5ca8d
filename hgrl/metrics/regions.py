"""How well a partition of an image matches another: covering, Rand index, variation of information,
achievable accuracy. NumPy, SciPy, numba.

Arbelaez et al., TPAMI 2011, section 2.3, as the BSDS500 benchmark computes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numba
import numpy as np
from scipy.sparse import coo_array

from hgrl.core.errors import InputError


def overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Pixels that each pair of labels shares: (labels in first, labels in second) int64. Labels are
    non-negative integers.
    """
    first, second = first.ravel().astype(np.int64), second.ravel().astype(np.int64)
    shape = (int(first.max()) + 1, int(second.max()) + 1)
    return np.bincount(first * shape[1] + second, minlength=shape[0] * shape[1]).reshape(shape)


def covering(truth: np.ndarray, partition: np.ndarray) -> float:
    """Mean, over pixels, of the best IoU that the truth's segment there reaches with one region: in (0, 1].

    Arbelaez et al., TPAMI 2011, section 2.3.3: the covering of the truth by the partition.
    """
    shared = overlaps(truth, partition)
    union = shared.sum(1, keepdims=True) + shared.sum(0, keepdims=True) - shared
    return float((shared.sum(1) * (shared / np.maximum(union, 1)).max(1)).sum() / shared.sum())


def achievable_accuracy(truth: np.ndarray, partition: np.ndarray) -> float:
    """Share of pixels that are right when each region answers with its most frequent segment (ASA): in (0,
    1].
    """
    shared = overlaps(truth, partition)
    return float(shared.max(0).sum() / shared.sum())


def best_union_covering(truth: np.ndarray, partition: np.ndarray) -> float:
    """Covering of the truth by unions of regions, each region given to the segment it overlaps most: what a
    perfect merging reaches.
    """
    return covering(truth, overlaps(truth, partition).argmax(0)[partition])


class RegionCounts(NamedTuple):
    """One image's region scores; arrays are (thresholds,) float64."""

    # pixels of the human segments, each times the best IoU its segment reaches, over all annotators (cntR)
    covered: np.ndarray
    truth: np.ndarray  # pixels of the human segments, over all annotators (sumR)
    # the other direction: pixels of the regions times their best IoU with any human segment (cntP)
    covered_found: np.ndarray
    found: np.ndarray  # pixels of the regions (sumP)
    pri: np.ndarray  # probabilistic Rand index: mean over annotators, in [0, 1]
    vi: np.ndarray  # variation of information in bits: mean over annotators, at least 0
    covered_best: float  # as `covered`, each segment taking its best region over all thresholds


class Hierarchy(NamedTuple):
    """Nested partitions of an image: the finest one, and how its regions group at each threshold."""

    labels: np.ndarray  # (H, W) integers 0 .. R-1
    groups: np.ndarray  # (thresholds, R) integers: the region of each label from 1, or 0: in no region


def region_counts(partitions: Iterable[np.ndarray], truths: Sequence[np.ndarray]) -> RegionCounts:
    """Scores of partitions (H, W), one a threshold, against the annotators' segmentations (H, W); all hold
    non-negative integers.

    Label 0 of a partition is no region (MATLAB's bwlabel leaves contours at 0): its pixels count as found by
    nothing.
    Raises InputError for shapes that differ and for no annotator.
    """
    return _score((_shared(partition, truths) for partition in partitions), truths)


def hierarchy_counts(hierarchy: Hierarchy, truths: Sequence[np.ndarray]) -> RegionCounts:
    """The same as `region_counts` of all the partitions of a hierarchy, each coarser one from the overlaps of
    the finest.
    """
    finest = _shared(hierarchy.labels, truths)
    return _score((_merge(finest, group) for group in hierarchy.groups), truths)


def ucm_hierarchy(ucm2: np.ndarray, thresholds: np.ndarray) -> Hierarchy:
    """The partitions of an ultrametric contour map of double size, at ascending thresholds.

    ucm2: (2H+1, 2W+1) float; pixels lie at odd places. A region at threshold t is an 8-connected part of ucm2
    <= t (MATLAB's bwlabel).
    """
    if ucm2.ndim != 2 or min(ucm2.shape) < 3 or ucm2.shape[0] % 2 == 0 or ucm2.shape[1] % 2 == 0:
        raise InputError(
            f"a contour map of shape {ucm2.shape}: a ucm2 has odd height and width, 2 x the image's + 1"
        )
    # the first threshold that takes a cell in
    since = np.searchsorted(thresholds, ucm2.ravel(), side="left").reshape(ucm2.shape)
    since[np.isnan(ucm2)] = len(thresholds)
    return Hierarchy(*_flood(since, len(thresholds)))


def rand_index(first: np.ndarray, second: np.ndarray) -> float:
    """Share of pixel pairs on which two partitions agree (together in both, or apart in both): in [0, 1].
    Label 0 is as any other.
    """
    return _pairwise(_shared(first, [second]), np.zeros(int(second.max()) + 1, int))[0]


def variation_of_information(first: np.ndarray, second: np.ndarray) -> float:
    """H(first | second) + H(second | first) in bits: 0 for equal partitions. Label 0 is as any other."""
    return _pairwise(_shared(first, [second]), np.zeros(int(second.max()) + 1, int))[1]


class _Shared(NamedTuple):
    """The pixels that regions and human segments share, where there are any."""

    region: np.ndarray  # (entries,)
    segment: np.ndarray  # (entries,); the annotators' segments are numbered one annotator after the other
    pixels: np.ndarray  # (entries,) int64


def _shared(partition: np.ndarray, truths: Sequence[np.ndarray]) -> _Shared:
    region, segment, start = [], [], 0
    for truth in truths:
        if truth.shape != partition.shape:
            raise InputError(
                f"a partition of {partition.shape} and a human segmentation of {truth.shape}: they must be of the same image"
            )
        region.append(partition.ravel())
        segment.append(truth.ravel().astype(np.int64) + start)
        start += int(truth.max()) + 1
    region = np.concatenate(region).astype(np.int64)
    return _summed(region, np.concatenate(segment), np.ones(len(region), np.int64), start)


def _merge(shared: _Shared, group: np.ndarray) -> _Shared:
    return _summed(
        group[shared.region].astype(np.int64), shared.segment, shared.pixels, int(shared.segment.max()) + 1
    )


def _summed(region: np.ndarray, segment: np.ndarray, pixels: np.ndarray, segments: int) -> _Shared:
    # tocsr adds up equal places
    table = coo_array((pixels, (region, segment)), shape=(int(region.max()) + 1, segments)).tocsr().tocoo()
    return _Shared(*table.coords, table.data)


def _score(tables: Iterable[_Shared], truths: Sequence[np.ndarray]) -> RegionCounts:
    if not truths:
        raise InputError("no human segmentation: nothing to score against")
    # of each segment
    annotator = np.repeat(np.arange(len(truths)), [int(truth.max()) + 1 for truth in truths])
    areas = np.concatenate([np.bincount(truth.ravel(), minlength=int(truth.max()) + 1) for truth in truths])
    best, rows, last, row = np.zeros(len(annotator)), [], None, None
    for shared in tables:
        if (
            last is None
            or len(shared.pixels) != len(last.pixels)
            or any((a != b).any() for a, b in zip(shared, last))
        ):
            last, best_segment, of_found = shared, *_coverings(shared, areas, len(truths))
            row = (areas @ best_segment, areas.sum(), *of_found, *_pairwise(shared, annotator))
            best = np.maximum(best, best_segment)
        rows.append(row)
    return RegionCounts(*np.array(rows, float).reshape(-1, 6).T, float(areas @ best))


def _coverings(shared: _Shared, areas: np.ndarray, annotators: int) -> tuple[np.ndarray, tuple[float, float]]:
    """The best IoU of each human segment; and (covered_found, found)."""
    # every annotator sees all the pixels
    region_areas = np.bincount(shared.region, shared.pixels) / annotators
    iou = shared.pixels / (region_areas[shared.region] + areas[shared.segment] - shared.pixels)
    iou[shared.region == 0] = 0
    region_areas[0] = 0
    best_segment, best_region = np.zeros(len(areas)), np.zeros(len(region_areas))
    np.maximum.at(best_segment, shared.segment, iou)
    np.maximum.at(best_region, shared.region, iou)
    return best_segment, (float(region_areas @ best_region), float(region_areas.sum()))


def _pairwise(shared: _Shared, annotator: np.ndarray) -> tuple[float, float]:
    """Rand index and variation of information, each the mean over annotators; `annotator` (segments,) says
    whose a segment is.
    """
    annotators = int(annotator.max()) + 1
    regions = np.bincount(shared.region, shared.pixels) / annotators
    segments = np.bincount(shared.segment, shared.pixels, minlength=len(annotator))
    total = regions.sum()
    joint_owner = annotator[shared.segment]
    apart = (
        np.bincount(annotator, segments**2) / 2
        + (regions**2).sum() / 2
        - np.bincount(joint_owner, shared.pixels.astype(float) ** 2)
    )
    rand = 1 - apart / (total * (total - 1) / 2) if total > 1 else np.ones(annotators)
    joint = np.bincount(joint_owner, _entropy_terms(shared.pixels / total))
    information = (
        2 * joint
        - np.bincount(annotator, _entropy_terms(segments / total))
        - _entropy_terms(regions / total).sum()
    )
    return float(np.mean(rand)), float(max(information.mean(), 0))


def _entropy_terms(shares: np.ndarray) -> np.ndarray:
    """-p log2 p, and 0 for p = 0."""
    return -shares * np.log2(np.where(shares > 0, shares, 1))


@numba.njit(nogil=True, cache=True)
def _find(parent: np.ndarray, cell: int) -> int:
    while parent[cell] != cell:
        parent[cell] = parent[parent[cell]]
        cell = parent[cell]
    return cell


@numba.njit(nogil=True, cache=True)
def _flood(since: np.ndarray, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Join 8-connected cells level by level, for cells that are in from level `since` on.

    Returns the finest labels of the pixels (H, W), and (levels, labels) groups from 1 (0: not in yet).
    """
    height, width = since.shape
    order = np.argsort(since.ravel(), kind="mergesort")
    parent = np.full(height * width, -1, np.int64)  # -1: not in yet
    labels = np.full((height // 2, width // 2), -1, np.int64)
    representatives = np.empty(labels.size, np.int64)
    groups = np.zeros((levels, 0), np.int64)
    number = np.zeros(height * width, np.int64)
    at, regions = 0, 0
    for level in range(levels):
        while at < len(order) and since[order[at] // width, order[at] % width] <= level:
            cell = order[at]
            y, x = cell // width, cell % width
            parent[cell] = cell
            for v in range(max(y - 1, 0), min(y + 2, height)):
                for u in range(max(x - 1, 0), min(x + 2, width)):
                    if parent[v * width + u] >= 0:
                        first, second = _find(parent, cell), _find(parent, v * width + u)
                        parent[max(first, second)] = min(first, second)
            at += 1
        if level == 0:  # the finest labels: the parts at this level, and each pixel that is in none by itself
            for y in range(labels.shape[0]):
                for x in range(labels.shape[1]):
                    cell = (2 * y + 1) * width + 2 * x + 1
                    root = _find(parent, cell) if parent[cell] >= 0 else cell
                    if number[root] == 0:
                        representatives[regions] = cell
                        regions += 1
                        number[root] = regions
                    labels[y, x] = number[root] - 1
            groups = np.zeros((levels, regions), np.int64)
        number[:] = 0
        count = 0
        for region in range(regions):
            cell = representatives[region]
            if parent[cell] < 0:
                continue
            root = _find(parent, cell)
            if number[root] == 0:
                count += 1
                number[root] = count
            groups[level, region] = number[root]
    return labels, groups
