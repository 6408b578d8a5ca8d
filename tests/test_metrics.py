"""Confusion matrix and mIoU: hand-worked cases, a slow oracle, edge cases."""

import json
import subprocess
import sys

import numpy as np
import pytest

from hgrl.core.errors import InputError
from hgrl.metrics import segmentation as metrics

RNG = np.random.default_rng(0)


def test_hand_worked_confusion():
    truth = np.array([[0, 0, 1], [1, 1, 255]], np.uint8)
    predicted = np.array([[0, 1, 1], [1, 0, 2]], np.uint8)
    confusion = metrics.confusion_matrix(truth, predicted, 3)
    assert confusion.tolist() == [[1, 1, 0], [1, 2, 0], [0, 0, 0]]  # the prediction under void is not counted
    iou = metrics.iou_per_class(confusion)
    assert iou[:2] == pytest.approx([1 / 3, 2 / 4])
    assert np.isnan(iou[2])  # absent from truth and prediction
    assert metrics.miou(confusion) == pytest.approx((1 / 3 + 1 / 2) / 2)
    scores = metrics.segmentation_scores(confusion, ("a", "b", "c"))
    assert scores["pixel_accuracy"] == pytest.approx(3 / 5)
    assert scores["mean_accuracy"] == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_confusion_equals_a_loop():
    truth = RNG.choice([0, 1, 2, 3, 255], (17, 23)).astype(np.uint8)
    predicted = RNG.integers(0, 4, (17, 23)).astype(np.uint8)
    slow = np.zeros((4, 4), int)
    for t, p in zip(truth.ravel(), predicted.ravel(), strict=True):
        if t != 255:
            slow[t, p] += 1
    assert np.array_equal(metrics.confusion_matrix(truth, predicted, 4), slow)


def test_class_only_predicted_counts_as_zero():
    confusion = metrics.confusion_matrix(np.zeros(4, np.uint8), np.array([0, 0, 1, 1], np.uint8), 3)
    assert metrics.iou_per_class(confusion)[:2].tolist() == [0.5, 0.0]
    assert metrics.miou(confusion) == 0.25
    scores = metrics.segmentation_scores(confusion, ("a", "b", "c"))
    assert scores["mean_accuracy"] == 0.5  # class 1 is never true


def test_nothing_scored_is_nan_and_none():
    confusion = metrics.confusion_matrix(np.full((2, 2), 255, np.uint8), np.zeros((2, 2), np.uint8), 2)
    scores = metrics.segmentation_scores(confusion, ("a", "b"))
    assert all(np.isnan(scores[name]) for name in ("miou", "pixel_accuracy", "mean_accuracy"))
    assert scores["iou"] == {"a": None, "b": None}


def test_scores_survive_a_permutation_of_classes():
    truth, predicted = RNG.integers(0, 5, (2, 400))
    order = RNG.permutation(5)
    plain = metrics.confusion_matrix(truth, predicted, 5)
    renamed = metrics.confusion_matrix(order[truth], order[predicted], 5)
    assert metrics.miou(plain) == pytest.approx(metrics.miou(renamed))
    assert metrics.iou_per_class(plain) == pytest.approx(metrics.iou_per_class(renamed)[order])


@pytest.mark.parametrize(
    ("truth", "predicted", "words"),
    [
        (np.zeros((2, 2)), np.zeros((2, 3)), "shape"),
        (np.array([7]), np.array([0]), "truth holds class 7"),
        (np.array([0]), np.array([3]), "prediction holds class 3"),
        (np.array([0, -1]), np.array([0, 0]), "truth holds class -1"),
        (np.array([0, np.nan]), np.array([0, 0]), "truth holds class nan"),
        (np.array([0, 1]), np.array([0.5, 1]), "prediction holds class 0.5"),
    ],
)
def test_bad_masks_are_named(truth, predicted, words):
    with pytest.raises(InputError, match=words):
        metrics.confusion_matrix(truth, predicted, 3)


@pytest.mark.parametrize("module", ["segmentation", "bootstrap", "regions", "bsds", "video"])
def test_importing_one_metric_pulls_in_no_other(module):
    """NumPy is all that the confusion matrix needs; none needs torch, higra or matplotlib."""
    code = f"import json, sys, hgrl.metrics.{module}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    heavy = {"scipy", "numba", "cv2", "torch", "higra", "matplotlib", "skimage", "pandas"}
    needs = {"regions": {"scipy", "cv2"}, "bsds": {"scipy", "numba", "cv2"}, "video": {"cv2"}}
    needs = needs.get(module, set())
    assert needs <= loaded and not (heavy - needs) & loaded
    others = {"bsds": {"bootstrap", "boundaries", "regions"}}.get(module, set())
    assert {name for name in loaded if name.startswith("hgrl.metrics.")} == {
        f"hgrl.metrics.{name}" for name in {module} | others
    }
