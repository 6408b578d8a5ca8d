"""Scores of the profile `small` of conftest's `pipeline`."""

from conftest import told

from hgrl.core.experiment import load_experiment
from hgrl.evaluation import stage as evaluation


def small():
    return load_experiment("small")


def evaluate(stage, runs="all"):
    """With the profile `small` as its file is now."""
    return evaluation.evaluate(stage, small(), runs)


def line(*args):
    """The one line of the InputError that `evaluate` raises."""
    return told(evaluate, *args)


def score_file(stage, run, seed):
    folder = small().files.artifacts / "scores" / stage / ("" if stage == "tracking" else "scenes")
    return folder / f"{run}-seed{seed}.json"
