"""Tracking: what is read of a run, the trackers on videos whose motion is known, and how they are scored."""

import os
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from scores import evaluate, small

from hgrl.core.data_settings import Source
from hgrl.core.errors import InputError
from hgrl.core.files import read_json
from hgrl.core.settings import Propagation, TrackingSettings
from hgrl.data.normalise import normalise
from hgrl.evaluation import stage as evaluation
from hgrl.evaluation import tracking
from hgrl.evaluation.features import BaselineFeatures, NetworkFeatures
from hgrl.evaluation.trackers import propagation
from hgrl.evaluation.trackers.motion import identity, optical_flow
from hgrl.pretraining.network import LAYERS, Network


@dataclass
class ToyVideo:
    """A video held in memory: what trackers ask of `hgrl.data.samples.Video`."""

    images: list
    masks: list
    name: str = "toy"

    def __len__(self):
        return len(self.images)

    def frame(self, t, short_side=None):
        image = self.images[t]
        scale = short_side / min(image.shape[:2]) if short_side else 1
        return image if scale == 1 else cv2.resize(image, None, fx=scale, fy=scale)

    def mask(self, t):
        return self.masks[t]


# --- trackers


def moving_square(frames=6, step=3):
    """A textured square that slides over a textured background, 96 x 128."""
    rng = np.random.default_rng(0)
    texture = cv2.GaussianBlur(rng.integers(0, 256, (96, 128, 3)).astype(np.uint8), (0, 0), 2)
    patch = cv2.GaussianBlur(rng.integers(0, 256, (40, 40, 3)).astype(np.uint8), (0, 0), 2) // 2 + 128
    texture = (texture // 2).astype(np.uint8)
    images, masks = [], []
    for t in range(frames):
        image, mask = texture.copy(), np.zeros((96, 128), np.uint8)
        image[30:70, 20 + t * step : 60 + t * step], mask[30:70, 20 + t * step : 60 + t * step] = patch, 1
        images.append(image)
        masks.append(mask)
    return ToyVideo(images, masks)


LAB = BaselineFeatures("lab")


def by_colour(settings, column="paper"):
    """The tracker of Lab colour in a column."""
    return tracking.feature_tracker(tracking.reading(LAB, settings, LAYERS), getattr(settings, column))


@pytest.mark.parametrize("column", tracking.COLUMNS)
def test_trackers_on_a_known_motion(column):
    video, settings = moving_square(), TrackingSettings(short_side=96)
    colour = tracking.evaluate_tracking([video], by_colour(settings, column), settings)
    flow = tracking.evaluate_tracking([video], optical_flow, settings)
    copied = tracking.evaluate_tracking([video], identity, settings)
    moves = np.array([3, 6, 9, 12])  # of a square of 40: the scored frames are 1 .. 4
    assert copied["j_mean"] == pytest.approx(np.mean((40 - moves) / (40 + moves)))
    assert colour["j_mean"] > 0.85 and flow["j_mean"] > 0.85
    assert colour["j_decay"] < copied["j_decay"]


def test_flow_at_a_coarser_grid_keeps_a_still_mask():
    video = moving_square(step=0)
    masks = optical_flow(video, TrackingSettings(short_side=48))
    assert all(np.mean(found != video.mask(0)) < 0.01 for found in masks)


def test_a_perfect_tracker_scores_one_and_sequences_are_named():
    videos = [moving_square(), ToyVideo(moving_square().images, moving_square().masks, "other")]
    scores = tracking.evaluate_tracking(videos, lambda video, settings: video.masks, TrackingSettings())
    assert scores["j_mean"] == scores["f_mean"] == scores["jf_mean"] == 1 and scores["j_decay"] == 0
    assert set(scores["sequences"]) == {"toy", "other"} and scores["sequences"]["toy"]["objects"] == 1


def test_a_video_that_cannot_be_scored_is_named():
    with pytest.raises(InputError, match=r"video toy: .*2 frames"):
        tracking.evaluate_tracking([moving_square(frames=2)], identity, TrackingSettings())


# --- pictures


def test_neighbours_of_a_cell_are_those_that_vote():
    h, w = 4, 6
    grid = torch.eye(h * w).view(h * w, h, w)
    shifted = torch.roll(grid, 1, 2)  # the cell (1, 2) was at (1, 1)
    found = propagation.neighbours_of(
        shifted, [torch.rand(h * w, h, w), grid], (1, 2), Propagation(neighbours=3, coordinate_weight=0.1)
    )
    assert found[0] == (1, 1, 1) and len(found) == 3


def test_middle_of_the_largest_object():
    mask = np.zeros((8, 12), np.uint8)
    mask[0, 0] = 1
    mask[4:, 6:] = 2
    mask[0, 1:6] = 255
    assert tracking.middle_of_object(mask, (4, 6)) in [(2, 4), (3, 4)]
    assert tracking.middle_of_object(np.zeros((8, 12), np.uint8), (4, 6)) == (2, 3)


def test_figures_show_every_tracker_and_frame():
    from hgrl.reporting.figures import tracking as figures

    video = moving_square()
    assert (
        len(figures.tracking_overlay(video, {"truth": video.masks, "copied": video.masks}, [0, 2, 5]).axes)
        == 6
    )
    animation = Image.open(
        BytesIO(figures.tracking_animation(video, {"truth": video.masks, "lab": video.masks}, [0, 2, 5]))
    )
    assert animation.format == "GIF" and animation.n_frames == 3
    many = BytesIO(figures.tracking_animation(video, {f"{k}": video.masks for k in range(7)}, [0]))
    assert Image.open(many).height > 1.9 * animation.height  # a second row of panels
    grid = figures.sequence_grid({"a": {"x": 0.5, "y": 0.25}, "b": {"x": 0.0, "y": 1.0}})
    assert [text.get_text() for text in grid.axes[0].texts] == ["50", "25", "0", "100"]
    tinted = figures.overlay(video.images[0], video.masks[0])
    assert np.array_equal(tinted[video.masks[0] == 0][0], video.images[0][video.masks[0] == 0][0])
    assert (tinted[45, 40] != video.images[0][45, 40]).any()
    assert len(figures.neighbour_picture(video.images[:3], (1, 2), [(0, 1, 1), (1, 1, 2)], (4, 6)).axes) == 3
    assert (
        figures.scores_over_time({"a": [1.0, 0.5]}).axes
        and figures.match_picture(video.masks[0] > 0, video.masks[1] > 0).axes
    )


# --- real video


def test_colour_on_real_davis():
    """Colour neighbours beat a copied mask by far on a real sequence."""
    if "HGRL_DATA" not in os.environ:
        pytest.skip("set HGRL_DATA to a folder with DAVIS to run this")
    root = Path(os.environ["HGRL_DATA"])
    if not (root / "DAVIS").is_dir():
        pytest.skip(f"{root} holds no DAVIS")
    from hgrl.data.sources import open_videos

    video = open_videos(Source(kind="davis", folder="DAVIS", split="val"), root)[:1]
    settings = TrackingSettings(short_side=120)
    colour = tracking.evaluate_tracking(video, by_colour(settings), settings)
    assert colour["j_mean"] > tracking.evaluate_tracking(video, identity, settings)["j_mean"] + 0.1


@pytest.mark.parametrize(
    ("changes", "side", "rows"),
    [({}, 48, 12), ({"finer": 2.0}, 96, 24), ({"layer": "backbone"}, 48, 6)]
    + [({"layer": "backbone", "one_grid": True}, 96, 12), ({"one_grid": True}, 48, 12)],
)
def test_frames_are_enlarged_for_a_finer_grid_and_for_one_grid(changes, side, rows):
    video = moving_square()
    read = tracking.reading(LAB, TrackingSettings(short_side=48, **changes), LAYERS)
    assert read.short_side == side and read.stride == 4 * side / (4 * rows)
    assert read.function(video.frame(0, read.short_side)[None]).shape[2] == rows
    assert read.parameters == 0


def test_the_backbone_is_read_without_its_last_stride_and_what_is_read_is_counted(settings):
    features, own = NetworkFeatures(Network(settings.network), torch.device("cpu")), TrackingSettings()
    image = moving_square().images[0][None]
    backbone, whole = (
        tracking.reading(features, own.model_copy(update={"layer": layer}), LAYERS)
        for layer in ("backbone", "embedding")
    )
    found, network = backbone.function(image), features.network
    assert found.shape[2:] == (12, 16) and backbone.stride == 8
    with torch.no_grad(), network.backbone.last_stride_out():
        wanted = network.features(normalise(torch.from_numpy(image).permute(0, 3, 1, 2)), "backbone")[0]
    torch.testing.assert_close(found, wanted)
    assert backbone.parameters == sum(value.numel() for value in network.backbone.parameters())
    assert whole.parameters == sum(value.numel() for value in network.parameters())


def test_a_tracker_without_features_has_one_score_and_seconds_are_no_score(pipeline):
    scores = evaluate("tracking", "identity,random")
    assert scores["identity"][0]["paper"] == scores["identity"][0]["field"]
    assert scores["random"][0]["paper"] != scores["random"][0]["field"]
    assert scores["random"][0]["paper"]["stride"] == 4
    origin = read_json(small().files.result("tracking", "random.origin"))
    assert origin["core_seconds"].keys() == {"0", "1"} and origin["core_seconds"]["0"]["field"] > 0
    assert "core_seconds" not in scores["random"][0]["paper"]
    metrics = read_json(small().files.metrics("tracking"))["random"]["field"]
    assert {"j_mean_mean", "f_mean_mean", "stride_mean", "parameters_mean", "j_low", "lead"} <= metrics.keys()
    assert metrics["lead"].keys() == {"identity"} and "sequences" not in metrics
    extra = replace(small(), files=small().files.extras)  # held against the rows of the plain results
    evaluation.evaluate("tracking", extra, "ours")
    assert read_json(extra.files.metrics("tracking"))["ours"]["paper"]["lead"].keys() == {"identity"}
