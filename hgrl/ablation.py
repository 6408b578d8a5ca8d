"""Notebook 07's cells: one change of the settings, trained short, scored on the tune split."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from hgrl import paths
from hgrl.config import Settings, load_settings, load_yaml
from hgrl.data.catalogue import data_root, open_samples
from hgrl.evaluate import network_of
from hgrl.features import NetworkFeatures
from hgrl.parallel import run_tasks
from hgrl.pretrain import pick_device
from hgrl.probe import evaluate_probe, train_probe
from hgrl.stages import train_seeds, write_results
from hgrl.store import read_json

METHOD = "hierarchical"


def cell_settings(profile: str, overrides: dict[str, Any]) -> Settings:
    """The profile's settings at the ablation's length, with `overrides`."""
    cell = load_settings(profile).ablation
    length = {
        "seeds": cell.seeds,
        "pretrain.epochs": cell.epochs,
        "probe.heads": [cell.head],
        "probe.iterations": cell.iterations,
        "data.probe_train": cell.train.model_dump(),
        "data.probe_val": cell.val.model_dump(),
    }
    return load_settings(profile, None, **(length | overrides))  # an override may change the length too


def sweep(profile: str, cns: str | int, sigma_p: float) -> dict[str, Any]:
    """One cell of the grid over cns and sigma_p; writes results/<profile>/sweep/cns<cns>-sigma<sigma_p>.json."""
    overrides = {"sampling.cns": cns, "sampling.sigma_p": sigma_p}
    return train_and_score(profile, "sweep", f"cns{cns}-sigma{sigma_p}", overrides)


def ablate(profile: str) -> dict[str, dict[str, Any]]:
    """The unchanged settings and every change that `params.yaml` lists, one at a time; {name: result}."""
    changes = {"base": {}, **(load_yaml(paths.PARAMS).get("ablations") or {})}
    return {name: train_and_score(profile, "ablations", name, overrides) for name, overrides in changes.items()}


def train_and_score(profile: str, stage: str, name: str, overrides: dict[str, Any]) -> dict[str, Any]:
    """Mean and deviation of the tune split's mIoU over the ablation's seeds."""
    settings, started = cell_settings(profile, overrides), time.monotonic()
    folder = paths.checkpoints(profile, f"{stage}/{name}")
    train_seeds(profile, METHOD, settings, folder, desc=f"{stage} {name}")
    tasks = [(settings, folder / f"seed{seed}.pt", seed) for seed in settings.seeds]
    scores = run_tasks(_score, tasks, settings.jobs, f"{stage} {name}: probes", len(tasks))
    result = {"overrides": overrides, "head": settings.ablation.head, "seeds": dict(zip(settings.seeds, scores, strict=True))}
    result |= {"miou_mean": float(np.mean(scores)), "miou_std": float(np.std(scores, ddof=1)) if len(scores) > 1 else 0.0}
    write_results(profile, stage, name, result, settings.model_dump(mode="json"), started)
    return result


def gathered(profile: str, stage: str) -> dict[str, dict[str, Any]]:
    """All cells of `sweep` or `ablations` that have been made so far, by name."""
    files = sorted((paths.results(profile) / stage).glob("*.json"))
    return {path.stem: read_json(path) for path in files if not path.stem.endswith(".origin")}


def _score(settings: Settings, checkpoint: Path, seed: int, tick: Any) -> float:
    root = data_root(settings)
    train, val = (open_samples(source, root) for source in (settings.data.probe_train, settings.data.probe_val))
    features = NetworkFeatures(network_of(checkpoint, settings), pick_device(settings.device))
    heads = train_probe(features, train, settings.probe, seed)
    miou = evaluate_probe(features, heads, val, settings.probe)[settings.ablation.head]["miou"]
    tick(1)
    return miou
