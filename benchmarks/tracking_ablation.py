"""One change at a time to mask tracking, on tune videos: does the embedding lack resolution, colour, layer or
matching?

    python benchmarks/tracking_ablation.py mini --run ours-cns5

Scores each row on the run's features (every seed) and, with the same matching, on plain Lab colour. Nothing
is trained. The videos are never those that are reported: the scenes' split `tune`; of real videos the first
sequences of the profile's list (`--first`), which must not be among those that are reported. Writes
results/<profile>/tracking_ablation.md. Two minutes on one core in `mini`.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from hgrl.core import files as store
from hgrl.core.errors import InputError
from hgrl.core.experiment import Experiment, load_experiment
from hgrl.core.loading import overridden, validated
from hgrl.core.progress import bar
from hgrl.core.settings import TrackingSettings
from hgrl.data.samples import Video
from hgrl.data.sources import open_videos
from hgrl.evaluation.features import STRIDES, BaselineFeatures, Features
from hgrl.evaluation.networks import layers_of, load_features
from hgrl.evaluation.trackers.motion import identity, optical_flow
from hgrl.evaluation.trackers.propagation import one_hot
from hgrl.evaluation.tracking import Tracker, feature_tracker, reading
from hgrl.metrics.video import object_ids, region_similarity

SHARPER = {"field.previous_frames": 4, "field.temperature": 1e-3, "field.coordinate_weight": 0.5}
COLOUR = {"layer": "embedding+lab", "lab_share": 0.97}
ROWS: dict[str, tuple[str, dict[str, Any]]] = {  # the column whose matching it is, and what changes
    "the profile's own": ("paper", {}),
    "matching: 5 neighbours": ("paper", {"paper.neighbours": 5}),
    "matching: 3 neighbours": ("paper", {"paper.neighbours": 3}),
    "matching: 5 frames before": ("paper", {"paper.previous_frames": 5}),
    "matching: no coordinates": ("paper", {"paper.coordinate_weight": 0.0}),
    "matching: coordinates x 2": ("paper", {"paper.coordinate_weight": 1.0}),
    "matching: coordinates x 4": ("paper", {"paper.coordinate_weight": 2.0}),
    "matching: the field's, as CRW": ("field", {}),
    "matching: the field's, sharper, with coordinates": ("field", SHARPER),
    "resolution: input x 1.5": ("paper", {"finer": 1.5}),
    "resolution: input x 2": ("paper", {"finer": 2.0}),
    "layer: hypercolumn": ("paper", {"layer": "hypercolumn"}),
    "layer: backbone, without its last stride": ("paper", {"layer": "backbone"}),
    "colour: Lab joined, share 0.9": ("paper", COLOUR | {"lab_share": 0.9}),
    "colour: Lab joined, share 0.97": ("paper", COLOUR),
    "together: input x 2, the field's, sharper, with coordinates": ("field", {"finer": 2.0, **SHARPER}),
    "together, and Lab joined, share 0.97": ("field", {"finer": 2.0, **SHARPER, **COLOUR}),
}


@dataclass(frozen=True)
class Head:
    """The first frames of a video."""

    video: Video
    frames: int

    @property
    def name(self) -> str:
        return self.video.name

    def __len__(self) -> int:
        return min(self.frames, len(self.video))

    def frame(self, t: int, short_side: int | None = None) -> np.ndarray:
        return self.video.frame(t, short_side)

    def mask(self, t: int) -> np.ndarray:
        return self.video.mask(t)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("profile")
    parser.add_argument("--run", default="ours-cns5", help="whose checkpoints are read; default: ours-cns5")
    parser.add_argument(
        "--first", type=int, default=3, help="of real videos, the first N sequences; default: 3"
    )
    parser.add_argument("--frames", type=int, default=50, help="of each video, the first N; default: 50")
    parser.add_argument("--rows", help=f"separated by semicolons, of: {'; '.join(ROWS)}; default: all")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    names = [name.strip() for name in options.rows.split(";")] if options.rows else list(ROWS)
    experiment = load_experiment(options.profile)
    text = ablate(experiment, options.run, options.first, options.frames, names)
    store.write_text(experiment.files.results / "tracking_ablation.md", text)
    print(text)


def tune_videos(experiment: Experiment, first: int) -> tuple[Video, ...]:
    """The scenes' tune split, or the first sequences of the profile's real ones."""
    data = experiment.settings.data
    if data.scenes is None:
        return open_videos(data.videos, experiment.data_root)[:first]
    return open_videos(data.videos.model_copy(update={"split": "tune"}), experiment.data_root)


def ablate(experiment: Experiment, run_name: str, first: int, frames: int, names: list[str]) -> str:
    """The table as Markdown: J in percent of every row, on the run's features and on Lab colour. InputError
    for an unknown row."""
    unknown = [name for name in names if name not in ROWS]
    if unknown:
        raise InputError(f"no row named {unknown[0]!r}; choose from: {'; '.join(ROWS)}")
    run = experiment.run(run_name)
    videos = [Head(video, frames) for video in tune_videos(experiment, first)]
    networks = [load_features(experiment, run, seed) for seed in run.settings.seeds]
    layers, own = layers_of(run), run.settings.tracking
    lines = [
        row_of(name, changed(own, ROWS[name][1]), videos, networks, layers)
        for name in bar(names, desc="rows")
    ]
    finer = changed(own, {"finer": 2.0})
    beside = {
        "first mask copied": (identity, own),
        "DIS optical flow": (optical_flow, own),
        "true masks, through the cells": (through_cells, own),
        "true masks, through the cells of input x 2": (through_cells, finer),
    }
    for name, (tracker, tracking) in beside.items():
        lines.append(f"| {name} | {score(videos, tracker, tracking):.1f} | - | - |")
    shown = (
        f"{len(videos)} videos ({', '.join(video.name for video in videos)}), at most {frames} frames each"
    )
    layer = f"its layer `{own.layer}` unless the row says otherwise"
    return "\n".join([
        f"# One change at a time to mask tracking: J in percent, profile `{experiment.profile}`, tune videos",
        "",
        f"{shown}; none of them is among those to report.",
        f"Network: `{run.name}`, {layer}, {len(networks)} seeds. Lab colour is matched the same way.",
        "",
        "| change | network | each seed | Lab colour |",
        "|---|---|---|---|",
        *lines,
        "",
    ])  # fmt: skip


def row_of(
    name: str,
    tracking: TrackingSettings,
    videos: list[Head],
    networks: list[Features],
    layers: tuple[str, ...],
) -> str:
    """A row of the table: the seeds' mean, each seed, and plain colour."""
    lab, *ours = (
        score(videos, features_tracker(features, tracking, layers, ROWS[name][0]), tracking)
        for features in (BaselineFeatures("lab"), *networks)
    )
    seeds = " ".join(f"{value:.1f}" for value in ours)
    return f"| {name} | {np.mean(ours):.1f} | {seeds} | {shown_colour(ROWS[name][1], lab)} |"


def changed(settings: TrackingSettings, row: dict[str, Any]) -> TrackingSettings:
    """A row's settings."""
    file = "benchmarks/tracking_ablation.py"
    return validated(TrackingSettings, overridden(settings.model_dump(), row, file), file)


def shown_colour(row: dict[str, Any], score: float) -> str:
    """Colour has one layer: where only the network's changes, there is nothing to compare."""
    return "-" if set(row) <= {"layer", "lab_share"} and row else f"{score:.1f}"


def features_tracker(
    features: Features, settings: TrackingSettings, layers: tuple[str, ...], column: str
) -> Tracker:
    return feature_tracker(reading(features, settings, layers), getattr(settings, column))


def score(videos: list[Head], tracker: Tracker, settings: TrackingSettings) -> float:
    """Mean J over all objects of all videos, in percent: `evaluate_tracking` without F, which takes most of
    its time."""
    return 100 * float(np.mean([j for video in videos for j in _object_j(video, tracker(video, settings))]))


def _object_j(video: Head, masks: list[np.ndarray]) -> list[float]:
    truth = [video.mask(t) for t in range(len(video))]
    pairs = list(zip(truth, masks, strict=True))[1:-1]  # the first and the last frame are not scored
    return [
        float(np.mean([region_similarity(true == k, found == k) for true, found in pairs]))
        for k in object_ids(truth[0])
    ]


def through_cells(video: Head, settings: TrackingSettings) -> list[np.ndarray]:
    """The truth as the grid can show it, by area and back: what no matching can pass by much."""
    masks = []
    for t in range(len(video)):
        truth = torch.from_numpy(one_hot(video.mask(t)))[None].float()
        sides = video.frame(t, round(settings.short_side * settings.finer)).shape[:2]
        cells = F.interpolate(truth, size=[-(-side // STRIDES["embedding"]) for side in sides], mode="area")
        whole = F.interpolate(cells, size=truth.shape[2:], mode="bilinear", align_corners=False)[0]
        masks.append(whole.argmax(0).numpy().astype(np.uint8))
    return masks


if __name__ == "__main__":
    main()
