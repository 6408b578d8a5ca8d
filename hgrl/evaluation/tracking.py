"""Mask tracking (section 5.3): a run's features, or a tracker without any, scored as in DAVIS."""

from collections.abc import Callable, Iterable, Sequence
from multiprocessing import parent_process
from typing import Any

import numpy as np

from hgrl.core import progress
from hgrl.core.errors import InputError
from hgrl.core.experiment import Experiment, Run
from hgrl.core.labels import VOID
from hgrl.core.settings import TrackingSettings
from hgrl.data.samples import Video
from hgrl.data.sources import open_videos
from hgrl.evaluation.features import BaselineFeatures, FeatureFunction, Features, single_layer, with_lab
from hgrl.evaluation.networks import layers_of, load_features
from hgrl.evaluation.trackers.motion import identity, optical_flow
from hgrl.evaluation.trackers.propagation import track_video
from hgrl.metrics.video import mean_scores, object_scores, video_scores

Tracker = Callable[[Video, TrackingSettings], list[np.ndarray]]  # to one (H, W) uint8 id map per frame
TRACKERS: dict[str, Tracker] = {"identity": identity, "flow": optical_flow}  # table 3's rows without features


def score_run(experiment: Experiment, run: Run, seed: int) -> dict[str, Any]:
    """J and F of a run over all videos: see `evaluate_tracking`."""
    own, videos = run.settings.tracking, open_videos(run.settings.data.videos, experiment.data_root)
    if run.method in TRACKERS:
        return evaluate_tracking(videos, TRACKERS[run.method], own)
    function = tracking_features(load_features(experiment, run, seed), own, layers_of(run))
    return evaluate_tracking(videos, feature_tracker(function), own)


def feature_tracker(feature_fn: FeatureFunction) -> Tracker:
    return lambda video, settings: track_video(video, feature_fn, settings)


def tracking_features(features: Features, own: TrackingSettings, layers: Sequence[str]) -> FeatureFunction:
    """A run's features for tracking: `tracking.layer`, or the backbone where it is none of its `layers`.

    A layer "...+lab" joins Lab colour to a network's features; baselines stay what they are."""
    layer, _, colour = own.layer.partition("+")
    layer = layer if layer in layers else "backbone"
    function, joined = single_layer(features, layer), colour and not isinstance(features, BaselineFeatures)
    return with_lab(function, layer, own.lab_share) if joined else function


def evaluate_tracking(videos: Iterable[Video], tracker: Tracker, own: TrackingSettings) -> dict[str, Any]:
    """J and F of a tracker, as DAVIS 2017: over all objects of all videos, first and last frame not scored.

    Returns {j_mean, j_recall, j_decay, f_mean, f_recall, f_decay, jf_mean, per_sequence: {name: the same,
    objects}}, in [0, 1] (decay in [-1, 1]). Raises InputError naming the video that cannot be scored."""
    rows, per_sequence = [], {}
    hidden = parent_process() is not None  # in a worker process the stage's own bar speaks
    for video in progress.bar(videos, desc="videos", leave=False, delay=5, disable=hidden):
        truth = [video.mask(t) for t in range(len(video))]
        try:
            objects = list(video_scores(object_scores(truth, tracker(video, own))).values())
        except InputError as error:
            raise InputError(f"video {video.name}: {error}") from None
        per_sequence[video.name] = {**mean_scores(objects), "objects": len(objects)}
        rows += objects
    return {**mean_scores(rows), "per_sequence": per_sequence}


def middle_of_object(mask: np.ndarray, grid: tuple[int, int]) -> tuple[int, int]:
    """The cell (y, x) of the largest object's pixel nearest to its mean; the middle one without an object."""
    sizes = np.bincount(mask[mask != VOID], minlength=2)[1:]
    pixels = np.argwhere(mask == 1 + sizes.argmax()) if sizes.any() else np.array([mask.shape]) // 2
    nearest = pixels[((pixels - pixels.mean(0)) ** 2).sum(1).argmin()]
    return tuple(int(v) for v in nearest * grid // mask.shape)
