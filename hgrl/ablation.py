"""Notebook 07's cells: one change of the settings, trained short, scored on the tune split."""

from __future__ import annotations

import time
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
from hgrl.stages import train, training_tasks, write_results
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
    return train_and_score(profile, "sweep", {f"cns{cns}-sigma{sigma_p}": overrides})[f"cns{cns}-sigma{sigma_p}"]


def ablate(profile: str) -> dict[str, dict[str, Any]]:
    """The unchanged settings and every change that `params.yaml` lists, one at a time; {name: result}."""
    return train_and_score(profile, "ablations", {"base": {}, **(load_yaml(paths.PARAMS).get("ablations") or {})})


def train_and_score(profile: str, stage: str, cells: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Mean and deviation of the tune split's mIoU over the ablation's seeds, for each cell (name -> overrides)."""
    started, settings = time.monotonic(), {name: cell_settings(profile, overrides) for name, overrides in cells.items()}
    tasks = []
    for name, cell in settings.items():
        folder = paths.artifacts(profile) / stage / name
        tasks += [(training, cell) for training in training_tasks(profile, METHOD, cell, folder)]
    scores = iter(run_tasks(_train_and_score, tasks, load_settings(profile).jobs, f"{stage}: {', '.join(cells)}, seeds", len(tasks)))
    results = {}
    for name, cell in settings.items():
        seeds = {seed: next(scores) for seed in cell.seeds}
        results[name] = {"overrides": cells[name], "head": cell.ablation.head, "seeds": seeds, **_mean_and_deviation(list(seeds.values()))}
        write_results(profile, stage, name, results[name], cell.model_dump(mode="json"), started)
    return results


def _mean_and_deviation(scores: list[float]) -> dict[str, float]:
    return {"miou_mean": float(np.mean(scores)), "miou_std": float(np.std(scores, ddof=1)) if len(scores) > 1 else 0.0}


def gathered(profile: str, stage: str) -> dict[str, dict[str, Any]]:
    """All cells of `sweep` or `ablations` that have been made so far, by name."""
    files = sorted((paths.results(profile) / stage).glob("*.json"))
    return {path.stem: read_json(path) for path in files if not path.stem.endswith(".origin")}


def _train_and_score(training: tuple, settings: Settings, tick: Any) -> float:
    train(*training, lambda steps: None)
    *_, checkpoint, seed, _ = training
    root = data_root(settings)
    probe_train, val = (open_samples(source, root) for source in (settings.data.probe_train, settings.data.probe_val))
    features = NetworkFeatures(network_of(checkpoint, settings), pick_device(settings.device))
    heads = train_probe(features, probe_train, settings.probe, seed)
    miou = evaluate_probe(features, heads, val, settings.probe)[settings.ablation.head]["miou"]
    tick(1)
    return miou
