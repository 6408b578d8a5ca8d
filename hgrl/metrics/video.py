"""Scores of a video segmentation: J (regions) and F (boundaries) as DAVIS 2017 computes them.

Perazzi et al., CVPR 2016, and Pont-Tuset et al., arXiv:1704.00675; the edge cases are those of the official
evaluation (davis2017-evaluation), for the semi-supervised task. NumPy and OpenCV's dilation only.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from hgrl.core.errors import InputError
from hgrl.metrics.outlines import boundary_map
from hgrl.metrics.segmentation import VOID

BOUNDARY_TOLERANCE = 0.008  # of the image's diagonal, rounded up to pixels


def region_similarity(truth: np.ndarray, predicted: np.ndarray, void: np.ndarray | None = None) -> float:
    """J: intersection over union of two boolean masks (H, W), void pixels left out; 1 when both are empty."""
    scored = np.ones(truth.shape, bool) if void is None else ~void
    union = np.count_nonzero((truth | predicted) & scored)
    return np.count_nonzero(truth & predicted & scored) / union if union else 1.0


def boundary_f(
    truth: np.ndarray,
    predicted: np.ndarray,
    void: np.ndarray | None = None,
    tolerance: float = BOUNDARY_TOLERANCE,
) -> float:
    """F: harmonic mean of the boundary's precision and recall, for boolean masks (H, W).

    A boundary pixel is matched when the other boundary passes within a disk of `tolerance` x diagonal pixels
    (rounded up).
    Void pixels are cleared from both masks first. Two empty boundaries score 1, one empty boundary 0.
    Not done: the one-to-one assignment of BSDS's benchmark; DAVIS replaces it by this dilation.
    """
    if void is not None:
        truth, predicted = truth & ~void, predicted & ~void
    radius = int(np.ceil(tolerance * np.hypot(*truth.shape)))
    true_boundary, found_boundary = boundary_map(truth), boundary_map(predicted)
    if not true_boundary.any() or not found_boundary.any():
        return float(true_boundary.any() == found_boundary.any())
    precision = _dilate(true_boundary, radius)[found_boundary].mean()
    recall = _dilate(found_boundary, radius)[true_boundary].mean()
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def _dilate(boundary: np.ndarray, radius: int) -> np.ndarray:
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    disk = (x * x + y * y <= radius * radius).astype(np.uint8)
    return cv2.dilate(boundary.astype(np.uint8), disk).astype(bool)


def davis_statistics(values: Sequence[float]) -> dict[str, float]:
    """Mean, recall and decay of one object's scores over the scored frames (at least one).

    mean: of all; recall: share above 0.5; decay: mean of the first quarter minus mean of the last, the
    quarters sharing their end frames and rounded as in the official code. Written for any length (the
    official code's bin ends wrap after 256 frames).
    """
    values = np.asarray(values, float)
    ends = np.round(np.linspace(1, len(values), 5) + 1e-10).astype(int) - 1
    decay = values[ends[0] : ends[1] + 1].mean() - values[ends[3] : ends[4] + 1].mean()
    return {"mean": float(values.mean()), "recall": float((values > 0.5).mean()), "decay": float(decay)}


def object_scores(
    truth: Sequence[np.ndarray], predicted: Sequence[np.ndarray]
) -> dict[int, dict[str, list[float]]]:
    """J and F of every object on every scored frame of one video.

    truth, predicted: one (H, W) uint8 id map a frame (0 background, 1..n objects, 255 void in the truth). The
    objects are 1 .. the largest id of the FIRST true mask; the first frame (given to the tracker) and the
    last are not scored.
    Returns {object id: {"j": [...], "f": [...]}}.
    Raises InputError for a video under three frames, for lists or masks whose sizes differ, and for a first
    mask without an object.
    """
    _check_video(truth, predicted)
    first = truth[0]
    scores = {k: {"j": [], "f": []} for k in range(1, int(first[first != VOID].max(initial=0)) + 1)}
    if not scores:
        raise InputError("the first mask holds no object: nothing to score")
    for true, found in zip(truth[1:-1], predicted[1:-1]):
        void = true == VOID
        for k, lists in scores.items():
            lists["j"].append(region_similarity(true == k, found == k, void))
            lists["f"].append(boundary_f(true == k, found == k, void))
    return scores


def _check_video(truth: Sequence[np.ndarray], predicted: Sequence[np.ndarray]) -> None:
    if len(truth) != len(predicted):
        raise InputError(f"{len(truth)} true masks but {len(predicted)} predicted ones")
    if len(truth) < 3:
        raise InputError(
            f"a video of {len(truth)} frames cannot be scored: the first and the last frame are dropped"
        )
    for t, (true, found) in enumerate(zip(truth, predicted)):
        if true.shape != found.shape:
            raise InputError(f"frame {t}: true mask of {true.shape} but predicted mask of {found.shape}")


def video_scores(objects: dict[int, dict[str, list[float]]]) -> dict[str, dict[str, float]]:
    """{object id: {"j_mean", "j_recall", "j_decay", "f_mean", "f_recall", "f_decay"}} from `object_scores`."""
    return {
        k: {
            f"{metric}_{name}": value
            for metric in "jf"
            for name, value in davis_statistics(lists[metric]).items()
        }
        for k, lists in objects.items()
    }


def mean_scores(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Each statistic's mean over objects (DAVIS 2017 averages over all objects of all sequences), and
    `jf_mean`, the mean of J and F.
    """
    means = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
    return {**means, "jf_mean": (means["j_mean"] + means["f_mean"]) / 2}
