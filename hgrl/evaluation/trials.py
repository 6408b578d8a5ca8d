"""Changed settings, trained and scored on the tune split: notebook 07's cells, and a method's trials."""

import itertools
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

from tabulate import tabulate

from hgrl.core import paths
from hgrl.core.cache import fingerprint
from hgrl.core.errors import InputError
from hgrl.core.experiment import Experiment
from hgrl.core.files import write_json, write_text
from hgrl.core.results import read_results, write_results
from hgrl.core.settings import Settings
from hgrl.evaluation import probe
from hgrl.evaluation.scoring import Scoring, code_mark, gather, mean_and_deviation
from hgrl.pretraining.job import TrainingJob
from hgrl.pretraining.stage import train_jobs, training_jobs

Result = dict[str, Any]


class Cell(NamedTuple):
    """One set of settings to try."""

    overrides: dict[str, Any]  # dotted setting -> value
    method: str = "hierarchical"


def cell_settings(experiment: Experiment, cell: Cell, section: str = "ablation") -> Settings:
    """The profile's settings at the length of its `ablation` or `tuning` section, with a cell's changes."""
    trial = getattr(experiment.settings, section)
    length = {"seeds": trial.seeds, "probe.heads": [trial.head], "probe.iterations": trial.iterations}
    length["data.labelled"] = {"tune": {"train": trial.train.model_dump(), "val": trial.val.model_dump()}}
    length |= {"pretrain.epochs": trial.epochs}
    length = {name: value for name, value in length.items() if value is not None}
    return experiment.settings_with(length | cell.overrides)  # which may change the length too


def sweep(experiment: Experiment) -> dict[str, Result]:
    """Every cell of the grid over cns and sigma_p that `params.yaml` lists; {name: result}."""
    grid = experiment.params.get("sweep") or {}
    return _sweep(experiment, itertools.product(grid.get("cns", ()), grid.get("sigma_p", ())))


def sweep_cell(experiment: Experiment, cns: str | int, sigma_p: float) -> Result:
    """One cell of the grid; writes results/<profile>/sweep/cns<cns>-sigma<sigma_p>.json."""
    (result,) = _sweep(experiment, [(cns, sigma_p)]).values()
    return result


def _sweep(experiment: Experiment, pairs: Iterable[tuple[str | int, float]]) -> dict[str, Result]:
    cells = {f"cns{cns}-sigma{s}": Cell({"sampling.cns": cns, "sampling.sigma_p": s}) for cns, s in pairs}
    return train_and_score(experiment, "sweep", cells)


def ablate(experiment: Experiment) -> dict[str, Result]:
    """The unchanged settings and every change that `params.yaml` lists, one at a time; {name: result}."""
    listed = {"base": {}} | (experiment.params.get("ablations") or {})
    return train_and_score(experiment, "ablations", {name: Cell(changes) for name, changes in listed.items()})


def tune(experiment: Experiment, methods: list[str] | None = None) -> dict[str, Result]:
    """The trials that `params.yaml` lists under `tuning`, as many per method; {"<method>-<trial>": result}.

    Each is a whole pretraining with seeds that no table row has. Writes results/<profile>/tuning/<cell>.json
    and tuning.md. The best overrides go by hand into the profile's `tuned`, lest a trial retrain all."""
    trials = experiment.params.get("tuning") or {}
    if unknown := sorted(set(methods or ()) - set(trials)):
        reason = f"no trials for {', '.join(unknown)} under 'tuning'"
        raise InputError(f"{paths.PARAMS}: {reason}; choose from: {', '.join(trials)}")
    listed = [(method, *trial) for method in methods or trials for trial in enumerate(trials[method])]
    cells = {f"{method}-{number}": Cell(overrides, method) for method, number, overrides in listed}
    results = train_and_score(experiment, "tuning", cells)
    table = f"# Trials on the tune split: mIoU in percent, profile `{experiment.profile}`\n\n"
    write_text(experiment.files.results / "tuning.md", f"{table}{_trials_table(experiment)}\n")
    return results


def train_and_score(experiment: Experiment, stage: str, cells: dict[str, Cell]) -> dict[str, Result]:
    """Mean and deviation of the tune split's mIoU over the section's seeds, for each cell.

    Writes results/<profile>/<stage>/<cell>.json, and for notebook 07 all that are there to
    results/<profile>/metrics/extras/<stage>.json. Finished seeds are read, neither trained nor scored again.
    Raises InputError for an override that is no setting, before anything is trained."""
    started, code = time.monotonic(), code_mark(probe.__name__)
    section = "tuning" if stage == "tuning" else "ablation"
    settings = {name: cell_settings(experiment, cell, section) for name, cell in cells.items()}
    jobs = {}
    for name, cell in cells.items():
        made = training_jobs(experiment, cell.method, settings[name], experiment.files.trial(stage, name))
        jobs |= {(name, job.seed): job for job in made}
    scorings = {key: _scoring(experiment, stage, key[0], job, code) for key, job in jobs.items()}
    desc = f"{stage}: {', '.join(cells)}"
    if waiting := [job for key, job in jobs.items() if scorings[key].stored() is None]:
        train_jobs(experiment, waiting, desc)
    scores, results = gather(scorings, experiment.settings.jobs, f"{desc}, seeds to score"), {}
    for name, cell in cells.items():
        own, head = settings[name], settings[name].probe.heads[0]
        seeds = {seed: scores[name, seed][head]["miou"] for seed in own.seeds}
        mean, deviation = mean_and_deviation([*seeds.values()])
        about = {"method": cell.method, "overrides": cell.overrides, "head": head, "seeds": seeds}
        results[name] = about | {"miou_mean": mean, "miou_std": deviation}
        write_results(experiment, stage, name, results[name], own.model_dump(mode="json"), started)
    if section == "ablation":
        write_json(experiment.files.extras.metrics(stage), read_results(experiment, stage))
    return results


def _scoring(experiment: Experiment, stage: str, name: str, job: TrainingJob, code: str) -> Scoring:
    """The mark holds the training's identity, which decides the weights: they need not be there any more."""
    files, settings = experiment.files, job.settings
    about = settings.model_dump(mode="json", include={"probe", "data", "network"}), job.identity
    arguments = probe.score_checkpoint, (experiment.data_root, settings, job.path, job.seed)
    return Scoring(files.score(stage, name, job.seed), fingerprint(*about, files.manifest, code), *arguments)


def score_text(result: Result) -> str:
    """The mIoU of a result in percent, with its deviation where there are several seeds."""
    spread = f"+- {100 * result['miou_std']:.2f}" if len(result["seeds"]) > 1 else "(one seed)"
    return f"{100 * result['miou_mean']:.2f} {spread}"


def _trials_table(experiment: Experiment) -> str:
    """Every cell of `tuning` in Markdown, the best of each method in bold."""
    cells, rows = read_results(experiment, "tuning"), []
    for name, cell in cells.items():
        rivals = [other["miou_mean"] for other in cells.values() if other["method"] == cell["method"]]
        mark = "**" if cell["miou_mean"] == max(rivals) else ""
        changed = ", ".join(f"{key} {value}" for key, value in cell["overrides"].items()) or "nothing"
        score = f"{mark}{100 * cell['miou_mean']:.2f}{mark}"
        rows.append([name, cell["method"], changed, score, ", ".join(cell["seeds"])])
    return tabulate(rows, ["trial", "method", "changed", "mIoU", "seeds"], "pipe", disable_numparse=True)
