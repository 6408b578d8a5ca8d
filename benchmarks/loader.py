"""How many images per second the loader makes ready, and how many cores keep up with a training step.

    python benchmarks/loader.py [--profile paper]

An image is a JPEG and its tree, read from disk, and two augmented views of both. The photographs are
scikit-image's at VOC's size (500x375), or at the profile's own where it has drawn scenes; their trees are
grown here.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from figures import RATES, figure, threads
from photographs import SKIMAGE, TREE_SIZE, skimage_files, write_resized

from hgrl.core.experiment import load_experiment
from hgrl.core.loading import grouping_preset
from hgrl.core.settings import Settings
from hgrl.data.samples import Samples
from hgrl.data.sets.folder import open_folder
from hgrl.grouping.group import group_images
from hgrl.sampling.order import EpochOrder
from hgrl.sampling.views import TrainingViews, batches

ROUNDS, EPOCHS = 3, 8  # repeats, and how often each photograph is read in one
WORKERS = 2
BATCH = 5


def made_photographs(home: Path, settings: Settings) -> tuple[Samples, Path]:
    """Five JPEGs and their trees."""
    scenes = settings.data.scenes
    size = (scenes.size, scenes.size) if scenes else TREE_SIZE
    photos, trees = home / "photos", home / "trees"
    photos.mkdir()
    for file in skimage_files(SKIMAGE):
        write_resized(file, photos / f"{file.stem}.jpg", size)
    samples = open_folder([photos])
    failures = group_images(samples, trees, settings.grouping if scenes else grouping_preset("fast"))
    assert not failures, failures
    return samples, trees


def core_rate(samples: Samples, trees: Path, settings: Settings, rounds: int = ROUNDS) -> float:
    """Images per second in this process, on one core: the median of the rounds."""
    views = TrainingViews(samples, trees, settings, 0, 1.0)
    with threads(1):
        _rate(views, 0, 1, 0)  # fills the caches
        return float(np.median([_rate(views, 0, EPOCHS, 0) for _ in range(rounds)]))


def worker_rate(
    samples: Samples, trees: Path, settings: Settings, workers: int = WORKERS, epochs: int = 80
) -> float:
    """Images per second of worker processes, once they run: the first tenth is not counted."""
    return _rate(TrainingViews(samples, trees, settings, 0, 1.0), workers, epochs, epochs // 10 + 1)


def _rate(views: TrainingViews, workers: int, epochs: int, skipped: int) -> float:
    """Images per second after the first `skipped` batches; an epoch is one batch."""
    started, order = time.perf_counter(), EpochOrder(len(views), min(BATCH, len(views)), epochs, 0)
    for number, _ in enumerate(batches(views, order, workers, torch.device("cpu")), 1):
        if number == skipped:
            started = time.perf_counter()
    return (order.total - skipped) * order.batch / (time.perf_counter() - started)


def as_figures(one_core: float, workers: float, rounds: int) -> dict[str, dict[str, Any]]:
    what, n = "two 224 px views of each photograph of 500x375 and its tree", rounds * EPOCHS * len(SKIMAGE)
    return {
        "loader.images_per_second": figure(
            workers, "images/s", f"{WORKERS} worker processes, once they run; {what}", 72 * len(SKIMAGE)
        ),
        "loader.images_per_second_one_core": figure(one_core, "images/s", f"one core; {what}", n),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--profile", default="paper")
    settings = load_experiment(parser.parse_args().profile).settings
    with tempfile.TemporaryDirectory() as name:
        made = made_photographs(Path(name), settings)
        one_core = core_rate(*made, settings)
        of_workers = f"{worker_rate(*made, settings):.1f} images/s ({os.cpu_count()} cores here)"
        print(f"one core: {one_core:.1f} images/s; {WORKERS} workers: {of_workers}")
    for rate in RATES:
        step = f"a step that takes {rate:5} images/s (70 in {70 / rate:.3f} s)"
        print(f"{step} needs {rate / one_core:6.1f} cores")


if __name__ == "__main__":
    main()
