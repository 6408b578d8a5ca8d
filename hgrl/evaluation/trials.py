"""Changed settings, trained and scored on the tune split: notebook 07's cells, and the trials that every
method is tuned by.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import numpy as np

from hgrl.core import paths
from hgrl.core.errors import InputError
from hgrl.core.files import read_json, write_text
from hgrl.core.processes import run_tasks
from hgrl.core.settings import Settings, load_settings, load_yaml
from hgrl.data.sources import data_root, open_samples
from hgrl.evaluation.features import NetworkFeatures
from hgrl.evaluation.probe import evaluate_probe, train_probe
from hgrl.evaluation.stage import network_of
from hgrl.core.device import pick_device
from hgrl.pretraining.stage import train, training_tasks, write_results

METHOD = "hierarchical"
Result = dict[str, Any]


class Cell(NamedTuple):
    """One set of settings to try."""

    overrides: dict[str, Any]  # dotted setting -> value
    method: str = METHOD
    grouping: str | None = None  # a name in the profile's `groupings`, whose trees it learns from


def cell_settings(
    profile: str, overrides: dict[str, Any], section: str = "ablation", grouping: str | None = None
) -> Settings:
    """The profile's settings at the length that its `ablation` or `tuning` section states, with `overrides`."""
    trial = getattr(load_settings(profile), section)
    length = {
        "seeds": trial.seeds,
        "pretrain.epochs": trial.epochs,
        "probe.heads": [trial.head],
        "probe.iterations": trial.iterations,
        "data.probe_train": trial.train.model_dump(),
        "data.probe_val": trial.val.model_dump(),
    }
    length = {name: value for name, value in length.items() if value is not None}
    # an override may change the length too
    return load_settings(profile, None, grouping, **(length | overrides))


def sweep(profile: str) -> dict[str, Result]:
    """Every cell of the grid over cns and sigma_p that `params.yaml` lists; {name: result}. Writes as
    `sweep_cell` does.
    """
    grid = load_yaml(paths.PARAMS).get("sweep") or {}
    return _sweep(
        profile, [(cns, sigma_p) for cns in grid.get("cns", ()) for sigma_p in grid.get("sigma_p", ())]
    )


def sweep_cell(profile: str, cns: str | int, sigma_p: float) -> Result:
    """One cell of the grid; writes results/<profile>/sweep/cns<cns>-sigma<sigma_p>.json."""
    (result,) = _sweep(profile, [(cns, sigma_p)]).values()
    return result


def _sweep(profile: str, grid: list[tuple[str | int, float]]) -> dict[str, Result]:
    cells = {
        f"cns{cns}-sigma{sigma_p}": Cell({"sampling.cns": cns, "sampling.sigma_p": sigma_p})
        for cns, sigma_p in grid
    }
    return train_and_score(profile, "sweep", cells)


def ablate(profile: str) -> dict[str, Result]:
    """The unchanged settings and every change that `params.yaml` lists, one at a time; {name: result}."""
    return train_and_score(profile, "ablations", {"base": Cell({}), **_listed("ablations", METHOD)})


def tune(profile: str, methods: list[str] | None = None) -> dict[str, Result]:
    """The trials that `params.yaml` lists under `tuning`, as many for one method as for another;
    {"<method>-<trial>": result}.

    Each is a whole pretraining with the seeds of `tuning.seeds`, which no table row has. Writes
    results/<profile>/tuning/<cell>.json and tuning.md. The best one's overrides are to be copied into the
    profile's `tuned` section: the pipeline does not do this by itself, for it would train every run anew
    whenever a trial is added.
    """
    trials = load_yaml(paths.PARAMS).get("tuning") or {}
    unknown = set(methods or ()) - set(trials)
    if unknown:
        raise InputError(
            f"{paths.PARAMS}: no trials for {', '.join(sorted(unknown))} under 'tuning'; choose from: {', '.join(trials)}"
        )
    cells = {
        f"{method}-{k}": Cell(overrides, method)
        for method in methods or trials
        for k, overrides in enumerate(trials[method])
    }
    results = train_and_score(profile, "tuning", cells, section="tuning")
    write_text(paths.results(profile) / "tuning.md", _trials_table(profile, "tuning"))
    return results


def ablate_best(profile: str, names: list[str] | None = None) -> dict[str, Result]:
    """The strongest recipe, one change at a time: the list `best_ablations` of `params.yaml`, each {method,
    overrides, grouping}, or some of it.

    Writes results/<profile>/best/<cell>.json and best.md.
    """
    entries = load_yaml(paths.PARAMS).get("best_ablations") or {}
    if unknown := set(names or ()) - set(entries):
        raise InputError(
            f"{paths.PARAMS}: no {', '.join(sorted(unknown))} under 'best_ablations'; choose from: {', '.join(entries)}"
        )
    entries = {name: entries[name] for name in names or entries}
    cells = {
        name: Cell(entry.get("overrides", {}), entry.get("method", METHOD), entry.get("grouping"))
        for name, entry in entries.items()
    }
    results = train_and_score(profile, "best", cells, section="tuning")
    write_text(paths.results(profile) / "best.md", _trials_table(profile, "best"))
    return results


def _listed(section: str, method: str) -> dict[str, Cell]:
    return {
        name: Cell(overrides, method)
        for name, overrides in (load_yaml(paths.PARAMS).get(section) or {}).items()
    }


def train_and_score(
    profile: str, stage: str, cells: dict[str, Cell], section: str = "ablation"
) -> dict[str, Result]:
    """Mean and deviation of the tune split's mIoU over the section's seeds, for each cell; writes
    results/<profile>/<stage>/<cell>.json.
    """
    started, settings = (
        time.monotonic(),
        {
            name: cell_settings(profile, cell.overrides, section, cell.grouping)
            for name, cell in cells.items()
        },
    )
    tasks = []
    for name, cell in cells.items():
        folder = paths.artifacts(profile) / stage / name
        trainings = training_tasks(profile, cell.method, settings[name], folder, cell.grouping)
        tasks += [(training, settings[name], settings[name].probe.heads[0]) for training in trainings]
    scores = iter(
        run_tasks(
            _train_and_score,
            tasks,
            load_settings(profile).jobs,
            f"{stage}: {', '.join(cells)}, seeds",
            len(tasks),
        )
    )
    results = {}
    for name, cell in cells.items():
        seeds = {seed: next(scores) for seed in settings[name].seeds}
        about = {
            "method": cell.method,
            "grouping": cell.grouping,
            "overrides": cell.overrides,
            "head": settings[name].probe.heads[0],
            "seeds": seeds,
        }
        results[name] = about | _mean_and_deviation(list(seeds.values()))
        write_results(profile, stage, name, results[name], settings[name].model_dump(mode="json"), started)
    return results


def _mean_and_deviation(scores: list[float]) -> dict[str, float]:
    return {
        "miou_mean": float(np.mean(scores)),
        "miou_std": float(np.std(scores, ddof=1)) if len(scores) > 1 else 0.0,
    }


def gathered(profile: str, stage: str) -> dict[str, Result]:
    """All cells of `sweep`, `ablations`, `tuning` or `best` that have been made so far, by name."""
    files = sorted((paths.results(profile) / stage).glob("*.json"))
    return {path.stem: read_json(path) for path in files if not path.stem.endswith(".origin")}


def _trials_table(profile: str, stage: str) -> str:
    """Every cell of `tuning` or `best` in Markdown, the best of each method in bold."""
    cells = gathered(profile, stage)
    best = {
        cell["method"]: max(c["miou_mean"] for c in cells.values() if c["method"] == cell["method"])
        for cell in cells.values()
    }
    lines = [
        f"# Trials on the tune split: mIoU in percent, profile `{profile}`",
        "",
        "| trial | method | changed | mIoU | seeds |",
        "|---|---|---|---|---|",
    ]
    for name, cell in cells.items():
        changes = ({"grouping": cell["grouping"]} if cell.get("grouping") else {}) | cell["overrides"]
        changed = ", ".join(f"{key} {value}" for key, value in changes.items()) or "nothing"
        score = f"{100 * cell['miou_mean']:.2f}"
        score = f"**{score}**" if cell["miou_mean"] == best[cell["method"]] else score
        lines.append(
            f"| {name} | {cell['method']} | {changed} | {score} | {', '.join(map(str, cell['seeds']))} |"
        )
    return "\n".join(lines) + "\n"


def _train_and_score(training: tuple, settings: Settings, head: str, tick: Any) -> float:
    train(*training, lambda steps: None)
    *_, checkpoint, seed, _ = training
    root = data_root(settings)
    probe_train, val = (
        open_samples(source, root) for source in (settings.data.probe_train, settings.data.probe_val)
    )
    features = NetworkFeatures(network_of(checkpoint, settings), pick_device(settings.device))
    heads = train_probe(features, probe_train, settings.probe, seed)
    miou = evaluate_probe(features, heads, val, settings.probe)[head]["miou"]
    tick(1)
    return miou
