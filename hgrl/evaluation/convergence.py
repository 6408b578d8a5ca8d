"""The stage `convergence`: how good a run's features are along its pretraining, one probe per snapshot."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hgrl.core.cache import fingerprint
from hgrl.core.errors import InputError
from hgrl.core.experiment import Experiment, Run
from hgrl.core.files import write_json
from hgrl.core.results import write_results
from hgrl.core.settings import Settings
from hgrl.evaluation import probe
from hgrl.evaluation.scoring import Scoring, code_mark, gather, is_left_out, mean_and_deviation
from hgrl.pretraining.checkpoints import snapshot_file

STAGE = "convergence"


def trace(experiment: Experiment) -> dict[str, dict[str, Any]]:
    """Probe every snapshot of every run that `params.yaml` lists under `extras.convergence`; {run: result}.

    Writes results/<profile>/convergence/<run>.json: `epochs` of the points, `seeds` {seed: one mIoU in [0, 1]
    per point}, `miou_mean` and `miou_std`. Unchanged points are read. Listed runs without any checkpoint are
    left out with a message. Raises InputError for a snapshot that is missing or of another network.
    Not done: annealing. A longer run's point is therefore not what a shorter run ends with."""
    started, code = time.monotonic(), code_mark(probe.__name__)
    runs, reason = [], f"it was not trained in profile {experiment.profile!r}"
    for run in map(experiment.run, experiment.extras(STAGE)):
        trained = any(experiment.files.checkpoints(run.trained).glob("seed*.pt"))
        runs += [] if is_left_out(run, None if trained else reason) else [run]
    points = [(run, *point) for run in runs for point in _points(run)]
    scorings = {(run.name, *point): _scoring(experiment, run, *point, code) for run, *point in points}
    desc = f"{STAGE}: {len(runs)} runs, snapshots to probe"
    scores, results = gather(scorings, experiment.settings.jobs, desc), {}
    for run in runs:
        results[run.name] = _curve(run, [scores[run.name, *point] for point in _points(run)])
        write_results(experiment, STAGE, run.name, results[run.name], _sections(run), started)
    write_json(experiment.files.extras.metrics(STAGE), results)
    return results


def _points(run: Run) -> list[tuple[int, float]]:
    return [(seed, share) for seed in run.settings.seeds for share in run.settings.convergence.shares]


def _scoring(experiment: Experiment, run: Run, seed: int, share: float, code: str) -> Scoring:
    weights, files = point_file(experiment, run, seed, share), experiment.files
    about = _sections(run), run.definition.model_dump(mode="json"), seed, share
    mark = fingerprint(*about, weights, files.manifest, code)
    file = snapshot_file(files.score(STAGE, run.name, seed), share)
    arguments = experiment.data_root, _point_settings(run), weights, seed, share == 1
    return Scoring(file, mark, probe.score_checkpoint, arguments)


def point_file(experiment: Experiment, run: Run, seed: int, share: float) -> Path:
    """The weights after a share of a run: a snapshot, or its last checkpoint; InputError if missing."""
    checkpoint = experiment.files.checkpoint(run.trained, seed)
    path = checkpoint if share == 1 else snapshot_file(checkpoint, share)
    if not path.exists():
        reason = f"run {run.name!r} has no snapshot after {share:.0%} of its epochs"
        first = f"list {share} under 'pretrain.snapshots', delete {checkpoint.name} and "
        raise InputError(f"{path}: {reason}; {first if share != 1 else ''}run `dvc repro`")
    return path


def _point_settings(run: Run) -> Settings:
    """A run's settings, with the probe cut down to what every point is given."""
    own, settings = run.settings.convergence, run.settings
    cut = settings.probe.model_copy(update={"heads": (own.head,), "iterations": own.iterations})
    return probe.settings_of(replace(run, settings=settings.model_copy(update={"probe": cut})))


def _sections(run: Run) -> dict[str, Any]:
    return _point_settings(run).model_dump(mode="json", include={"probe", "data", "network"})


def _curve(run: Run, scores: list[probe.Scores]) -> dict[str, Any]:
    own, settings = run.settings.convergence, run.settings
    mious = np.array([score[own.head]["miou"] for score in scores]).reshape(len(settings.seeds), -1)
    means, deviations = np.transpose([mean_and_deviation(point) for point in mious.T]).tolist()
    about = {"method": run.method, "head": own.head, "iterations": own.iterations}
    epochs = [share * settings.pretrain.run_epochs for share in own.shares]
    seeds = dict(zip(settings.seeds, mious.tolist(), strict=True))
    return about | {"epochs": epochs, "seeds": seeds, "miou_mean": means, "miou_std": deviations}
