"""The precision-recall curve of the BSDS500 benchmark, with iso-F curves and the human point as usual."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from hgrl.core import files, paths
from hgrl.metrics.bsds import f_measure

Curve = tuple[Sequence[float], Sequence[float]]  # recall and precision at each threshold
HUMAN = (0.7235, 0.9014)  # of a human against the others on BSDS500, as in Dollar's edgesEvalPlot, F = .80
GREEN = "#2ca02c"
NAMES = {  # what the rows of results/bsds500 are called where people read them
    "se": "edges, sharpened, one scale",
    "se_multiscale": "edges, sharpened, three scales",
    "hed": "HED edges, narrow, from scratch",
    "ucm_fast": "contour map, `fast`",
    "ucm_best": "contour map, `best`",
    "ucm_hed": "contour map over HED edges",
}


def committed_curves() -> dict[str, Curve]:
    """The curves that `benchmarks/bsds500.py` wrote, on the 200 test images, by `NAMES`; {} without them."""
    path = paths.HOME / "results" / "bsds500" / "curves.json"
    curves = files.read_json(path) if path.exists() else {}
    called = {name: NAMES.get(name, name).replace("`", "") for name in curves}  # which is Markdown
    return {called[name]: (curve["recall"], curve["precision"]) for name, curve in curves.items()}


def precision_recall_figure(curves: Mapping[str, Curve]) -> Figure:
    """One line per method, and the best F along it in the legend, the best method first."""
    curves = {name: tuple(map(np.asarray, curve)) for name, curve in curves.items()}
    figure = Figure(figsize=(9.5, 5.6), layout="constrained")
    axes = figure.subplots()
    for f in np.arange(0.1, 0.95, 0.1):
        recall = np.geomspace(f / (2 - f), 1, 200)  # where the precision is 1, and where the recall is
        axes.plot(recall, f * recall / (2 * recall - f), color=GREEN, lw=0.8, alpha=0.6)
        axes.text(1.01, f / (2 - f), f"{f:.1f}", color=GREEN, fontsize=8, va="center")
    axes.plot(*HUMAN, "o", color="darkgreen", ms=8, label=f"[F={f_measure(*map(np.array, HUMAN)):.2f}] human")
    for name, (recall, precision) in sorted(curves.items(), key=lambda item: -f_measure(*item[1]).max()):
        f, shown = f_measure(recall, precision), recall >= 0.01
        # dashed: a reference, not a result of ours
        style = {"ls": "--", "color": "black", "lw": 1.5} if "official" in name else {"lw": 2.5}
        axes.plot(recall[shown], precision[shown], label=f"[F={f.max():.2f}] {name}", **style)
        axes.plot(recall[f.argmax()], precision[f.argmax()], "k.", ms=6)
    ticks = np.arange(0, 1.01, 0.1)
    axes.set(xlabel="recall", xlim=(0, 1), xticks=ticks, aspect="equal")
    axes.set(ylabel="precision", ylim=(0, 1), yticks=ticks)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right center", frameon=False)
    return figure
