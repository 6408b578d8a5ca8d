"""How well partitions of an image match: covering, Rand index, variation of information, achievable accuracy.

Arbelaez et al., TPAMI 2011, section 2.3, as the BSDS500 benchmark computes them."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from scipy.sparse import coo_array

from hgrl.core.errors import InputError


def overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Pixels that each pair of labels (integers from 0) has in common: (labels of first, of second) int64."""
    first, second = first.ravel().astype(np.int64), second.ravel().astype(np.int64)
    shape = (int(first.max()) + 1, int(second.max()) + 1)
    return np.bincount(first * shape[1] + second, minlength=shape[0] * shape[1]).reshape(shape)


def covering(truth: np.ndarray, partition: np.ndarray) -> float:
    """Mean, over pixels, of the best IoU that the truth's segment there reaches with one region: in (0, 1].

    Arbelaez et al., TPAMI 2011, section 2.3.3: the covering of the truth by the partition."""
    shared = overlaps(truth, partition)
    union = shared.sum(1, keepdims=True) + shared.sum(0, keepdims=True) - shared
    return float((shared.sum(1) * (shared / np.maximum(union, 1)).max(1)).sum() / shared.sum())


def achievable_accuracy(truth: np.ndarray, partition: np.ndarray) -> float:
    """Fraction of pixels that are right when each region is given its most frequent segment (ASA)."""
    shared = overlaps(truth, partition)
    return float(shared.max(0).sum() / shared.sum())


def best_union_covering(truth: np.ndarray, partition: np.ndarray) -> float:
    """The covering of the truth by unions of regions, each region given to the segment it overlaps most."""
    return covering(truth, overlaps(truth, partition).argmax(0)[partition])


class RegionCounts(NamedTuple):
    """One image's region scores; arrays are (thresholds,) float64."""

    covered: np.ndarray  # pixels of all annotators' segments, times the best IoU of their segment (cntR)
    truth: np.ndarray  # pixels of all annotators' segments (sumR)
    covered_found: np.ndarray  # pixels of the regions, times their best IoU with any segment (cntP)
    found: np.ndarray  # pixels of the regions (sumP)
    pri: np.ndarray  # probabilistic Rand index: mean over annotators, in [0, 1]
    vi: np.ndarray  # variation of information in bits: mean over annotators, at least 0
    covered_best: float  # as `covered`, each segment taking its best region over all thresholds


class Hierarchy(NamedTuple):
    """Nested partitions of an image: the finest one, and how its regions group at each threshold."""

    labels: np.ndarray  # (H, W) integers 0 .. R-1
    groups: np.ndarray  # (thresholds, R) integers: the region of each label from 1, or 0: in no region


def hierarchy_counts(hierarchy: Hierarchy, truths: Sequence[np.ndarray]) -> RegionCounts:
    """Scores of a hierarchy's partitions against the annotators' segmentations (H, W), integers from 1.

    Region 0 is no region (MATLAB's bwlabel leaves contours at 0) and covers nothing, but is a label like any
    other for PRI and VI, as in the authors' code. Each partition is scored from the overlaps of the finest.
    Raises InputError for shapes that differ, for no annotator, and for segments not numbered from 1."""
    if not truths:
        raise InputError("no human segmentation: nothing to score against")
    for truth in truths:
        if truth.ndim != 2 or truth.dtype.kind not in "iu" or truth.size == 0 or truth.min() < 1:
            what = f"of {truth.dtype}, shape {truth.shape}" + (f", from {truth.min()}" if truth.size else "")
            raise InputError(f"a human segmentation {what}: it must be height x width integers from 1")
    finest = _shared(hierarchy.labels, truths)
    segments = [int(truth.max()) + 1 for truth in truths]
    annotator = np.repeat(np.arange(len(truths)), segments)  # of each segment
    areas = np.concatenate([np.bincount(truth.ravel()) for truth in truths])
    best, rows, last, row = np.zeros(len(annotator)), [], None, None
    for group in hierarchy.groups:
        region = group[finest.region].astype(np.int64)
        shared = _summed(region, finest.segment, finest.pixels, len(annotator))
        if last is None or not all(map(np.array_equal, shared, last)):  # equal partitions have equal counts
            last, best_segment, of_found = shared, *_coverings(shared, areas, len(truths))
            row = (areas @ best_segment, areas.sum(), *of_found, *_pairwise(shared, annotator))
            best = np.maximum(best, best_segment)
        rows.append(row)
    return RegionCounts(*np.array(rows, float).reshape(-1, 6).T, float(areas @ best))


def ucm_hierarchy(ucm2: np.ndarray, thresholds: np.ndarray) -> Hierarchy:
    """The partitions of an ultrametric contour map of double size, at ascending thresholds.

    ucm2: (2H+1, 2W+1) float; pixels lie at odd places. A region at threshold t is an 8-connected part of ucm2
    <= t (MATLAB's bwlabel). Raises InputError for another shape."""
    if ucm2.ndim != 2 or min(ucm2.shape) < 3 or not all(side % 2 for side in ucm2.shape):
        raise InputError(f"a ucm2 of shape {ucm2.shape}: its height and width must be 2 x the image's + 1")
    parts = [cv2.connectedComponents((ucm2 <= level).astype(np.uint8))[1][1::2, 1::2] for level in thresholds]
    finest = parts[0].ravel().astype(np.int64)
    alone = np.flatnonzero(finest == 0)  # pixels in none of the finest regions are labels by themselves
    finest[alone] = finest.max() + 1 + np.arange(len(alone))
    first, labels = _in_order(finest)
    groups = [_in_order(np.append(0, part.ravel()[first]))[1][1:] for part in parts]
    return Hierarchy(labels.reshape(parts[0].shape), np.array(groups))


def _in_order(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each of the values (n,) is first, and the values numbered from 0 in that order."""
    _, first, number = np.unique(values, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return first[order], np.argsort(order)[number]


class _Shared(NamedTuple):
    """The pixels that regions and segments have in common, where there are any."""

    region: np.ndarray  # (entries,)
    segment: np.ndarray  # (entries,); the segments of one annotator are numbered after those of another
    pixels: np.ndarray  # (entries,) int64


def _shared(partition: np.ndarray, truths: Sequence[np.ndarray]) -> _Shared:
    segment, start = [], 0
    for truth in truths:
        if truth.shape != partition.shape:
            raise InputError(f"partition of {partition.shape}, truth of {truth.shape}: not of the same image")
        segment.append(truth.ravel().astype(np.int64) + start)
        start += int(truth.max()) + 1
    region = np.tile(partition.ravel().astype(np.int64), len(truths))
    return _summed(region, np.concatenate(segment), np.ones(len(region), np.int64), start)


def _summed(region: np.ndarray, segment: np.ndarray, pixels: np.ndarray, segments: int) -> _Shared:
    shape = (int(region.max()) + 1, segments)
    counts = coo_array((pixels, (region, segment)), shape=shape).tocsr().tocoo()  # tocsr adds equal places
    return _Shared(*counts.coords, counts.data)


def _coverings(shared: _Shared, areas: np.ndarray, annotators: int) -> tuple[np.ndarray, tuple[float, float]]:
    """The best IoU of each segment; and (covered_found, found)."""
    region_areas = np.bincount(shared.region, shared.pixels) / annotators  # every annotator sees all pixels
    iou = shared.pixels / (region_areas[shared.region] + areas[shared.segment] - shared.pixels)
    iou[shared.region == 0] = 0
    region_areas[0] = 0
    best_segment, best_region = np.zeros(len(areas)), np.zeros(len(region_areas))
    np.maximum.at(best_segment, shared.segment, iou)
    np.maximum.at(best_region, shared.region, iou)
    return best_segment, (float(region_areas @ best_region), float(region_areas.sum()))


def _pairwise(shared: _Shared, annotator: np.ndarray) -> tuple[float, float]:
    """Rand index and variation of information, means over annotators; annotator: (segments,), of each."""
    annotators = int(annotator.max()) + 1
    regions = np.bincount(shared.region, shared.pixels) / annotators
    segments = np.bincount(shared.segment, shared.pixels, minlength=len(annotator))
    owner, total = annotator[shared.segment], regions.sum()
    of_segments = np.bincount(annotator, segments**2) / 2
    apart = of_segments + (regions**2).sum() / 2 - np.bincount(owner, shared.pixels.astype(float) ** 2)
    rand = 1 - apart / (total * (total - 1) / 2) if total > 1 else np.ones(annotators)
    joint = np.bincount(owner, _entropy_terms(shared.pixels / total))
    of_segments = np.bincount(annotator, _entropy_terms(segments / total))
    information = 2 * joint - of_segments - _entropy_terms(regions / total).sum()
    return float(np.mean(rand)), float(max(information.mean(), 0))


def _entropy_terms(fractions: np.ndarray) -> np.ndarray:
    """-p log2 p, and 0 for p = 0."""
    return -fractions * np.log2(np.where(fractions > 0, fractions, 1))
