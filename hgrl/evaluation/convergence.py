"""The stage `convergence`: how good a run's features are along its pretraining, one probe per snapshot."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from hgrl.core.cache import fingerprint
from hgrl.core.errors import InputError
from hgrl.core.experiment import Experiment, Run
from hgrl.core.results import write_results
from hgrl.core.settings import ProbeSettings
from hgrl.evaluation import probe
from hgrl.evaluation.scoring import Scoring, code_mark, gather, mean_and_deviation
from hgrl.pretraining.checkpoints import snapshot_file

STAGE = "convergence"


def trace(experiment: Experiment) -> dict[str, dict[str, Any]]:
    """Probe every snapshot of every run that `params.yaml` lists under `convergence`; {run: result}.

    Writes results/<profile>/convergence/<run>.json: `epochs` of the points, `seeds` {seed: one mIoU in [0, 1]
    per point}, `miou_mean` and `miou_std` (the sample's; 0 for one seed). A point is read while what made it
    is unchanged. Listed runs without any checkpoint are left out with a message. Raises InputError for a
    snapshot that is missing or of another network.

    Deliberately not done: a snapshot is probed as it stands, at its schedule's learning rate of the moment;
    no run is cut short and annealed. A longer run's point is therefore not what a shorter run ends with."""
    started, code = time.monotonic(), code_mark(probe.__name__)
    runs = [run for run in map(experiment.run, experiment.listed(STAGE)) if _is_trained(experiment, run)]
    points = [(run, *point) for run in runs for point in _points(run)]
    scorings = {(run.name, *point): _scoring(experiment, run, *point, code) for run, *point in points}
    desc = f"{STAGE}: {len(runs)} runs, snapshots to probe"
    scores, results = gather(scorings, experiment.settings.jobs, desc), {}
    for run in runs:
        results[run.name] = _curve(run, [scores[run.name, *point] for point in _points(run)])
        write_results(experiment, STAGE, run.name, results[run.name], _deciding_settings(run), started)
    return results


def _is_trained(experiment: Experiment, run: Run) -> bool:
    there = any(experiment.files.checkpoints(run.trained).glob("seed*.pt"))
    if not there:
        print(f"run {run.name!r} is left out: it was not trained in profile {experiment.profile!r}")
    return there


def _points(run: Run) -> list[tuple[int, float]]:
    return [(seed, share) for seed in run.settings.seeds for share in run.settings.convergence.shares]


def _scoring(experiment: Experiment, run: Run, seed: int, share: float, code: str) -> Scoring:
    weights, files = point_file(experiment, run, seed, share), experiment.files
    about = _deciding_settings(run), run.definition.model_dump(mode="json"), seed, share
    mark = fingerprint(*about, weights, files.manifest, code)
    file = snapshot_file(files.score(STAGE, run.name, seed), share)
    arguments = experiment, run.settings, _probe_settings(run), weights, seed, share == 1
    return Scoring(file, mark, probe.score_checkpoint, arguments)


def point_file(experiment: Experiment, run: Run, seed: int, share: float) -> Path:
    """The weights after a share of a run: a snapshot, or its last checkpoint. InputError for a missing one."""
    checkpoint = experiment.files.checkpoint(run.trained, seed)
    path = checkpoint if share == 1 else snapshot_file(checkpoint, share)
    if not path.exists():
        remedy = (
            f"list {share} under 'pretrain.snapshots', delete {checkpoint.name} and " if share != 1 else ""
        )
        reason = f"run {run.name!r} has no snapshot after {share:.0%} of its epochs"
        raise InputError(f"{path}: {reason}; {remedy}run `dvc repro`")
    return path


def _probe_settings(run: Run) -> ProbeSettings:
    """The probe's, cut down to what every point is given."""
    own = run.settings.convergence
    cut = run.settings.probe.model_copy(update={"heads": (own.head,), "iterations": own.iterations})
    return probe.settings_of(Run(run.name, run.definition, run.settings.model_copy(update={"probe": cut})))


def _deciding_settings(run: Run) -> dict[str, Any]:
    """The settings that decide a point's score."""
    settings = run.settings.model_dump(mode="json", include={"data", "network"})
    return settings | {"probe": _probe_settings(run).model_dump(mode="json")}


def _curve(run: Run, scores: list[probe.Scores]) -> dict[str, Any]:
    own, settings = run.settings.convergence, run.settings
    mious = np.array([score[own.head]["miou"] for score in scores]).reshape(len(settings.seeds), -1)
    means, deviations = zip(*map(mean_and_deviation, mious.T), strict=True)
    return {
        "method": run.method,
        "head": own.head,
        "iterations": own.iterations,
        "epochs": [share * settings.pretrain.run_epochs for share in own.shares],
        "seeds": dict(zip(settings.seeds, mious.tolist(), strict=True)),
        "miou_mean": list(means),
        "miou_std": list(deviations),
    }
