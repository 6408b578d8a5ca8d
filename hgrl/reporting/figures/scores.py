"""Scores and losses of runs as bars, curves and grids of numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.ndimage import uniform_filter1d

from hgrl.data.scenes.objects import MANY, SINGLE

SPLITS = {SINGLE: "one object", MANY: "5 to 7 objects"}
LEAST_SPAN = 5.0  # points of mIoU from a heat map's darkest colour to its brightest
METHODS = ("ours", "moco", "instfeat")  # their runs on these splits are <method>-<split>
Scores = Mapping[str, Mapping[str, Sequence[float]]]  # {group: {run: a score in [0, 1] per seed}}
WINDOW = 9  # points of a loss curve that its centred mean takes together
Labelled = tuple[str, Sequence[Any]]  # an axis: its name, and the value of each row or column


def of_set(scores: Mapping[str, Mapping[Any, Mapping[str, Any]]], labelled: str) -> dict[str, dict[Any, Any]]:
    """{run: {seed: scores}} on one labelled set, of {run: {seed: {set: scores}}}: of runs that have it."""
    found = {run: {seed: own.get(labelled) for seed, own in seeds.items()} for run, seeds in scores.items()}
    return {run: seeds for run, seeds in found.items() if all(seeds.values())}


def probe_scores(scores: Mapping[str, Mapping[Any, Mapping[str, Any]]], head: str) -> Scores:
    """{head: {run: mIoU per seed}} of {run: {seed: {head: scores}}}; runs without it go by their first."""
    groups: dict[str, dict[str, list[float]]] = {head: {}}
    for run, seeds in scores.items():
        heads = list(next(iter(seeds.values())))
        read = head if head in heads else heads[0]
        groups.setdefault(read, {})[run] = [seed[read]["miou"] for seed in seeds.values()]
    return {name: runs for name, runs in groups.items() if runs}


def object_scores(scores: Mapping[str, Mapping[Any, Mapping[str, Any]]], head: str) -> Scores:
    """{number of objects: {method: mIoU per seed}} of {run: {seed: {head: scores}}}; empty without any."""
    groups: dict[str, dict[str, list[float]]] = {title: {} for title in SPLITS.values()}
    for method in METHODS:
        for split, title in SPLITS.items():
            seeds = scores.get(f"{method}-{split}", {}).values()
            if values := [seed[head]["miou"] for seed in seeds if head in seed]:
                groups[title][method] = values
    return {title: runs for title, runs in groups.items() if runs}


def score_bars(scores: Scores, label: str, best_first: bool = False) -> Figure:
    """Horizontal bars of means in percent, a dot per seed, a bar per run and group.

    The legend names the groups, unless "" is the only one. best_first: runs by their mean, not in order."""
    groups = list(scores)
    runs = list(dict.fromkeys(run for group in groups for run in scores[group]))
    if best_first:
        runs.sort(key=lambda run: -np.mean([np.mean(bars[run]) for bars in scores.values() if run in bars]))
    figure, axes = _chart(7, 0.6 + 0.28 * sum(map(len, scores.values())))
    for k, (group, bars) in enumerate(scores.items()):
        for run, values in bars.items():
            own, percent = [name for name in groups if run in scores[name]], 100 * np.array(values)
            height, name = 0.8 / len(own), group if run == next(iter(bars)) else None
            y = runs.index(run) + (own.index(group) - (len(own) - 1) / 2) * height
            axes.barh(y, percent.mean(), height * 0.9, color=f"C{k}", alpha=0.6, label=name)
            axes.plot(percent, np.full(len(percent), y), "k.", ms=3)
    axes.set(yticks=range(len(runs)), yticklabels=runs, xlabel=label, xlim=(0, None))
    axes.set_ylim(len(runs) - 0.4, -0.6)  # the first run on top
    if groups != [""]:
        figure.legend(frameon=False, loc="outside upper center", ncols=len(scores))
    return figure


def loss_curves(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]], switches: Mapping[float, str] | None = None
) -> Figure:
    """(steps, losses) of each named run, and in front their centred mean over `WINDOW` of the points.

    switches: step -> what changes there, as "cns 5 to 20"; marked by a dashed line."""
    figure, axes = _chart(7, 3.2)
    draw_losses(axes, curves, switches or {})
    axes.set(xlabel="step", ylabel="loss")
    figure.legend(frameon=False, loc="outside right upper")
    return figure


def draw_losses(
    axes: Axes, curves: Mapping[str, tuple[np.ndarray, np.ndarray]], switches: Mapping[float, str]
) -> None:
    """What `loss_curves` draws, into axes that are there."""
    for k, (name, (steps, losses)) in enumerate(curves.items()):
        axes.plot(steps, losses, color=f"C{k}", alpha=0.25, linewidth=0.8)
        for part in np.split(np.arange(len(steps)), np.searchsorted(steps, sorted(switches), side="right")):
            if len(part):  # a mean across a switch would show no jump
                mean = uniform_filter1d(losses[part].astype(float), min(WINDOW, len(part)), mode="nearest")
                axes.plot(steps[part], mean, color=f"C{k}", label=name if part[0] == 0 else None)
    for step, said in switches.items():
        axes.axvline(step, color="0.4", linestyle="--", linewidth=1)
        place = {"xytext": (4, -4), "textcoords": "offset points", "va": "top"}
        axes.annotate(said, (step, 1), xycoords=("data", "axes fraction"), color="0.4", fontsize=8, **place)


def convergence_curves(curves: Mapping[str, Mapping[str, Any]]) -> Figure:
    """mIoU over epochs per run (`hgrl.evaluation.convergence`): mean, band of one deviation, dots per seed.

    The y axis names the probe. Raises ValueError where the runs do not share one."""
    ((head, iterations),) = {(curve["head"], curve["iterations"]) for curve in curves.values()}
    figure, axes = _chart(7, 3.6)
    for k, (run, curve) in enumerate(curves.items()):
        epochs, (mean, std) = curve["epochs"], 100 * np.array([curve["miou_mean"], curve["miou_std"]])
        axes.plot(epochs, mean, color=f"C{k}", label=run)
        axes.fill_between(epochs, mean - std, mean + std, color=f"C{k}", alpha=0.15, linewidth=0)
        axes.plot(epochs, 100 * np.array(list(curve["seeds"].values())).T, ".", color=f"C{k}", ms=3)
    label = f"mIoU, percent\n({head}, {iterations:,} iterations)"
    axes.set(xlabel="epochs of pretraining", ylabel=label, xlim=(0, None))
    figure.legend(frameon=False, loc="outside right upper")
    return figure


def heat_map(
    values: np.ndarray, deviations: np.ndarray, rows: Labelled, columns: Labelled, label: str
) -> Figure:
    """A grid of percentages, each with its deviation written in its cell; nan: no cell, or no deviation.

    Colours are perceptually even and span `LEAST_SPAN` points at least: a small difference looks small."""
    figure, axes = _chart(2 + 1.1 * len(columns[1]), 1 + 0.7 * len(rows[1]))
    low, high = np.nanmin(values), np.nanmax(values)
    rest = max(0, LEAST_SPAN - (high - low)) / 2
    shown = axes.imshow(values, cmap="viridis", aspect="auto", vmin=low - rest, vmax=high + rest)
    for (y, x), value in np.ndenumerate(values):
        if not np.isfinite(value):
            axes.text(x, y, "not made", ha="center", va="center", color="0.6")
        else:
            deviation = f"\n± {deviations[y, x]:.1f}" if np.isfinite(deviations[y, x]) else ""
            colour = "white" if value < (low + high) / 2 else "black"
            axes.text(x, y, f"{value:.1f}{deviation}", ha="center", va="center", color=colour)
    axes.set(xlabel=columns[0], xticks=range(len(columns[1])), xticklabels=columns[1])
    axes.set(ylabel=rows[0], yticks=range(len(rows[1])), yticklabels=rows[1])
    figure.colorbar(shown, ax=axes, label=label)
    return figure


def change_bars(results: Mapping[str, Mapping[str, Any]], base: str = "base") -> Figure:
    """How far each change of {name: {"seeds": {seed: mIoU}}} moves the base: a dot per seed, in pairs."""
    changed = [name for name in results if name != base]
    figure, axes = _chart(7, 0.8 + 0.32 * len(changed))
    for y, name in enumerate(changed):
        seeds, own = results[base]["seeds"], results[name]["seeds"]
        points = 100 * np.array([own[seed] - seeds[seed] for seed in own if seed in seeds])
        axes.barh(y, points.mean(), 0.7, color="C0", alpha=0.6)
        axes.plot(points, np.full(len(points), y), "k.", ms=5)
    axes.axvline(0, color="0.4", linewidth=1)
    axes.set(yticks=range(len(changed)), yticklabels=[name.replace("-", " ") for name in changed])
    axes.set(xlabel="points of mIoU above the unchanged settings", ylim=(len(changed) - 0.4, -0.6))
    return figure


def _chart(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()
