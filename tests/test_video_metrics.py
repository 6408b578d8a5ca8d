"""DAVIS's J and F: hand-worked cases, slow oracles, edge cases."""

import os
from pathlib import Path

import numpy as np
import pytest

from hgrl.core.errors import InputError
from hgrl.metrics import video as video_metrics
from hgrl.metrics.video import boundary_map


def test_region_similarity_by_hand():
    truth = np.array([[1, 1, 0], [1, 1, 0]], bool)
    predicted = np.array([[0, 1, 1], [0, 1, 1]], bool)
    assert video_metrics.region_similarity(truth, predicted) == pytest.approx(2 / 6)


def test_empty_masks_agree():
    empty, full = np.zeros((8, 8), bool), np.zeros((8, 8), bool)
    full[2:5, 2:5] = True
    for score in (video_metrics.region_similarity, video_metrics.boundary_f):
        assert score(empty, empty) == 1
        assert score(full, empty) == 0 and score(empty, full) == 0


def test_boundary_map_by_hand():
    mask = np.zeros((4, 5), bool)
    mask[1:3, 1:3] = True
    assert boundary_map(mask).astype(int).tolist() == [
        [1, 1, 1, 0, 0],  # half a pixel towards the origin: the row above and the column left of the square
        [1, 0, 1, 0, 0],
        [1, 1, 1, 0, 0],  # the square's own last row and column
        [0, 0, 0, 0, 0],
    ]
    assert not boundary_map(np.ones((4, 5), bool)).any()  # the image's border is no boundary


def test_boundary_map_on_the_last_row_and_column():
    mask = np.zeros((3, 3), bool)
    mask[2, 2] = True
    assert boundary_map(mask).astype(int).tolist() == [[0, 0, 0], [0, 1, 1], [0, 1, 0]]


def slow_boundary_f(truth, predicted, tolerance=0.008):
    """The official definition, pixel by pixel."""

    def boundary(mask):
        h, w = mask.shape
        points = []
        for y in range(h):
            for x in range(w):
                right = x + 1 < w and mask[y, x] != mask[y, x + 1]
                below = y + 1 < h and mask[y, x] != mask[y + 1, x]
                corner = x + 1 < w and y + 1 < h and mask[y, x] != mask[y + 1, x + 1]
                if right or below or corner:
                    points.append((y, x))
        return points

    def matched(points, others):
        return sum(any((y - v) ** 2 + (x - u) ** 2 <= radius**2 for v, u in others) for y, x in points) / len(
            points
        )

    radius = int(np.ceil(tolerance * (truth.shape[0] ** 2 + truth.shape[1] ** 2) ** 0.5))
    real, found = boundary(truth), boundary(predicted)
    if not real and not found:
        return 1.0
    if not real or not found:
        return 0.0
    precision, recall = matched(found, real), matched(real, found)
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize("tolerance", [0.008, 0.1])
def test_boundary_f_equals_the_slow_oracle(tolerance):
    rng = np.random.default_rng(1)
    for _ in range(20):
        shape = tuple(rng.integers(5, 24, 2))
        truth, predicted = np.zeros(shape, bool), np.zeros(shape, bool)
        for mask in (truth, predicted):
            y, x = rng.integers(0, shape[0] - 1), rng.integers(0, shape[1] - 1)
            mask[y : y + rng.integers(1, 9), x : x + rng.integers(1, 9)] = True
        truth, predicted = (mask & (rng.random(shape) >= 0.05) for mask in (truth, predicted))
        expected = slow_boundary_f(truth, predicted, tolerance)
        assert video_metrics.boundary_f(truth, predicted, tolerance) == pytest.approx(expected)


def test_boundary_tolerance_is_a_share_of_the_diagonal():
    shape = (480, 854)  # 0.008 of 980 px, rounded up: 8 px
    truth = np.zeros(shape, bool)
    truth[100:300, 100:300] = True
    assert video_metrics.boundary_f(truth, np.roll(truth, 8, 1)) == 1
    assert video_metrics.boundary_f(truth, np.roll(truth, 9, 1)) < 1


# --- statistics over frames
# -----------------------------------------------------------------------------------------------


def test_statistics_by_hand():
    values = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3]
    stats = video_metrics.davis_statistics(values)
    assert stats["mean"] == pytest.approx(0.65)
    assert stats["recall"] == pytest.approx(5 / 8)  # 0.5 itself does not count
    # bins over frames 1..8 end at 1, 2.75, 4.5, 6.25, 8 -> 1, 3, 5, 6, 8: first bin frames 1-3, last bin
    # frames 6-8
    assert stats["decay"] == pytest.approx(np.mean([1.0, 0.9, 0.8]) - np.mean([0.5, 0.4, 0.3]))


def test_constant_scores_do_not_decay_and_one_frame_is_enough():
    for length in (1, 2, 5, 700):  # 700: the official code's uint8 bins would wrap
        assert video_metrics.davis_statistics([0.7] * length) == pytest.approx(
            {"mean": 0.7, "recall": 1.0, "decay": 0.0}
        )
    assert video_metrics.davis_statistics(np.linspace(1, 0, 700))["decay"] == pytest.approx(0.75, abs=0.01)


def test_first_and_last_frame_are_not_scored():
    truth = [np.zeros((6, 6), np.uint8) for _ in range(4)]
    for mask in truth:
        mask[1:4, 1:4] = 1
    predicted = [mask.copy() for mask in truth]
    predicted[0][:] = 0
    predicted[-1][:] = 0
    scores = video_metrics.object_scores(truth, predicted)
    assert scores == {1: {"j": [1.0, 1.0], "f": [1.0, 1.0]}}


def test_objects_are_those_of_the_first_frame():
    truth = [np.zeros((6, 6), np.uint8) for _ in range(3)]
    truth[0][0, :2] = [2, 255]  # ids 1 and 2 although 1 is not visible; void is no object
    truth[1][3:, 3:] = 3
    predicted = [np.zeros((6, 6), np.uint8)] * 3
    scores = video_metrics.object_scores(truth, predicted)
    assert list(scores) == [1, 2]
    assert scores[2]["j"] == [1.0]  # absent in both: right


def test_void_pixels_of_a_video_are_background_as_in_the_official_evaluation():
    """davis2017-evaluation, semi-supervised: the loader sets 255 to 0, so its void masks are empty."""
    truth = np.zeros((8, 10), np.uint8)
    truth[1:6, 1:4], truth[1:6, 4] = 1, 255  # 15 pixels of the object, a column of void beside them
    predicted = np.zeros_like(truth)
    predicted[1:6, 1:5] = 1
    predicted[1, 1] = 0
    scores = video_metrics.object_scores([truth] * 3, [predicted] * 3)
    assert scores[1]["j"] == [14 / 20]  # 14 / 15 if void were left out
    background = np.where(truth == 255, 0, truth)
    assert scores == video_metrics.object_scores([background] * 3, [predicted] * 3)


ONES, ZEROS = np.ones((2, 2), np.uint8), np.zeros((2, 2), np.uint8)


@pytest.mark.parametrize(
    ("truth", "predicted", "words"),
    [
        ([ONES] * 2, [ONES] * 2, "are not scored"),
        ([ONES] * 3, [ONES] * 4, "3 true masks but 4"),
        ([ONES] * 3, [np.ones((2, 3), np.uint8)] * 3, "frame 0"),
        ([ZEROS] * 3, [ONES] * 3, "no object"),
        ([ONES, ONES * np.nan, ONES], [ONES] * 3, "frame 1: masks of float64 and uint8"),
        ([np.ones((2, 2, 3), np.uint8)] * 3, [np.ones((2, 2, 3), np.uint8)] * 3, "height x width"),
    ],
)
def test_videos_that_cannot_be_scored(truth, predicted, words):
    with pytest.raises(InputError, match=words):
        video_metrics.object_scores(truth, predicted)


def test_mean_is_over_objects_not_over_videos():
    rows = [{"j_mean": 1.0, "f_mean": 0.0}, {"j_mean": 0.0, "f_mean": 0.0}, {"j_mean": 0.5, "f_mean": 0.6}]
    assert video_metrics.mean_scores(rows) == pytest.approx({"j_mean": 0.5, "f_mean": 0.2, "jf_mean": 0.35})


def test_identity_on_real_davis():
    """The first mask copied along the 8 sequences: J measured independently at 30.7."""
    if "HGRL_DATA" not in os.environ:
        pytest.skip("set HGRL_DATA to a folder with DAVIS to run this")
    root = Path(os.environ["HGRL_DATA"])
    if not (root / "DAVIS").is_dir():
        pytest.skip(f"{root} holds no DAVIS")
    from hgrl.core.data_settings import Source
    from hgrl.core.settings import TrackingSettings
    from hgrl.data.sources import open_videos
    from hgrl.evaluation.trackers.motion import identity
    from hgrl.evaluation.tracking import evaluate_tracking

    videos = open_videos(Source(kind="davis", folder="DAVIS", split="val"), root)
    eight = {
        "blackswan",
        "breakdance",
        "camel",
        "car-shadow",
        "dog",
        "drift-straight",
        "horsejump-high",
        "libby",
    }
    if {video.name for video in videos} != eight:
        pytest.skip("the number is of eight sequences; another selection is at hand")
    assert evaluate_tracking(videos, identity, TrackingSettings())["j_mean"] == pytest.approx(
        0.307, abs=0.001
    )
