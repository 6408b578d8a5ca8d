"""Convergence: how good a representation is along its pretraining. Snapshots of a run, each probed by the
same protocol.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from hgrl.core import paths
from hgrl.core.cache import keep, kept
from hgrl.pretraining.checkpoints import snapshot_file
from hgrl.core.errors import InputError
from hgrl.core.files import read_json
from hgrl.core.processes import run_tasks
from hgrl.core.provenance import code_fingerprint, fingerprint
from hgrl.core.settings import Run, Settings, load_run, load_settings
from hgrl.evaluation.features import NetworkFeatures
from hgrl.evaluation.probe import evaluate_probe
from hgrl.evaluation.stage import checkpoint_file, fit_heads, listed_runs, network_of, probe_settings
from hgrl.core.device import pick_device
from hgrl.pretraining.stage import manifest_path, write_results

STAGE = "convergence"


def trace(profile: str) -> dict[str, dict[str, Any]]:
    """Probe every snapshot of every run that `params.yaml` lists under `convergence`, with every seed; {run:
    result}.

    Writes results/<profile>/convergence/<run>.json: `epochs` of the points, `seeds` {seed: one mIoU in [0, 1]
    a point}, `miou_mean` and `miou_std` (the sample's; 0 for one seed). Each finished point is kept at once,
    and read while what made it is unchanged. Listed runs without any checkpoint are left out, which is said.
    Raises InputError for a snapshot that is missing or of another network.

    Deliberately not done: a snapshot is probed as it stands, at its schedule's learning rate of the moment;
    no run is cut short and annealed. A longer run's point is therefore not what a shorter run ends with.
    """
    started, waiting = time.monotonic(), []
    runs = {run: _point_settings(profile, run) for run in listed_runs(STAGE) if _is_trained(profile, run)}
    for run, settings in runs.items():
        definition = load_run(run)
        for seed in settings.seeds:
            for share in settings.convergence.shares:
                mark = _mark(settings, run, definition, seed, share)
                if kept(_score_file(profile, run, seed, share), mark) is None:
                    waiting.append((settings, run, definition, seed, share, mark))
    run_tasks(
        _score,
        waiting,
        load_settings(profile).jobs,
        f"{STAGE}: {len(runs)} runs, snapshots to probe",
        len(waiting),
    )
    results = {}
    for run, settings in runs.items():
        results[run] = _curve(profile, run, settings)
        write_results(profile, STAGE, run, results[run], _sections(settings), started)
    return results


def _is_trained(profile: str, run: str) -> bool:
    folder = checkpoint_file(profile, run, 0).parent
    there = any(folder.glob("seed*.pt"))
    if not there:
        print(f"run {run!r} is left out: it was not trained in profile {profile!r}")
    return there


def _point_settings(profile: str, run: str) -> Settings:
    """A run's settings, with the probe cut down to what every point is given."""
    settings = load_settings(profile, run)
    probe = settings.probe.model_copy(
        update={"heads": (settings.convergence.head,), "iterations": settings.convergence.iterations}
    )
    return settings.model_copy(update={"probe": probe})


def point_file(profile: str, run: str, seed: int, share: float) -> Path:
    """The weights after a share of a run: a snapshot, or at its end the run's checkpoint itself. InputError
    where there is none.
    """
    checkpoint = checkpoint_file(profile, run, seed)
    path = checkpoint if share == 1 else snapshot_file(checkpoint, share)
    if not path.exists():
        remedy = (
            f"list {share} under 'pretrain.snapshots', delete {checkpoint.name} and run `dvc repro`"
            if share != 1
            else "run `dvc repro`"
        )
        raise InputError(f"{path}: run {run!r} has no snapshot after {share:.0%} of its epochs; {remedy}")
    return path


def _score(
    settings: Settings, run: str, definition: Run, seed: int, share: float, mark: str, tick: Any
) -> None:
    features = NetworkFeatures(
        network_of(point_file(settings.profile, run, seed, share), settings), pick_device(settings.device)
    )
    probe = probe_settings(settings, definition)
    heads, val = fit_heads(settings, probe, features, seed)
    keep(_score_file(settings.profile, run, seed, share), mark, evaluate_probe(features, heads, val, probe))
    tick(1)


def _curve(profile: str, run: str, settings: Settings) -> dict[str, Any]:
    own, head = settings.convergence, settings.convergence.head
    seeds = {
        seed: [
            read_json(_score_file(profile, run, seed, share))["scores"][head]["miou"] for share in own.shares
        ]
        for seed in settings.seeds
    }
    scores = np.array(list(seeds.values()))
    return {
        "method": load_run(run).method,
        "head": head,
        "iterations": own.iterations,
        "epochs": [share * settings.pretrain.run_epochs for share in own.shares],
        "seeds": seeds,
        "miou_mean": scores.mean(0).tolist(),
        "miou_std": (scores.std(0, ddof=1) if len(scores) > 1 else np.zeros(len(own.shares))).tolist(),
    }


def _sections(settings: Settings) -> dict[str, Any]:
    """The settings that decide a point's score."""
    return settings.model_dump(mode="json", include={"probe", "data", "network"})


def _mark(settings: Settings, run: str, definition: Run, seed: int, share: float) -> str:
    weights, manifest = point_file(settings.profile, run, seed, share), manifest_path(settings.profile)
    return fingerprint(
        _sections(settings),
        definition.model_dump(mode="json"),
        seed,
        share,
        weights,
        manifest,
        code_fingerprint(STAGE),
    )


def _score_file(profile: str, run: str, seed: int, share: float) -> Path:
    return (
        paths.scores(profile, STAGE)
        / snapshot_file(Path(f"{run}-seed{seed}.pt"), share).with_suffix(".json").name
    )
