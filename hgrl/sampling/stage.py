"""How well each unit of d_T tells one object from another: the numbers behind `height_unit` (notebook 02)."""

from __future__ import annotations

import time

import numpy as np
import torch

from hgrl.core.progress import bar
from hgrl.core.settings import load_settings
from hgrl.data.samples import VOID
from hgrl.data.sources import data_root, open_samples
from hgrl.grouping.group import region_tree
from hgrl.grouping.region_tree import RegionTree
from hgrl.pretraining.stage import auto_height_scale, write_results
from hgrl.sampling.pixels import in_height_unit, negative_probability, positive_probability

UNITS = {"raw": "raw", "times 10": 10.0, "rank": "rank", "auto": "auto"}
RANK_SIGMA = 0.08  # ranks are in [0, 1] whatever the image: the paper's 0.8 would not discriminate


def compare_height_units(profile: str, images: int) -> dict[str, dict[str, float]]:
    """For each unit: the median P(self), and the shares of positives and negatives drawn from the anchor's
    own true class.

    Measured on the first `images` labelled training images, with trees made here; never used for training.
    Shares are of probability, not of draws: exact. Writes results/<profile>/sampling/height_units.json.
    """
    settings, started = load_settings(profile), time.monotonic()
    samples = open_samples(settings.data.probe_train, data_root(settings))
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in UNITS}
    for index in bar(range(min(images, len(samples))), desc="height units"):
        _, tree = region_tree(samples.image(index), settings.grouping)
        classes = region_classes(tree, samples.mask(index), len(samples.classes))
        for name, unit in UNITS.items():
            sigma_p = RANK_SIGMA if unit == "rank" else settings.sampling.sigma_p
            scaled = in_height_unit(tree, unit, auto_height_scale(profile))
            found[name].extend(_rows(scaled, classes, sigma_p))
    columns = ("p_self_median", "positives_same_class", "negatives_same_class")
    report = {name: dict(zip(columns, _summary(np.array(rows)), strict=True)) for name, rows in found.items()}
    write_results(
        profile,
        "sampling",
        "height_units",
        {"units": report},
        settings.sampling.model_dump(mode="json"),
        started,
    )
    return report


def region_classes(tree: RegionTree, mask: np.ndarray, classes: int) -> np.ndarray:
    """(R, classes) float: the share of each class among a region's scored pixels; zeros where all are void."""
    scored = mask != VOID
    pairs = tree.labels[scored].astype(np.int64) * classes + mask[scored]
    counts = np.bincount(pairs, minlength=(len(tree.heights) + 1) * classes).reshape(-1, classes)
    return counts / np.maximum(counts.sum(1, keepdims=True), 1)


def _rows(tree: RegionTree, classes: np.ndarray, sigma_p: float) -> list[tuple[float, float, float]]:
    """(P(self), share of positives of the same class, share of negatives of the same class) of each region as
    the anchor's.
    """
    distances = torch.from_numpy(tree.distances())
    present = torch.ones(len(distances), dtype=torch.bool)
    positive = positive_probability(distances, sigma_p, present).numpy()
    negative = negative_probability(distances, sigma_p, present).numpy()
    # the chance that a random pixel of one region has the class of a random pixel of the other
    same = classes @ classes.T
    return list(zip(positive.diagonal(), (positive * same).sum(1), (negative * same).sum(1), strict=True))


def _summary(rows: np.ndarray) -> tuple[float, float, float]:
    return float(np.median(rows[:, 0])), float(rows[:, 1].mean()), float(rows[:, 2].mean())
