"""Scores of runs: a bar a run with a dot a seed; a curve a run over its epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from hgrl.reporting.figures.pictures import CHART


def score_bars(scores: Mapping[str, Mapping[str, Sequence[float]]], label: str) -> Figure:
    """Horizontal bars: {column: {run: one score in [0, 1] a seed}}; bars are means in percent, dots the
    seeds.
    """
    runs = list(dict.fromkeys(run for column in scores.values() for run in column))
    figure = Figure(figsize=(7, 0.6 + 0.28 * len(runs) * len(scores)), layout="constrained")
    axes, height = figure.subplots(), 0.8 / len(scores)
    for c, (column, values) in enumerate(scores.items()):
        for r, run in enumerate(runs):
            if run not in values:
                continue
            y, percent = r + (c - (len(scores) - 1) / 2) * height, 100 * np.array(values[run])
            axes.barh(
                y,
                percent.mean(),
                height * 0.9,
                color=f"C{c}",
                alpha=0.6,
                label=column if run == next(iter(values)) else None,
            )
            axes.plot(percent, np.full(len(percent), y), "k.", ms=3)
    axes.set(yticks=range(len(runs)), yticklabels=runs, xlabel=label, xlim=(0, None))
    axes.set_ylim(len(runs) - 0.4, -0.6)  # the first run on top
    if len(scores) > 1:
        figure.legend(frameon=False, loc="outside upper center", ncols=len(scores))
    return figure


def convergence_curves(curves: Mapping[str, Mapping[str, Any]]) -> Figure:
    """mIoU over epochs of each run (`hgrl.evaluation.convergence.trace`): a line through the means, a band of
    one deviation, a dot a seed.

    The y axis says by which probe: all runs must share it. Raises ValueError where they do not.
    """
    protocols = {(curve["head"], curve["iterations"]) for curve in curves.values()}
    ((head, iterations),) = protocols
    figure = Figure(figsize=(7, 3.6), layout="constrained", label=CHART)
    axes = figure.subplots()
    for k, (run, curve) in enumerate(curves.items()):
        epochs, mean, std = (np.array(curve[key]) for key in ("epochs", "miou_mean", "miou_std"))
        axes.plot(epochs, 100 * mean, color=f"C{k}", label=run)
        axes.fill_between(
            epochs, 100 * (mean - std), 100 * (mean + std), color=f"C{k}", alpha=0.15, linewidth=0
        )
        for seed in curve["seeds"].values():
            axes.plot(epochs, 100 * np.array(seed), ".", color=f"C{k}", ms=3)
    axes.set(
        xlabel="epochs of pretraining",
        ylabel=f"mIoU, percent\n({head}, {iterations:,} iterations)",
        xlim=(0, None),
    )
    axes.legend(frameon=False)
    return figure
