"""Table 1 as pictures: scores by group beside the paper's, and class maps of a few runs."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hgrl.core import paths
from hgrl.core.experiment import Experiment
from hgrl.core.labels import VOID
from hgrl.core.loading import load_yaml
from hgrl.core.results import read_results
from hgrl.data.images import read_mask
from hgrl.data.sources import open_labelled
from hgrl.evaluation.features import BASELINES
from hgrl.evaluation.networks import UNTRAINED
from hgrl.evaluation.probe import predict, train_probe
from hgrl.evaluation.shipped import features_to_show, shipped_file
from hgrl.reporting.figures.committed import committed
from hgrl.reporting.figures.names import ROWS, run_names
from hgrl.reporting.figures.scores import Scores, of_set

FROZEN, END_TO_END, NOTHING = "frozen", "end to end", "nothing learnt"
SHOWN = ("random", "lab-position", "moco", "instfeat", "ours-cns5-20", "random-e2e")  # of 33 rows
SAMPLE, ITERATIONS = 800, 500  # images and steps of a head that is trained for a picture
ByRun = dict[str, dict[str, dict[str, Any]]]


def scores_to_show(experiment: Experiment) -> tuple[ByRun, Experiment]:
    """{run: {seed: {head: scores}}} on the primary set, the extras' among them, of this profile or of `mini`;
    and the experiment that they are of."""
    found, source = committed(experiment, "probe")
    labelled, by_run = next(iter(source.settings.data.labelled)), {}
    for results in (found, read_results(source, f"{paths.EXTRAS}/probe")):
        scored = of_set({run: result["seeds"] for run, result in results.items()}, labelled)
        for run, seeds in scored.items():  # of a run in both, the extras have further heads
            known = by_run.setdefault(run, {})
            known.update({seed: heads | known.get(seed, {}) for seed, heads in seeds.items()})
    return by_run, source


def paper_miou() -> dict[str, float]:
    """{run: the mIoU in percent that the paper gives its row}; stand-ins have their row's."""
    found: dict[str, float] = {}
    table = load_yaml(ROWS)["table1"]
    for row in (*table["paper"], *table["extra"]):
        for run in (row["run"], row.get("stand_in")):
            if run is not None and "paper_miou" in row:
                found.setdefault(run, row["paper_miou"])
    return found


def by_group(scores: Mapping[str, Sequence[float]], experiment: Experiment) -> Scores:
    """{group: {run: mIoU of each seed}}, a group's best run first: frozen, end to end, nothing learnt."""
    groups: dict[str, dict[str, Sequence[float]]] = {FROZEN: {}, END_TO_END: {}, NOTHING: {}}
    for run in sorted(scores, key=lambda run: -np.mean(scores[run])):
        definition = experiment.definition(run)
        learnt = FROZEN if definition.method not in (UNTRAINED, *BASELINES) else NOTHING
        groups[END_TO_END if definition.end_to_end else learnt][run] = scores[run]
    return {title: runs for title, runs in groups.items() if runs}


def agreeing_pairs(ours: Mapping[str, float], theirs: Mapping[str, float]) -> tuple[int, int]:
    """(Pairs of runs that both lists order alike, pairs in all), of the runs that both have."""
    common = [run for run in ours if run in theirs]
    pairs = [(a, b) for k, a in enumerate(common) for b in common[:k] if theirs[a] != theirs[b]]
    return sum(bool(ours[a] > ours[b]) == (theirs[a] > theirs[b]) for a, b in pairs), len(pairs)


def table_chart(groups: Scores, paper: Mapping[str, float]) -> Figure:
    """Bars of our mIoU in percent, a dot per seed, group by group; beside them the paper's of the same rows.

    Both number the rows of a group that the paper has too by their rank, so that the orders compare."""
    names, rows = run_names("table1"), sum(len(runs) + 1 for runs in groups.values())
    figure = Figure(figsize=(9, 0.6 + 0.24 * rows), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    y, ticks = 0, {}
    for k, (title, runs) in enumerate(groups.items()):
        left.text(0, y, title, weight="bold", va="center", fontsize=9)
        ours = {run: 100 * float(np.mean(values)) for run, values in runs.items()}
        both = {run: paper[run] for run in runs if run in paper}
        place = {run: y + 1 + n for n, run in enumerate(runs)}
        _ranked_bars(left, place, ours, both, f"C{k}")
        _ranked_bars(right, place, both, both, "0.6")
        for run, values in runs.items():
            left.plot(100 * np.array(values), np.full(len(values), place[run]), "k.", ms=3)
        ticks |= {row: names[run] for run, row in place.items()}
        y += len(runs) + 1
    left.set_yticks([*ticks], [*ticks.values()], fontsize=8)
    left.set(ylim=(y - 0.4, -0.6), xlim=(0, None), xlabel="mIoU, percent: here")
    right.set(xlim=(0, None), xlabel="mIoU, percent: the paper")
    return figure


def _ranked_bars(
    axes: Axes, place: Mapping[str, int], values: Mapping[str, float], ranked: Iterable[str], colour: str
) -> None:
    axes.barh([place[run] for run in values], [*values.values()], 0.75, color=colour, alpha=0.6)
    for rank, run in enumerate(sorted(ranked, key=lambda run: -values[run]), 1):
        axes.annotate(
            str(rank), (0.01, place[run]), xycoords=("axes fraction", "data"), va="center", fontsize=7
        )


def predictions_to_show(
    experiment: Experiment, runs: Sequence[str], indices: Sequence[int], labelled: str
) -> dict[str, list[np.ndarray]]:
    """{run: class maps (H, W) of images of the reported split}: those that the stage `probe` wrote; of a run
    without them, by a head that learns here, for a shorter time. Runs without a network are left out."""
    shown, files = {}, experiment.files
    for run in map(experiment.run, runs):
        made = [files.prediction(run.name, k, labelled) for k in indices]
        if all(path.exists() for path in made):
            shown[run.name] = [read_mask(path) for path in made]
        elif at_hand(experiment, run.name):
            shown[run.name] = _quick_predictions(experiment, run.name, indices, labelled)
    return shown


def things_named(
    truths: Sequence[np.ndarray], predicted: Sequence[np.ndarray], classes: Sequence[str]
) -> tuple[int, int]:
    """(How many are named right, how many there are) of the classes of each image, background apart.

    Right where most of a class's pixels in an image have it."""
    named = [
        np.bincount(found[truth == k]).argmax() == k
        for truth, found in zip(truths, predicted, strict=True)
        for k in np.unique(truth[truth != VOID])
        if classes[k] != "background"
    ]
    return int(sum(named)), len(named)


def at_hand(experiment: Experiment, name: str) -> bool:
    """Whether `features_to_show` has a frozen run: one that learns nothing, was trained here, or ships."""
    run = experiment.run(name)
    if run.definition.end_to_end:
        return False
    there = (
        experiment.files.checkpoint(run.trained, run.settings.seeds[0]),
        shipped_file(experiment.profile, run.trained),
    )
    return run.method in (UNTRAINED, *BASELINES) or any(path.exists() for path in there)


def _quick_predictions(
    experiment: Experiment, name: str, indices: Sequence[int], labelled: str
) -> list[np.ndarray]:
    run = experiment.run(name)
    probe = run.settings.probe
    train, val = open_labelled(run.settings.data.labelled[labelled], experiment.data_root)
    few = train.subset(np.linspace(0, len(train) - 1, min(SAMPLE, len(train))).astype(int).tolist())
    features = features_to_show(experiment, run, run.settings.seeds[0])
    short = probe.model_copy(update={"heads": (probe.headline,), "iterations": ITERATIONS})
    heads = train_probe(features, few, short, run.settings.seeds[0])
    maps = []
    for k in indices:
        image, size = val.image(k, probe.short_side), val.mask(k).shape
        maps.append(predict(features, heads, image[None], size)[probe.headline][0])
    return maps
