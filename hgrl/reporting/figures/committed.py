"""Results that are read, not made: what notebooks draw before anything is scored here."""

from collections.abc import Callable
from typing import Any

from hgrl.core.experiment import Experiment, load_experiment
from hgrl.core.results import read_extras, read_results
from hgrl.evaluation.tracking import COLUMNS

ALWAYS_THERE = "mini"  # the profile whose results come with the repository
Found = tuple[dict[str, Any], Experiment]


def committed(
    experiment: Experiment, stage: str, read: Callable[[Experiment, str], Any] = read_results
) -> Found:
    """What `read` finds of a stage in this profile, else in `mini`, and the experiment that it is of.

    Says in one line where the figures come from."""
    other = load_experiment(ALWAYS_THERE)
    for source in (experiment, other):
        if found := read(source, stage):
            lacking = "" if source is experiment else f", for {experiment.profile} has none yet"
            print(f"{stage}: as it stands in results/{source.profile}{lacking}")
            return found, source
    print(f"{stage}: no results yet, neither of {experiment.profile} nor of {ALWAYS_THERE}")
    return {}, experiment


def extras_or_cells(experiment: Experiment, stage: str) -> dict[str, Any]:
    """What the extras published of a stage, or else its single results."""
    return read_extras(experiment, stage) or read_results(experiment, stage)


def committed_scores(experiment: Experiment, stage: str, runs: str = "all") -> Found:
    """{run: {seed: scores}} as `evaluate` gives it, of those `runs` (a,b,c) that have scores."""
    found, source = committed(experiment, stage, _of_this_layout)
    wanted = list(found) if runs == "all" else [run.strip() for run in runs.split(",")]
    if lacking := [run for run in wanted if run not in found]:
        print(f"{stage}: not scored in {source.profile}: {', '.join(lacking)}")
    return {run: found[run]["seeds"] for run in wanted if run in found}, source


def _of_this_layout(experiment: Experiment, stage: str) -> dict[str, Any]:
    """Results by labelled set, or of tracking by column; older ones, which had neither, are left out."""
    parts = {*(COLUMNS if stage == "tracking" else experiment.settings.data.labelled)}
    results = read_results(experiment, stage).items()
    return {
        run: content for run, content in results if all(parts & {*own} for own in content["seeds"].values())
    }
