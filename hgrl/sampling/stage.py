"""How well each unit of d_T tells one object from another: the numbers behind `height_unit` (notebook 02)."""

import time

import numpy as np
import torch

from hgrl.core.experiment import Experiment
from hgrl.core.progress import bar
from hgrl.core.results import write_results
from hgrl.data.samples import VOID
from hgrl.data.sources import open_samples
from hgrl.grouping.group import region_tree
from hgrl.grouping.region_tree import RegionTree
from hgrl.grouping.stage import auto_height_scale
from hgrl.sampling.heights import in_height_unit
from hgrl.sampling.pixels import negative_probability, positive_probability

UNITS = {"raw": "raw", "times 10": 10.0, "rank": "rank", "auto": "auto"}
RANK_SIGMA = 0.08  # ranks are in [0, 1] whatever the image: the paper's 0.8 would not discriminate
COLUMNS = ("p_self_median", "positives_same_class", "negatives_same_class")


def compare_height_units(experiment: Experiment, images: int) -> dict[str, dict[str, float]]:
    """For each unit the median P(self), and the probabilities that positives and negatives have the anchor's
    true class, in [0, 1], on the first `images` labelled training images: also written as a result."""
    settings, started = experiment.settings, time.monotonic()
    samples = open_samples(settings.data.primary.train, experiment.data_root)
    scale = auto_height_scale(experiment)
    found: dict[str, list[np.ndarray]] = {name: [] for name in UNITS}
    for index in bar(range(min(images, len(samples))), desc="height units"):
        _, tree = region_tree(samples.image(index), settings.grouping)
        classes = region_classes(tree, samples.mask(index), len(samples.classes))
        for name, unit in UNITS.items():
            sigma_p = RANK_SIGMA if unit == "rank" else settings.sampling.sigma_p
            found[name].append(_rows(in_height_unit(tree, unit, scale), classes, sigma_p))
    units = {}
    for name, rows in found.items():
        selves, positives, negatives = np.concatenate(rows).T
        values = np.median(selves), positives.mean(), negatives.mean()
        units[name] = dict(zip(COLUMNS, map(float, values), strict=True))
    used = settings.sampling.model_dump(mode="json")
    write_results(experiment, "sampling", "height_units", {"units": units}, used, started)
    return units


def region_classes(tree: RegionTree, mask: np.ndarray, classes: int) -> np.ndarray:
    """(R, classes) float: the fraction of a region's scored pixels in each class; zeros if all are void."""
    scored = mask != VOID
    pairs = tree.labels[scored].astype(np.int64) * classes + mask[scored]
    counts = np.bincount(pairs, minlength=tree.regions * classes).reshape(-1, classes)
    return counts / np.maximum(counts.sum(1, keepdims=True), 1)


def _rows(tree: RegionTree, classes: np.ndarray, sigma_p: float) -> np.ndarray:
    """(R, 3): `COLUMNS` with each region as the anchor's, P(self) not yet a median."""
    distances = torch.from_numpy(tree.distances())
    present = torch.ones(len(distances), dtype=torch.bool)
    positive = positive_probability(distances, sigma_p, present).numpy()
    negative = negative_probability(distances, sigma_p, present).numpy()
    # the chance that a random pixel of one region has the class of a random pixel of the other
    same = classes @ classes.T
    return np.column_stack([positive.diagonal(), (positive * same).sum(1), (negative * same).sum(1)])
