"""The stage `convergence`: how good a run's features are along its pretraining, one probe per snapshot."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from hgrl.core.cache import fingerprint
from hgrl.core.device import pick_device
from hgrl.core.errors import InputError
from hgrl.core.experiment import Experiment, Run
from hgrl.core.results import write_results
from hgrl.core.settings import ProbeSettings
from hgrl.evaluation.features import NetworkFeatures
from hgrl.evaluation.networks import network_of
from hgrl.evaluation.probe import Scores, evaluate_probe, fit_heads, probe_settings
from hgrl.evaluation.scoring import Scoring, code_mark, gather, mean_and_deviation
from hgrl.pretraining.checkpoints import snapshot_file

STAGE = "convergence"


def trace(experiment: Experiment) -> dict[str, dict[str, Any]]:
    """Probe every snapshot of every run that `params.yaml` lists under `convergence`; {run: result}.

    Writes results/<profile>/convergence/<run>.json: `epochs` of the points, `seeds` {seed: one mIoU in [0, 1]
    per point}, `miou_mean` and `miou_std` (the sample's; 0 for one seed). A point is read while what made it
    is unchanged. Listed runs without any checkpoint are left out, and it says so. Raises InputError for a
    snapshot that is missing or of another network.

    Deliberately not done: a snapshot is probed as it stands, at its schedule's learning rate of the moment;
    no run is cut short and annealed. A longer run's point is therefore not what a shorter run ends with."""
    started, code = time.monotonic(), code_mark("hgrl.evaluation.probe")
    runs = [run for run in map(experiment.run, experiment.listed(STAGE)) if _is_trained(experiment, run)]
    points = [
        (run, seed, share)
        for run in runs
        for seed in run.settings.seeds
        for share in run.settings.convergence.shares
    ]
    scorings = [_scoring(experiment, *point, code) for point in points]
    found = gather(scorings, experiment.settings.jobs, f"{STAGE}: {len(runs)} runs, snapshots to probe")
    results = {}
    for run in runs:
        scores = [score for (other, *_), score in zip(points, found, strict=True) if other is run]
        results[run.name] = _curve(run, scores)
        write_results(experiment, STAGE, run.name, results[run.name], _deciding_settings(run), started)
    return results


def _is_trained(experiment: Experiment, run: Run) -> bool:
    there = any(experiment.files.checkpoints(run.trained).glob("seed*.pt"))
    if not there:
        print(f"run {run.name!r} is left out: it was not trained in profile {experiment.profile!r}")
    return there


def _scoring(experiment: Experiment, run: Run, seed: int, share: float, code: str) -> Scoring:
    weights, files = point_file(experiment, run, seed, share), experiment.files
    about = _deciding_settings(run), run.definition.model_dump(mode="json"), seed, share
    file = snapshot_file(files.score(STAGE, run.name, seed), share)
    arguments = experiment, run, seed, share
    return Scoring(file, fingerprint(*about, weights, files.manifest, code), score_point, arguments)


def point_file(experiment: Experiment, run: Run, seed: int, share: float) -> Path:
    """The weights after a share of a run: a snapshot, or its last checkpoint. InputError where it is missing."""
    checkpoint = experiment.files.checkpoint(run.trained, seed)
    path = checkpoint if share == 1 else snapshot_file(checkpoint, share)
    if not path.exists():
        remedy = (
            f"list {share} under 'pretrain.snapshots', delete {checkpoint.name} and " if share != 1 else ""
        )
        reason = f"run {run.name!r} has no snapshot after {share:.0%} of its epochs"
        raise InputError(f"{path}: {reason}; {remedy}run `dvc repro`")
    return path


def score_point(experiment: Experiment, run: Run, seed: int, share: float) -> Scores:
    """The probe's scores of a snapshot."""
    path, settings, probe = point_file(experiment, run, seed, share), run.settings, _point_probe(run)
    network = network_of(path, settings.network, complete=share == 1)
    features = NetworkFeatures(network, pick_device(settings.device))
    heads, val = fit_heads(experiment, settings, probe, features, seed)
    return evaluate_probe(features, heads, val, probe)


def _point_probe(run: Run) -> ProbeSettings:
    """The probe's settings, cut down to what every point is given."""
    own = run.settings.convergence
    cut = run.settings.probe.model_copy(update={"heads": (own.head,), "iterations": own.iterations})
    return probe_settings(Run(run.name, run.definition, run.settings.model_copy(update={"probe": cut})))


def _deciding_settings(run: Run) -> dict[str, Any]:
    """The settings that decide a point's score."""
    settings = run.settings.model_dump(mode="json", include={"data", "network"})
    return settings | {"probe": _point_probe(run).model_dump(mode="json")}


def _curve(run: Run, scores: list[Scores]) -> dict[str, Any]:
    own, settings = run.settings.convergence, run.settings
    mious = np.array([score[own.head]["miou"] for score in scores]).reshape(len(settings.seeds), -1)
    means, deviations = zip(*map(mean_and_deviation, mious.T), strict=True)
    return {
        "method": run.method,
        "head": own.head,
        "iterations": own.iterations,
        "epochs": [share * settings.pretrain.run_epochs for share in own.shares],
        "seeds": dict(zip(settings.seeds, mious.tolist(), strict=True)),
        "miou_mean": means,
        "miou_std": deviations,
    }
