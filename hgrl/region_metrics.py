"""How well a partition of an image matches another: segmentation covering and achievable segmentation accuracy (NumPy only)."""

from __future__ import annotations

import numpy as np


def overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Pixels that each pair of labels shares: (labels in first, labels in second) int64. Labels are non-negative integers."""
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
    """Share of pixels that are right when each region answers with its most frequent segment (ASA): in (0, 1]."""
    shared = overlaps(truth, partition)
    return float(shared.max(0).sum() / shared.sum())


def best_union_covering(truth: np.ndarray, partition: np.ndarray) -> float:
    """Covering of the truth by unions of regions, each region given to the segment it overlaps most: what a perfect merging reaches."""
    return covering(truth, overlaps(truth, partition).argmax(0)[partition])
