"""Scores of a semantic segmentation from its confusion matrix. NumPy only."""

import numpy as np

from hgrl.core.errors import InputError
from hgrl.core.labels import VOID


def confusion_matrix(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Pixel counts by true and predicted class: (classes, classes) int64; row = truth, column = prediction.

    truth, predicted: integer arrays of one shape, 0 .. classes-1; where truth is VOID nothing is counted,
    whatever the prediction. Sum the matrices of a split before scoring it: the field's mIoU is of the whole
    split, not a mean over images. Raises InputError for shapes that differ and for ids that are no class."""
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    if truth.shape != predicted.shape:
        raise InputError(f"truth of shape {truth.shape}, prediction of {predicted.shape}: resize one first")
    scored = truth != VOID
    truth = _class_ids(truth[scored], "truth", classes)
    predicted = _class_ids(predicted[scored], "prediction", classes)
    return np.bincount(truth * classes + predicted, minlength=classes**2).reshape(classes, classes)


def _class_ids(ids: np.ndarray, name: str, classes: int) -> np.ndarray:
    wrong = ids[~((ids >= 0) & (ids < classes) & (ids == np.round(ids)))]  # nan is among them
    if len(wrong):
        known = f"there are {classes} classes, 0 to {classes - 1}, and {VOID} is void in the truth"
        raise InputError(f"{name} holds class {wrong[0]}, but {known}")
    return ids.astype(np.int64)


def iou_per_class(confusion: np.ndarray) -> np.ndarray:
    """(..., C, C) -> (..., C) float64 intersection over union in [0, 1]; nan for a class in neither map."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    union = confusion.sum(-2) + confusion.sum(-1) - hits
    return hits / np.where(union > 0, union, np.nan)


def miou(confusion: np.ndarray) -> float:
    """Mean IoU over the classes in the truth or the prediction alone (IoU 0); nan when nothing was scored."""
    return _nan_mean(iou_per_class(confusion))


def segmentation_scores(confusion: np.ndarray, classes: tuple[str, ...]) -> dict[str, object]:
    """A split's scores for json: `miou`, pixel_accuracy, mean_accuracy, iou by class name (None if absent).

    pixel_accuracy is the fraction of scored pixels whose class is right, mean_accuracy the mean recall over
    the classes that occur in the truth; both are nan when nothing was scored."""
    hits, true = np.diag(confusion), confusion.sum(1)
    ious = zip(classes, iou_per_class(confusion), strict=True)
    return {
        "miou": miou(confusion),
        "pixel_accuracy": float(hits.sum() / true.sum()) if true.any() else float("nan"),
        "mean_accuracy": _nan_mean(hits / np.where(true > 0, true, np.nan)),
        "iou": {name: None if np.isnan(value) else float(value) for name, value in ious},
    }


def _nan_mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
