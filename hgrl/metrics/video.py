"""Scores of a video segmentation: J (regions) and F (boundaries) as DAVIS 2017 computes them.

Perazzi et al., CVPR 2016, and Pont-Tuset et al., arXiv:1704.00675, by the rules of the official evaluation
(davis2017-evaluation) for the semi-supervised task: void pixels are background there, and are scored."""

from collections.abc import Sequence

import cv2
import numpy as np

from hgrl.core.errors import InputError
from hgrl.core.labels import VOID

Scores = dict[int, dict[str, list[float]]]  # of each object: {"j": [...], "f": [...]}, per scored frame
BOUNDARY_TOLERANCE = 0.008  # of the image's diagonal, rounded up to pixels


def boundary_map(labels: np.ndarray) -> np.ndarray:
    """Boolean (H, W): pixels that differ from their right, lower or lower-right neighbour.

    The boundary lies half a pixel towards the origin, and a mask that touches the image's right or lower
    border has none there. DAVIS's seg2bmap and, at image size, BSDS's seg2bdry."""
    boundary = np.zeros(labels.shape, bool)
    boundary[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    boundary[:-1] |= labels[:-1] != labels[1:]
    boundary[:-1, :-1] |= labels[:-1, :-1] != labels[1:, 1:]
    return boundary


def region_similarity(truth: np.ndarray, predicted: np.ndarray) -> float:
    """J: intersection over union of two boolean masks (H, W); 1 when both are empty."""
    union = np.count_nonzero(truth | predicted)
    return np.count_nonzero(truth & predicted) / union if union else 1.0


def boundary_f(truth: np.ndarray, predicted: np.ndarray, tolerance: float = BOUNDARY_TOLERANCE) -> float:
    """F: harmonic mean of the boundary's precision and recall, for boolean masks (H, W).

    A boundary pixel is matched when the other boundary passes within a disk of `tolerance` x diagonal pixels,
    rounded up. Two empty boundaries score 1, one empty boundary 0. Not done: the one-to-one assignment of
    BSDS's benchmark, which DAVIS replaces by this dilation."""
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

    Recall is the fraction above 0.5; decay the mean of the first quarter minus that of the last. Quarters
    share end frames and are rounded as in the official code, whose bins, unlike these, wrap after 256."""
    values = np.asarray(values, float)
    ends = np.round(np.linspace(1, len(values), 5) + 1e-10).astype(int) - 1
    decay = values[ends[0] : ends[1] + 1].mean() - values[ends[3] : ends[4] + 1].mean()
    return {"mean": float(values.mean()), "recall": float((values > 0.5).mean()), "decay": float(decay)}


def object_ids(first_mask: np.ndarray) -> range:
    """The objects of a video: 1 .. the largest id of its first true mask (H, W), void apart."""
    return range(1, int(first_mask[first_mask != VOID].max(initial=0)) + 1)


def object_scores(truth: Sequence[np.ndarray], predicted: Sequence[np.ndarray]) -> Scores:
    """J and F of every object on every scored frame of one video, by object id.

    truth, predicted: an (H, W) integer id map per frame; 0 is background, 1..n are objects, and VOID in the
    truth counts as background. The first frame, which the tracker was given, and the last are not scored.
    Raises InputError for a video under three frames, for lists or masks whose sizes differ, for masks of
    other than whole numbers, and for a first mask without an object."""
    if len(truth) != len(predicted):
        raise InputError(f"{len(truth)} true masks but {len(predicted)} predicted ones")
    if len(truth) < 3:
        raise InputError(f"a video of {len(truth)} frames: the first and the last frame are not scored")
    for t, (true, found) in enumerate(zip(truth, predicted, strict=True)):
        if true.shape != found.shape:
            raise InputError(f"frame {t}: true mask of {true.shape} but predicted mask of {found.shape}")
        if true.ndim != 2 or {true.dtype.kind, found.dtype.kind} - set("iu"):
            what = f"masks of {true.dtype} and {found.dtype}, shape {true.shape}"
            raise InputError(f"frame {t}: {what}; they must be height x width whole numbers")
    scores = {k: {"j": [], "f": []} for k in object_ids(truth[0])}
    if not scores:
        raise InputError("the first mask holds no object: nothing to score")
    for true, found in zip(truth[1:-1], predicted[1:-1], strict=True):
        for k, lists in scores.items():
            lists["j"].append(region_similarity(true == k, found == k))
            lists["f"].append(boundary_f(true == k, found == k))
    return scores


def video_scores(objects: Scores) -> dict[int, dict[str, float]]:
    """{object id: {"j_mean", "j_recall", "j_decay", "f_mean", ...}} from what `object_scores` returns."""
    return {
        k: {f"{m}_{name}": v for m in "jf" for name, v in davis_statistics(lists[m]).items()}
        for k, lists in objects.items()
    }


def mean_scores(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Each statistic's mean over all videos' objects (DAVIS 2017), and `jf_mean`, the mean of J and F."""
    means = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
    return {**means, "jf_mean": (means["j_mean"] + means["f_mean"]) / 2}
