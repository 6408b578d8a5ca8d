"""The verdicts on the paper's claims as one picture."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from hgrl.reporting.claims import BETTER, FAILS, HOLDS, UNDECIDED, WITH_MARGIN

STYLES = {  # verdict -> marker and colour: apart without colours too
    HOLDS: ("o", "#0072B2"),
    BETTER: ("^", "#009E73"),
    FAILS: ("X", "#D55E00"),
    UNDECIDED: ("s", "0.55"),
}


def verdict_picture(entries: Sequence[dict[str, Any]]) -> Figure:
    """Each claim's difference in points with its 95 % interval, marked by its verdict.

    A grey bar is the margin of a claim to match. A claim without figures has its name alone."""
    figure = Figure(figsize=(9, 1.2 + 0.3 * len(entries)), layout="constrained")
    axes = figure.subplots()
    for y, entry in enumerate(entries):
        if entry["difference"] is None:
            axes.text(0, y, " not run here", va="center", fontsize=7, color=STYLES[UNDECIDED][1])
            continue
        marker, colour = STYLES[entry["verdict"]]
        if entry["kind"] in WITH_MARGIN and entry["margin"] is not None:
            right = entry["margin"] if entry["kind"] == "matches" else 0
            axes.barh(y, right + entry["margin"], left=-entry["margin"], height=0.7, color="0.9")
        axes.plot(entry["interval_95"], [y, y], color=colour)
        label = entry["verdict"] if entry["verdict"] not in axes.get_legend_handles_labels()[1] else None
        axes.plot(entry["difference"], y, marker, color=colour, label=label, linestyle="")
    axes.axvline(0, color="0.4", linewidth=1)
    names = [f"{entry['id']}  {entry['claim']}" for entry in entries]
    axes.set_yticks(range(len(entries)), names, fontsize=8)
    axes.set(ylim=(len(entries) - 0.4, -0.6), xlabel="ours - theirs, points of mIoU, with the 95 % interval")
    figure.legend(frameon=False, loc="outside upper right", ncols=4)
    return figure
