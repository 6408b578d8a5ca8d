"""What the number of objects in an image does to a method: the two kinds of scene, and the probe's scores
after each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from hgrl.data.scenes.objects import MANY, SINGLE
from hgrl.reporting.figures.pictures import CHART, grid, label_rows

SPLITS = {SINGLE: "one object", MANY: "5 to 7 objects"}
METHODS = ("ours", "moco", "instfeat")  # runs are <method>-<split>

Scores = dict[str, dict[str, tuple[float, float]]]


def object_examples(images: Mapping[str, Sequence[np.ndarray]]) -> Figure:
    """A row for each of the splits `single` and `many`: {split: images (H, W, 3) uint8}, equally many; a
    column shares all but the objects.
    """
    figure, axes = grid(len(SPLITS), len(images[SINGLE]), 1.5)
    for row, split in zip(axes, SPLITS, strict=True):
        for axis, image in zip(row, images[split], strict=True):
            axis.imshow(image)
    label_rows(axes, list(SPLITS.values()))
    return figure


def object_scores(metrics: Mapping[str, Any], head: str) -> Scores:
    """{method: {split: (mean, deviation)}} of the mIoU in percent, from a profile's `metrics/probe.json`;
    runs without that score are left out.
    """
    found: Scores = {}
    for method in METHODS:
        heads = {split: metrics.get(f"{method}-{split}", {}).get(head) for split in SPLITS}
        scored = {
            split: (100 * row["miou_mean"], 100 * row["miou_std"]) for split, row in heads.items() if row
        }
        found |= {method: scored} if scored else {}
    return found


def object_bars(scores: Scores, label: str) -> Figure:
    """For each method a bar a split, with deviations over the seeds; compare methods within a split, and how
    the order changes.
    """
    figure, axis = plt.subplots(figsize=(1.5 + 1.6 * len(scores), 3.2), layout="constrained")
    figure.set_label(CHART)
    for k, (split, title) in enumerate(SPLITS.items()):
        rows = [(place, method[split]) for place, method in enumerate(scores.values()) if split in method]
        places, values = (
            np.array([place for place, _ in rows]),
            np.array([value for _, value in rows]).reshape(-1, 2),
        )
        bars = axis.bar(
            places + (k - 0.5) * 0.38,
            values[:, 0],
            0.36,
            yerr=values[:, 1],
            ecolor="0.3",
            color=f"C{k}",
            alpha=0.8,
            label=title,
        )
        axis.bar_label(bars, fmt="%.1f", padding=3, fontsize=8)
    axis.set_xticks(range(len(scores)), scores)
    axis.set_ylabel(label)
    axis.margins(y=0.1)
    figure.legend(frameon=False, loc="outside upper center", ncols=len(SPLITS))
    return figure
