"""A bar a run, a dot a seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure


def score_bars(scores: Mapping[str, Mapping[str, Sequence[float]]], label: str) -> Figure:
    """Horizontal bars: {column: {run: one score in [0, 1] a seed}}; bars are means in percent, dots the seeds."""
    runs = list(dict.fromkeys(run for column in scores.values() for run in column))
    figure = Figure(figsize=(7, 0.6 + 0.28 * len(runs) * len(scores)), layout="constrained")
    axes, height = figure.subplots(), 0.8 / len(scores)
    for c, (column, values) in enumerate(scores.items()):
        for r, run in enumerate(runs):
            if run not in values:
                continue
            y, percent = r + (c - (len(scores) - 1) / 2) * height, 100 * np.array(values[run])
            axes.barh(y, percent.mean(), height * 0.9, color=f"C{c}", alpha=0.6, label=column if run == next(iter(values)) else None)
            axes.plot(percent, np.full(len(percent), y), "k.", ms=3)
    axes.set(yticks=range(len(runs)), yticklabels=runs, xlabel=label, xlim=(0, None))
    axes.invert_yaxis()
    if len(scores) > 1:
        axes.legend(frameon=False)
    return figure
