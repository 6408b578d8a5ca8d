"""Changed settings, trained and scored on the tune split: notebook 07's cells, and a method's trials."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from tabulate import tabulate

from hgrl.core import paths
from hgrl.core.cache import fingerprint
from hgrl.core.device import pick_device
from hgrl.core.errors import InputError
from hgrl.core.experiment import Experiment
from hgrl.core.files import write_text
from hgrl.core.results import read_results, write_results
from hgrl.core.settings import Settings
from hgrl.evaluation.features import NetworkFeatures
from hgrl.evaluation.networks import network_of
from hgrl.evaluation.probe import evaluate_probe, fit_heads
from hgrl.evaluation.scoring import Scoring, code_mark, gather, mean_and_deviation
from hgrl.pretraining.job import TrainingJob
from hgrl.pretraining.stage import train, training_jobs

METHOD = "hierarchical"
Result = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """One set of settings to try."""

    overrides: dict[str, Any]  # dotted setting -> value
    method: str = METHOD
    grouping: str | None = None  # a name in the profile's `groupings`, whose trees it learns from


def cell_settings(experiment: Experiment, cell: Cell, section: str = "ablation") -> Settings:
    """The profile's settings at the length of its `ablation` or `tuning` section, with a cell's changes."""
    trial = getattr(experiment.settings, section)
    length = {
        "seeds": trial.seeds,
        "pretrain.epochs": trial.epochs,
        "probe.heads": [trial.head],
        "probe.iterations": trial.iterations,
        "data.probe_train": trial.train.model_dump(),
        "data.probe_val": trial.val.model_dump(),
    }
    length = {name: value for name, value in length.items() if value is not None}
    return experiment.settings_with(length | cell.overrides, cell.grouping)  # which may change the length too


def sweep(experiment: Experiment) -> dict[str, Result]:
    """Every cell of the grid over cns and sigma_p that `params.yaml` lists; {name: result}."""
    grid = experiment.params.get("sweep") or {}
    return _sweep(
        experiment, [(cns, sigma) for cns in grid.get("cns", ()) for sigma in grid.get("sigma_p", ())]
    )


def sweep_cell(experiment: Experiment, cns: str | int, sigma_p: float) -> Result:
    """One cell of the grid; writes results/<profile>/sweep/cns<cns>-sigma<sigma_p>.json."""
    (result,) = _sweep(experiment, [(cns, sigma_p)]).values()
    return result


def _sweep(experiment: Experiment, grid: list[tuple[str | int, float]]) -> dict[str, Result]:
    cells = {
        f"cns{cns}-sigma{sigma_p}": Cell({"sampling.cns": cns, "sampling.sigma_p": sigma_p})
        for cns, sigma_p in grid
    }
    return train_and_score(experiment, "sweep", cells)


def ablate(experiment: Experiment) -> dict[str, Result]:
    """The unchanged settings and every change that `params.yaml` lists, one at a time; {name: result}."""
    listed = {"base": {}} | (experiment.params.get("ablations") or {})
    return train_and_score(experiment, "ablations", {name: Cell(changes) for name, changes in listed.items()})


def tune(experiment: Experiment, methods: list[str] | None = None) -> dict[str, Result]:
    """The trials that `params.yaml` lists under `tuning`, as many per method; {"<method>-<trial>": result}.

    Each is a whole pretraining with the seeds of `tuning.seeds`, which no table row has. Writes
    results/<profile>/tuning/<cell>.json and tuning.md. The best one's overrides are to be copied into the
    profile's `tuned` section: the pipeline does not do it, or it would train every run anew whenever a trial
    is added."""
    trials = experiment.params.get("tuning") or {}
    if unknown := sorted(set(methods or ()) - set(trials)):
        reason = f"no trials for {', '.join(unknown)} under 'tuning'"
        raise InputError(f"{paths.PARAMS}: {reason}; choose from: {', '.join(trials)}")
    cells = {
        f"{method}-{number}": Cell(overrides, method)
        for method in methods or trials
        for number, overrides in enumerate(trials[method])
    }
    results = train_and_score(experiment, "tuning", cells, section="tuning")
    write_text(experiment.files.results / "tuning.md", _trials_table(experiment))
    return results


def train_and_score(
    experiment: Experiment, stage: str, cells: dict[str, Cell], section: str = "ablation"
) -> dict[str, Result]:
    """Mean and deviation of the tune split's mIoU over the section's seeds, for each cell.

    Writes results/<profile>/<stage>/<cell>.json. A finished cell is read, not trained and not scored
    again."""
    started, code = time.monotonic(), code_mark("hgrl.evaluation.probe")
    settings = {name: cell_settings(experiment, cell, section) for name, cell in cells.items()}
    scorings = {
        name: _scorings(experiment, stage, name, cell, settings[name], code) for name, cell in cells.items()
    }
    desc = f"{stage}: {', '.join(cells)}, seeds"
    scores = iter(gather(sum(scorings.values(), []), experiment.settings.jobs, desc))
    results = {}
    for name, cell in cells.items():
        about = {"method": cell.method, "grouping": cell.grouping, "overrides": cell.overrides}
        seeds = {seed: next(scores) for seed in settings[name].seeds}
        mean, deviation = mean_and_deviation(list(seeds.values()))
        about |= {"head": settings[name].probe.heads[0], "miou_mean": mean, "miou_std": deviation}
        results[name] = about | {"seeds": seeds}
        write_results(experiment, stage, name, results[name], settings[name].model_dump(mode="json"), started)
    return results


def _scorings(
    experiment: Experiment, stage: str, name: str, cell: Cell, settings: Settings, code: str
) -> list[Scoring]:
    """A scoring per seed. The identity of its training is in the mark: all that decides the weights."""
    files, sections = experiment.files, settings.model_dump(mode="json", include={"probe", "data", "network"})
    jobs = training_jobs(experiment, cell.method, settings, files.trial(stage, name), cell.grouping)
    return [
        Scoring(
            files.score(stage, name, job.seed),
            fingerprint(sections, job.identity, files.manifest, code),
            score_trial,
            (experiment, job),
        )
        for job in jobs
    ]


def score_trial(experiment: Experiment, job: TrainingJob) -> float:
    """The mIoU of one seed's first head, trained first where its checkpoint is not there or not complete."""
    train(job, lambda steps: None)
    settings = job.settings
    features = NetworkFeatures(network_of(job.path, settings.network), pick_device(settings.device))
    heads, val = fit_heads(experiment, settings, settings.probe, features, job.seed)
    return evaluate_probe(features, heads, val, settings.probe)[settings.probe.heads[0]]["miou"]


def _trials_table(experiment: Experiment) -> str:
    """Every cell of `tuning` in Markdown, the best of each method in bold."""
    cells, best = read_results(experiment, "tuning"), {}
    for cell in cells.values():
        best[cell["method"]] = max(best.get(cell["method"], 0), cell["miou_mean"])
    rows = []
    for name, cell in cells.items():
        changed = ", ".join(f"{key} {value}" for key, value in cell["overrides"].items()) or "nothing"
        score, is_best = f"{100 * cell['miou_mean']:.2f}", cell["miou_mean"] == best[cell["method"]]
        score = f"**{score}**" if is_best else score
        rows.append([name, cell["method"], changed, score, ", ".join(cell["seeds"])])
    table = tabulate(rows, ["trial", "method", "changed", "mIoU", "seeds"], "pipe", disable_numparse=True)
    return f"# Trials on the tune split: mIoU in percent, profile `{experiment.profile}`\n\n{table}\n"
