"""The stages `probe`, `retrieval` and `tracking`: every listed run with every seed, by one code path."""

import itertools
import time
from typing import Any

from hgrl.core import paths
from hgrl.core.cache import fingerprint
from hgrl.core.errors import InputError
from hgrl.core.experiment import Experiment, Run
from hgrl.core.files import read_json, remove_unfinished, write_json
from hgrl.core.results import read_results, write_results
from hgrl.evaluation import probe, retrieval, sequences, tracking
from hgrl.evaluation.features import BASELINES
from hgrl.evaluation.networks import PRETRAINED, UNTRAINED, layers_of, unavailable, weights_file
from hgrl.evaluation.scoring import Scoring, code_mark, gather, is_left_out, mean_and_deviation
from hgrl.evaluation.tracking import TRACKERS
from hgrl.evaluation.weights import FORMATS
from hgrl.pretraining.methods import REGISTRY

MODULES = {"probe": probe, "retrieval": retrieval, "tracking": tracking}  # each with its `score_run`


def evaluate(stage: str, experiment: Experiment, runs: str = "all") -> dict[str, dict[int, Any]]:
    """Score `runs` (comma-separated, or all that `params.yaml` lists for the stage); {run: {seed: scores}}.

    Of probe and retrieval, scores are {labelled set: {head or layer: scores}}: each set is scored by itself.
    Writes results/<profile>/<stage>/<run>.json and results/<profile>/metrics/<stage>.json. A score whose
    checkpoint, settings, data and code are unchanged is read. Raises InputError for a run that is unknown or
    whose checkpoint is missing, half trained or of another network. Listed runs that are `unavailable` here
    are left out with a message; named ones are an InputError."""
    started, code = time.monotonic(), code_mark(MODULES[stage].__name__)
    path = experiment.files.metrics(stage)
    names = experiment.listed(stage) if runs == "all" else [name.strip() for name in runs.split(",")]
    chosen, scorings = [experiment.run(name) for name in names], {}
    if runs == "all":
        chosen = [run for run in chosen if not is_left_out(run, unavailable(experiment, run))]
    for run in chosen:
        for seed, labelled in itertools.product(seeds_of(stage, run), sets_of(stage, run)):
            key = run.name, seed, labelled
            scorings[key] = _scoring(stage, experiment, *(run, seed, labelled), code)
    desc = f"{stage}: {len(chosen)} runs, {'seeds' if stage == 'tracking' else 'seeds and sets'} to score"
    scores, results = gather(scorings, experiment.settings.jobs, desc), {}
    for run in chosen:
        results[run.name] = {}
        for seed in seeds_of(stage, run):
            own = {labelled: scores[run.name, seed, labelled] for labelled in sets_of(stage, run)}
            results[run.name][seed] = own.get(None, own)
        beside = {}
        if stage == "tracking":
            results[run.name], beside = tracking.without_costs(results[run.name])
        content = {"method": run.method, "seeds": results[run.name]}
        write_results(experiment, stage, run.name, content, _sections(stage, run), started, **beside)
        if stage == "probe":
            probe.publish_confusions(experiment, run)
    summary = {name: summarise([*rows.values()]) for name, rows in results.items()}
    remove_unfinished(path.parent)
    others = read_json(path) if runs != "all" and path.exists() else {}
    write_json(path, _compared(stage, experiment, others | summary))
    return results


def _compared(stage: str, experiment: Experiment, metrics: dict[str, Any]) -> dict[str, Any]:
    """Tracking's means, with every run's leads over others in them: see `sequences.compare`."""
    if stage != "tracking":
        return metrics
    common = read_results(experiment, stage)  # the extras are held against its rows as well
    own = {name: experiment.files.result(stage, name) for name in metrics}
    stored = {name: common[name] for name in sequences.REFERENCES if name in common}
    stored |= {name: read_json(path) for name, path in own.items() if path.exists()}
    seeds = {name: [*content["seeds"].values()] for name, content in stored.items()}
    seeds = {name: rows for name, rows in seeds.items() if {*tracking.COLUMNS} <= rows[0].keys()}  # else: old
    compared = sequences.compare(seeds)
    for name in metrics.keys() & compared.keys():
        for column, found in compared[name].items():
            metrics[name][column] |= found
    return metrics


def seeds_of(stage: str, run: Run) -> tuple[int, ...]:
    """All seeds; one where nothing is random (trackers without a network)."""
    nothing_random = run.method in (*TRACKERS, *BASELINES, *FORMATS) and run.method not in REGISTRY
    deterministic = stage == "tracking" and nothing_random
    return run.settings.seeds[:1] if deterministic else run.settings.seeds


def sets_of(stage: str, run: Run) -> tuple[str | None, ...]:
    """The labelled sets that a stage scores a run on; (None,) for tracking, which has its own videos."""
    return (None,) if stage == "tracking" else tuple(run.settings.data.labelled)


def _scoring(
    stage: str, experiment: Experiment, run: Run, seed: int, labelled: str | None, code: str
) -> Scoring:
    featured = (method for method in REGISTRY if method not in TRACKERS)
    tracked = (*TRACKERS, *FORMATS) if stage == "tracking" else ()
    known = dict.fromkeys([*featured, UNTRAINED, PRETRAINED, *BASELINES, *tracked])
    if run.method not in known:
        reason = "tracks masks and has no features" if run.method in TRACKERS else "is unknown"
        which = f"run {run.name!r}: method {run.method!r} {reason}"
        raise InputError(f"{paths.PARAMS}: {which}; `{stage}` takes one of: {', '.join(known)}")
    files, definition = experiment.files, run.definition.model_dump(mode="json")
    weights, which = weights_file(experiment, run, seed), (experiment, run, seed)
    about = _sections(stage, run), definition, layers_of(run), seed, labelled, weights
    mark, file = fingerprint(*about, files.manifest, code), files.score(stage, run.name, seed, labelled)
    beside = files.confusions(run.name, seed, labelled) if stage == "probe" else None
    arguments = which if labelled is None else (*which, labelled)
    return Scoring(file, mark, MODULES[stage].score_run, arguments, beside)


def _sections(stage: str, run: Run) -> dict[str, Any]:
    """The settings that decide a run's scores."""
    settings = probe.settings_of(run) if stage == "probe" else run.settings
    return settings.model_dump(mode="json", include={stage, "data", "network"})


def summarise(scores: list[Any]) -> Any:
    """{"miou_mean", "miou_std", "seeds"} of every number in the equally built nested dicts of several seeds.

    Lists, texts, what is None in a seed, and the single `sequences` are left out."""
    summary: dict[str, Any] = {}
    for key, value in scores[0].items():
        values = [seed[key] for seed in scores]
        if isinstance(value, dict):
            summary |= {key: summarise(values)} if key != "sequences" else {}
        elif all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
            summary[f"{key}_mean"], summary[f"{key}_std"] = mean_and_deviation(values)
            summary["seeds"] = len(values)
    return summary
