"""Scores of a semantic segmentation from its confusion matrix. NumPy only."""

from __future__ import annotations

import numpy as np

from hgrl.core.errors import InputError

VOID = 255  # pixels of this truth are not scored; `hgrl.data.samples` maps every data set's void to it


def confusion_matrix(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Pixel counts by true and predicted class.

    truth, predicted: integer arrays of one shape. truth holds 0 .. classes-1, or 255 (void: left out).
    predicted holds 0 .. classes-1 wherever truth is not void.
    Returns (classes, classes) int64; row = truth, column = prediction. Sum the matrices of a split before
    scoring it: the field's mIoU is of the whole split, not a mean over images.
    Raises InputError for shapes that differ and for an id outside the classes.
    """
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    if truth.shape != predicted.shape:
        raise InputError(
            f"truth of shape {truth.shape} and prediction of shape {predicted.shape}: resize one before scoring"
        )
    scored = truth != VOID
    truth, predicted = truth[scored].astype(np.int64), predicted[scored].astype(np.int64)
    for name, ids in (("truth", truth), ("prediction", predicted)):
        if ids.size and (ids.min() < 0 or ids.max() >= classes):
            wrong = ids.max() if ids.max() >= classes else ids.min()
            raise InputError(
                f"{name} holds class {wrong}, but there are {classes} classes (255 is void in the truth)"
            )
    return np.bincount(truth * classes + predicted, minlength=classes**2).reshape(classes, classes)


def _nan_divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Element-wise quotient, nan where the denominator is 0."""
    quotient = np.full(denominator.shape, np.nan)
    np.divide(numerator, denominator, out=quotient, where=denominator > 0)
    return quotient


def iou_per_class(confusion: np.ndarray) -> np.ndarray:
    """(classes,) float64 intersection over union in [0, 1]; nan for a class absent from both truth and
    prediction.
    """
    hits = np.diag(confusion)
    return _nan_divide(hits, confusion.sum(0) + confusion.sum(1) - hits)


def miou(confusion: np.ndarray) -> float:
    """Mean IoU over the classes that occur in the truth or the prediction (the others are nan and left out of
    the mean).

    A class that is predicted but never true counts, with an IoU of 0. nan when nothing was scored.
    """
    return _nan_mean(iou_per_class(confusion))


def pixel_accuracy(confusion: np.ndarray) -> float:
    """Share of scored pixels whose class is right; nan when nothing was scored."""
    total = confusion.sum()
    return float(np.trace(confusion) / total) if total else float("nan")


def mean_accuracy(confusion: np.ndarray) -> float:
    """Mean over the true classes of the share of their pixels that is right (mean recall); classes absent
    from the truth are left out.
    """
    return _nan_mean(_nan_divide(np.diag(confusion), confusion.sum(1)))


def _nan_mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def segmentation_scores(confusion: np.ndarray, classes: tuple[str, ...]) -> dict[str, object]:
    """The scores of a split, ready for json: miou, pixel_accuracy, mean_accuracy, and iou by class name
    (None: absent class).
    """
    by_class = {
        name: None if np.isnan(value) else float(value)
        for name, value in zip(classes, iou_per_class(confusion), strict=True)
    }
    means = {
        "miou": miou(confusion),
        "pixel_accuracy": pixel_accuracy(confusion),
        "mean_accuracy": mean_accuracy(confusion),
    }
    return {**means, "iou": by_class}
