"""What `extras/dvc.yaml` scores: the runs under `extras`, and further heads of those scored anyway."""

from dataclasses import replace
from typing import Any

from hgrl.core.experiment import Experiment
from hgrl.core.files import read_json, write_json
from hgrl.core.loading import overridden
from hgrl.core.settings import Settings
from hgrl.evaluation.heads import layer_of
from hgrl.evaluation.networks import layers_of
from hgrl.evaluation.stage import evaluate


def evaluate_extras(stage: str, experiment: Experiment) -> dict[str, Any]:
    """Score the runs that `params.yaml` lists under `extras` for a stage; their means over the seeds.

    In the stage `probe` also the profile's `extra_heads`, on all listed runs that train a layer they read.
    Writes results/<profile>/extras/<stage>/<run>.json and results/<profile>/metrics/extras/<stage>.json."""
    extra = replace(experiment, files=experiment.files.extras)
    batches = [(extra, experiment.extras(stage))]
    if stage == "probe" and experiment.settings.extra_heads:
        batches.append((_with_extra_heads(extra), _read_by_extra_heads(experiment)))
    path, metrics = extra.files.metrics(stage), {}
    extra.files.result(stage, "").parent.mkdir(parents=True, exist_ok=True)  # DVC expects it
    extra.files.scores(stage).mkdir(parents=True, exist_ok=True)
    for scored, runs in batches:
        if runs:
            evaluate(stage, replace(scored, params=scored.params | {stage: runs}))
            metrics |= read_json(path)
    write_json(path, metrics)
    return metrics


def _with_extra_heads(experiment: Experiment) -> Experiment:
    settings: Settings = experiment.settings
    heads = {"heads": settings.extra_heads}
    changed = settings.model_copy(update={"probe": settings.probe.model_copy(update=heads)})
    content = overridden(experiment.content, {"probe.heads": list(settings.extra_heads)}, "extra_heads")
    return replace(experiment, settings=changed, content=content)


def _read_by_extra_heads(experiment: Experiment) -> list[str]:
    """The runs of the default lists on whose frozen features one of the heads can be trained."""
    layers = {layer_of(head) for head in experiment.settings.extra_heads}
    runs = map(experiment.run, experiment.listed("probe"))
    return [run.name for run in runs if not run.definition.end_to_end and layers & {*layers_of(run)}]
