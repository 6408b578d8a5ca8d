"""Mask tracking (section 5.3): a run's features, or a tracker without any, scored as in DAVIS."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from multiprocessing import parent_process
from typing import Any

import numpy as np

from hgrl.core import progress
from hgrl.core.errors import InputError
from hgrl.core.experiment import Experiment, Run
from hgrl.core.labels import VOID
from hgrl.core.results import COST
from hgrl.core.settings import Propagation, TrackingSettings
from hgrl.data.samples import Video
from hgrl.data.sources import open_videos
from hgrl.evaluation.features import (
    DENSE_STRIDE,
    STRIDES,
    BaselineFeatures,
    FeatureFunction,
    Features,
    dense_backbone,
    single_layer,
    with_lab,
)
from hgrl.evaluation.networks import layers_of, load_features
from hgrl.evaluation.trackers.load import TRACKERS
from hgrl.evaluation.trackers.motion import Tracker
from hgrl.evaluation.trackers.propagation import track_video
from hgrl.metrics.video import mean_scores, object_scores, video_scores

COLUMNS = ("paper", "field")  # of table 3: the settings' sections of that name


@dataclass(frozen=True)
class Reading:
    """What tracking reads of a run: features of frames at a short side, on a grid of some stride."""

    function: FeatureFunction
    stride: int
    short_side: int
    parameters: int  # of the network as far as it is read


def score_run(experiment: Experiment, run: Run, seed: int) -> dict[str, Any]:
    """{column: J and F of a run over all videos}: see `evaluate_tracking`; with `stride` and `parameters`.

    A tracker that both columns share is scored once."""
    own, videos = run.settings.tracking, open_videos(run.settings.data.videos, experiment.data_root)
    trackers, about = run_trackers(experiment, run, seed)
    scores = {
        tracker: evaluate_tracking(videos, tracker, own) for tracker in dict.fromkeys(trackers.values())
    }
    return {column: scores[tracker] | about for column, tracker in trackers.items()}


def run_trackers(experiment: Experiment, run: Run, seed: int) -> tuple[dict[str, Tracker], dict[str, int]]:
    """{column: tracker} of a run, one for both if it reads no features, and what its row tells of it."""
    if run.method in TRACKERS:
        tracker, parameters = TRACKERS[run.method](experiment, run, seed)
        return dict.fromkeys(COLUMNS, tracker), {"parameters": parameters}
    own = run.settings.tracking
    read = reading(load_features(experiment, run, seed), own, layers_of(run))
    about = {"stride": read.stride, "parameters": read.parameters}
    return {column: feature_tracker(read, getattr(own, column)) for column in COLUMNS}, about


def feature_tracker(read: Reading, how: Propagation) -> Tracker:
    return lambda video, settings: track_video(video, read.function, read.short_side, how)


def reading(features: Features, own: TrackingSettings, layers: Sequence[str]) -> Reading:
    """A run's features for tracking: `tracking.layer`, or the backbone where it is none of its `layers`.

    The backbone is read without its last stride. A layer "...+lab" joins Lab colour to a network's features;
    baselines stay what they are."""
    layer, _, colour = own.layer.partition("+")
    layer = layer if layer in layers else "backbone"
    baseline, dense = isinstance(features, BaselineFeatures), layer == "backbone"
    stride = DENSE_STRIDE if dense else STRIDES[layer]
    function = dense_backbone(features) if dense else single_layer(features, layer)
    if colour and not baseline:
        function = with_lab(function, stride, own.lab_share)
    finer = own.finer * (stride / STRIDES["embedding"] if own.one_grid else 1)
    read = () if baseline else (features.network.backbone if dense else features.network).parameters()
    return Reading(function, stride, round(own.short_side * finer), sum(value.numel() for value in read))


def evaluate_tracking(videos: Iterable[Video], tracker: Tracker, own: TrackingSettings) -> dict[str, Any]:
    """J and F of a tracker, as DAVIS 2017: over all objects of all videos, first and last frame not scored.

    Returns {j_mean, j_recall, j_decay, f_mean, f_recall, f_decay, jf_mean, sequences: {name: the same,
    objects}, core_seconds}, in [0, 1] (decay in [-1, 1]; the tracker's time on all of this process's cores).
    Raises InputError naming the video that cannot be scored."""
    rows, sequences, seconds = [], {}, 0.0
    hidden = parent_process() is not None  # in a worker process the stage's own bar speaks
    for video in progress.bar(videos, desc="videos", leave=False, delay=5, disable=hidden):
        truth, started = [video.mask(t) for t in range(len(video))], time.process_time()
        masks = tracker(video, own)
        seconds += time.process_time() - started
        try:
            objects = list(video_scores(object_scores(truth, masks)).values())
        except InputError as error:
            raise InputError(f"video {video.name}: {error}") from None
        sequences[video.name] = {**mean_scores(objects), "objects": len(objects)}
        rows += objects
    return {**mean_scores(rows), "sequences": sequences, COST: round(seconds, 4)}


def without_costs(seeds: dict[int, dict[str, Any]]) -> tuple[dict[int, Any], dict[str, Any]]:
    """Scores without the seconds that they took; {"core_seconds": {seed: {column: seconds}}}."""
    scores, costs = {}, {}
    for seed, columns in seeds.items():
        costs[seed] = {column: own[COST] for column, own in columns.items()}
        scores[seed] = {c: {key: own[key] for key in own if key != COST} for c, own in columns.items()}
    return scores, {COST: costs}


def middle_of_object(mask: np.ndarray, grid: tuple[int, int]) -> tuple[int, int]:
    """The cell (y, x) of the largest object's pixel nearest to its mean; the middle one without an object."""
    sizes = np.bincount(mask[mask != VOID], minlength=2)[1:]
    pixels = np.argwhere(mask == 1 + sizes.argmax()) if sizes.any() else np.array([mask.shape]) // 2
    nearest = pixels[((pixels - pixels.mean(0)) ** 2).sum(1).argmin()]
    return tuple(int(v) for v in nearest * grid // mask.shape)
