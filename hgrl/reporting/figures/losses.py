"""The losses of a run as the stage `pretraining` writes them, for pictures."""

import csv
from pathlib import Path

import numpy as np

from hgrl.core.errors import InputError
from hgrl.core.experiment import Experiment, Run, load_experiment
from hgrl.pretraining.methods import REGISTRY
from hgrl.reporting.figures.committed import ALWAYS_THERE

Curves = dict[str, tuple[np.ndarray, np.ndarray]]  # "seed 0": (steps, losses), up to 100 means over stretches


def losses_to_show(experiment: Experiment, run: Run) -> Curves:
    """Those of this profile, else of `mini`; says whose they are. InputError where neither has any."""
    own, other = (
        one.files.result("pretraining", run.name).with_suffix(".csv")
        for one in (experiment, load_experiment(ALWAYS_THERE))
    )
    path = own if own.exists() else other
    curves = read_losses(path) if path.exists() else {}
    if not curves:  # a run that a profile leaves out has a file without rows
        raise InputError(f"{path}: no losses of run {run.name!r}; choose another, or train it: make = True")
    print(f"losses of {run.name}: as they stand in results/{path.parents[1].name}")
    return curves


def read_losses(path: Path) -> Curves:
    """The curve of every seed in such a CSV."""
    rows = list(csv.DictReader(path.open(encoding="utf-8")))
    curves = {}
    for seed in dict.fromkeys(row["seed"] for row in rows):
        own = [(float(row["step"]), float(row["loss"])) for row in rows if row["seed"] == seed]
        curves[f"seed {seed}"] = tuple(np.array(own).T)
    return curves


def switches_of(run: Run, steps: float) -> dict[float, str]:
    """{step: "cns 5 to 20"} for a schedule of cross-image negatives; empty for all other runs."""
    sampling = run.settings.sampling
    if "sampling" not in REGISTRY[run.method].sections or sampling.cns_reading != "schedule":
        return {}
    return {
        steps * k / len(sampling.cns): f"cns {sampling.cns[k - 1]} to {sampling.cns[k]}"
        for k in range(1, len(sampling.cns))
    }
