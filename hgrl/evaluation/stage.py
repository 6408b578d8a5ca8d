"""Probe, retrieval and tracking of every run and seed, by one code path; what is scored already is not scored
again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from hgrl.core import paths
from hgrl.core.cache import keep, kept
from hgrl.core.checkpoint import load_checkpoint
from hgrl.core.errors import InputError
from hgrl.core.files import read_json, write_json, write_png
from hgrl.core.processes import run_tasks
from hgrl.core.provenance import code_fingerprint, fingerprint
from hgrl.core.settings import (
    ProbeSettings,
    Run,
    Settings,
    left_out,
    load_run,
    load_settings,
    load_yaml,
    trained_run,
)
from hgrl.data.samples import Samples
from hgrl.data.sources import data_root, open_samples, open_videos
from hgrl.evaluation.confusions import confusion_file, save_confusions
from hgrl.evaluation.features import (
    BASELINES,
    BaselineFeatures,
    Features,
    NetworkFeatures,
    single_layer,
    tracking_features,
)
from hgrl.evaluation.probe import image_confusions, predict, split_scores, train_probe
from hgrl.evaluation.retrieval import retrieve
from hgrl.evaluation.tracking import evaluate_tracking, feature_tracker, identity, optical_flow
from hgrl.core.device import pick_device
from hgrl.pretraining.methods import REGISTRY
from hgrl.pretraining.network import LAYERS, Network
from hgrl.pretraining.stage import manifest_path, write_results
from hgrl.sampling.order import mixed_seed

PICTURES = 8  # images of the reported split whose predicted classes notebook 04 shows
NO_WEIGHTS = "weights file missing"
OTHER_NETWORK = "weights are of another network"
Tick = Callable[[int], None]
UNTRAINED = "random"  # the method of networks that stay as they were initialised
PRETRAINED = "imagenet"  # the method of torchvision's supervised ResNet-50, from a file the reader has
TRACKERS = {"identity": identity, "flow": optical_flow}  # rows of table 3 that read no features


def load_network(settings: Settings, run: str, method: str, seed: int) -> Network:
    """The network of a run and seed: from its checkpoint, or that of the run it starts from; from
    torchvision's weights for the method `imagenet` (what lies behind the backbone stays as initialised);
    freshly initialised for `random`."""
    if method == PRETRAINED:
        return imagenet_network(settings, run, seed)
    if method == UNTRAINED:
        torch.manual_seed(mixed_seed(seed))
        return Network(settings.network)
    if method in TRACKERS:
        raise InputError(
            f"params.yaml: run {run!r}: method {method!r} tracks masks and has no features; list it under 'tracking' only"
        )
    if method not in REGISTRY:
        known = ", ".join([*REGISTRY, UNTRAINED, PRETRAINED, *BASELINES, *TRACKERS])
        raise InputError(f"params.yaml: run {run!r}: unknown method {method!r}; choose one of: {known}")
    return network_of(checkpoint_file(settings.profile, run, seed), settings)


def checkpoint_file(profile: str, run: str, seed: int) -> Path:
    """The checkpoint that a run and seed is evaluated on."""
    return paths.checkpoints(profile, trained_run(run)) / f"seed{seed}.pt"


def imagenet_network(settings: Settings, run: str, seed: int) -> Network:
    """A ResNet-50 with torchvision's supervised weights (IMAGENET1K_V1 or V2); InputError where
    `unavailable`, and for another file.
    """
    path, reason = weights_file(load_run(run)), unavailable(settings, run)
    if reason:
        fetch = "save torchvision's resnet50 weights there (resnet50-0676ba61.pth on pytorch.org)"
        raise InputError(
            f"{path}: run {run!r}: {reason}; {fetch if reason == NO_WEIGHTS else 'take the run off this profile'}"
        )
    torch.manual_seed(mixed_seed(seed))
    network = Network(settings.network)
    try:
        network.backbone.load_torchvision(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # torch and pickle raise a dozen different things on a broken or foreign file
        raise InputError(
            f"{path}: not torchvision's resnet50 weights ({' '.join(str(error).split())[:120]}); fetch them again"
        ) from None
    return network


def weights_file(definition: Run) -> Path:
    return paths.data_root("", embedded=False) / (definition.weights or "")


def unavailable(settings: Settings, run: str) -> str | None:
    """Why a run cannot be had in this profile, in a few words for its table row; None where it can."""
    definition = load_run(run)
    if reason := left_out(settings.profile, run):
        return reason
    if definition.method != PRETRAINED:
        return None
    if (settings.network.backbone, settings.network.width) != ("resnet50", 64):
        return OTHER_NETWORK
    return None if weights_file(definition).is_file() else NO_WEIGHTS


def network_of(path: Path, settings: Settings) -> Network:
    """The evaluated network inside a checkpoint; InputError when it is of another shape than the settings
    say.
    """
    weights = {
        key.removeprefix("network."): value
        for key, value in load_checkpoint(path).method.items()
        if key.startswith("network.")
    }
    network = Network(settings.network)
    try:
        network.load_state_dict(weights)
    except RuntimeError:
        raise InputError(
            f"{path}: holds another network than the profile's 'network' section describes; delete it and run `dvc repro`"
        ) from None
    return network


def load_features(settings: Settings, run: str, method: str, seed: int) -> Features:
    if method in BASELINES:
        return BaselineFeatures(method)
    return NetworkFeatures(load_network(settings, run, method, seed), pick_device(settings.device))


def feature_function(profile: str, run: str, seed: int, layer: str) -> Callable[[np.ndarray], torch.Tensor]:
    """One layer of a run, for pictures: (B, H, W, 3) uint8 -> (B, C, h, w)."""
    settings = load_settings(profile, run)
    return single_layer(load_features(settings, run, load_run(run).method, seed), layer)


def layers_of(definition: Run) -> tuple[str, ...]:
    """The layers of a run that mean something: those its method trained. Of a random network and of colour,
    all.
    """
    if definition.method == PRETRAINED:
        return ("backbone",)
    return REGISTRY[definition.method].layers if definition.method in REGISTRY else LAYERS


def probe_settings(settings: Settings, definition: Run) -> ProbeSettings:
    """The probe's settings for a run: heads on the layers it trained; the protocol `finetune` where it goes
    on from a checkpoint.
    """
    if _is_fine_tuned(definition):
        own = settings.finetune
        changed = {
            "heads": (own.head,),
            "end_to_end_iterations": own.iterations,
            "fcn_dilation": own.dilation,
        }
        return settings.probe.model_copy(
            update=changed | own.model_dump(exclude={"head", "iterations", "dilation"})
        )
    heads = tuple(head for head in settings.probe.heads if head.partition("-")[2] in layers_of(definition))
    if not heads:
        raise InputError(
            f"setting 'probe.heads': none reads a layer that method {definition.method!r} trains ({', '.join(layers_of(definition))})"
        )
    return settings.probe.model_copy(update={"heads": heads})


def _is_fine_tuned(definition: Run) -> bool:
    return definition.end_to_end and definition.checkpoint_of is not None


def probe_task(settings: Settings, run: str, definition: Run, seed: int, tick: Tick) -> dict[str, Any]:
    """Scores of each probe head: see `hgrl.evaluation.probe`. Also keeps every image's confusion matrix, and
    some predictions of the first seed.
    """
    features = load_features(settings, run, definition.method, seed)
    if definition.end_to_end and not isinstance(features, NetworkFeatures):
        raise InputError(
            f"params.yaml: run {run!r}: method {definition.method!r} has nothing to train end to end; take end_to_end off"
        )
    trained, probe = features.network if definition.end_to_end else None, probe_settings(settings, definition)
    heads, val = fit_heads(settings, probe, features, seed, trained)
    confusions = image_confusions(features, heads, val, probe)
    save_confusions(confusion_file(settings.profile, run, seed), confusions)
    if seed == settings.seeds[0]:
        for index in range(min(PICTURES, len(val))):
            predicted = predict(
                features, heads, val.image(index, probe.short_side)[None], val.mask(index).shape
            )
            write_png(prediction_file(settings.profile, run, index), predicted[probe.heads[0]][0])
    tick(1)
    return split_scores(confusions, val.classes)


def fit_heads(
    settings: Settings, probe: ProbeSettings, features: Features, seed: int, trained: nn.Module | None = None
) -> tuple[nn.ModuleDict, Samples]:
    """Heads trained on the profile's labelled images, and the reported split to score them on."""
    root, device = data_root(settings), pick_device(settings.device)
    train, val = (
        open_samples(source, root) for source in (settings.data.probe_train, settings.data.probe_val)
    )
    return train_probe(
        features, train, probe, seed, trained, settings.pretrain.workers if device.type == "cuda" else 0
    ), val


def prediction_file(profile: str, run: str, index: int) -> Path:
    """The class map that the first seed's first head predicts for an image of the reported split."""
    return paths.artifacts(profile) / "predictions" / run / f"{index}.png"


def retrieval_task(settings: Settings, run: str, definition: Run, seed: int, tick: Tick) -> dict[str, Any]:
    """Scores of each layer that the run trained: see `hgrl.evaluation.retrieval`."""
    root = data_root(settings)
    train, val = (
        open_samples(source, root) for source in (settings.data.probe_train, settings.data.probe_val)
    )
    features = load_features(settings, run, definition.method, seed)
    layers = [layer for layer in settings.retrieval.layers if layer in layers_of(definition)]
    if definition.method in BASELINES:
        layers = ["embedding"]
    scores = {
        layer: retrieve(train, val, single_layer(features, layer), settings.retrieval, seed)
        for layer in layers
    }
    tick(1)
    return scores


def tracking_task(settings: Settings, run: str, definition: Run, seed: int, tick: Tick) -> dict[str, Any]:
    """J and F over all videos: see `hgrl.evaluation.tracking`, and `tracking_features` for the layer."""
    videos = open_videos(settings.data.videos, data_root(settings))
    if definition.method in TRACKERS:
        scores = evaluate_tracking(videos, TRACKERS[definition.method], settings.tracking)
    else:
        function = tracking_features(
            load_features(settings, run, definition.method, seed), settings.tracking, layers_of(definition)
        )
        scores = evaluate_tracking(videos, feature_tracker(function), settings.tracking)
    tick(1)
    return scores


TASKS = {"probe": probe_task, "retrieval": retrieval_task, "tracking": tracking_task}


def evaluate(stage: str, profile: str, runs: str = "all") -> dict[str, dict[int, Any]]:
    """Score `runs` (comma-separated names, or all that `params.yaml` lists for the stage) with every seed;
    {run: {seed: scores}}.

    Writes results/<profile>/<stage>/<run>.json and results/<profile>/metrics/<stage>.json. Each finished
    score is kept at once: an interrupted evaluation goes on where it was, and a score whose checkpoint,
    settings, data and code are unchanged is read, not made again. Raises InputError for an unknown run, and
    for one whose checkpoint is missing, half trained or of another network. Listed runs that are not to be
    had here (`unavailable`) are left out, which is said; named ones are an InputError.
    """
    started = time.monotonic()
    names = (
        _available(profile, listed_runs(stage))
        if runs == "all"
        else [name.strip() for name in runs.split(",")]
    )
    waiting, jobs = [], load_settings(profile).jobs
    for run in names:
        settings, definition = load_settings(profile, run), load_run(run)
        for seed in seeds_of(stage, settings, definition):
            mark = _fingerprint(stage, settings, run, definition, seed)
            if kept(_score_file(stage, profile, run, seed), mark, _beside(stage, profile, run, seed)) is None:
                waiting.append((stage, settings, run, definition, seed, mark))
    run_tasks(_score, waiting, jobs, f"{stage}: {len(names)} runs, seeds to score", len(waiting))
    scores = {run: _gather(stage, profile, run, started) for run in names}
    summary = {run: summarise(list(seeds.values())) for run, seeds in scores.items()}
    others = (
        read_json(paths.metrics(profile, stage))
        if runs != "all" and paths.metrics(profile, stage).exists()
        else {}
    )
    write_json(paths.metrics(profile, stage), {**others, **summary})
    return scores


def listed_runs(stage: str) -> list[str]:
    """The runs that `params.yaml` lists for a stage."""
    names = load_yaml(paths.PARAMS).get(stage)
    if not isinstance(names, list) or not names:
        raise InputError(f"{paths.PARAMS}: section {stage!r} is missing or not a list of runs")
    return names


def _available(profile: str, names: list[str]) -> list[str]:
    reasons = {name: unavailable(load_settings(profile, name), name) for name in names}
    for name, reason in reasons.items():
        if reason:
            print(f"run {name!r} is left out: {reason}")
    return [name for name, reason in reasons.items() if reason is None]


def summarise(scores: list[Any]) -> Any:
    """Mean and deviation over the seeds of every number in equally built nested dicts: {"miou_mean",
    "miou_std", "seeds"}.

    Deviations are the sample's (n - 1), and 0 for a single seed. Lists, texts and what is None in a seed are
    left out.
    """
    summary: dict[str, Any] = {}
    for key, value in scores[0].items():
        values = [seed[key] for seed in scores]
        if isinstance(value, dict):
            summary[key] = summarise(values)
        elif all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
            summary |= {
                f"{key}_mean": float(np.mean(values)),
                f"{key}_std": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0,
            }
            summary["seeds"] = len(values)
    return summary


def seeds_of(stage: str, settings: Settings, definition: Run) -> tuple[int, ...]:
    """All seeds; one where nothing is random (trackers without a network)."""
    deterministic = stage == "tracking" and definition.method in (*TRACKERS, *BASELINES)
    return settings.seeds[:1] if deterministic else settings.seeds


def _score(
    stage: str, settings: Settings, run: str, definition: Run, seed: int, mark: str, tick: Tick
) -> None:
    if definition.method in REGISTRY:
        _require_trained(checkpoint_file(settings.profile, run, seed))
    scores = TASKS[stage](settings, run, definition, seed, tick)
    keep(
        _score_file(stage, settings.profile, run, seed),
        mark,
        scores,
        _beside(stage, settings.profile, run, seed),
    )


def _require_trained(path: Path) -> None:
    saved = load_checkpoint(path)
    if not saved.complete:
        raise InputError(
            f"{path}: trained to step {saved.step} of {saved.total_steps} only; run `dvc repro` to finish it"
        )


def _gather(stage: str, profile: str, run: str, started: float) -> dict[int, Any]:
    settings, definition = load_settings(profile, run), load_run(run)
    scores = {
        seed: read_json(_score_file(stage, profile, run, seed))["scores"]
        for seed in seeds_of(stage, settings, definition)
    }
    content = {"method": definition.method, "seeds": scores}
    write_results(profile, stage, run, content, _sections(stage, settings, definition), started)
    return scores


def _sections(stage: str, settings: Settings, definition: Run) -> dict[str, Any]:
    """The settings that decide a run's scores."""
    names = {stage, "data", "network"} | (
        {"finetune"} if stage == "probe" and _is_fine_tuned(definition) else set()
    )
    return settings.model_dump(mode="json", include=names)


def _fingerprint(stage: str, settings: Settings, run: str, definition: Run, seed: int) -> str:
    sections = _sections(stage, settings, definition)
    weights = (
        weights_file(definition)
        if definition.method == PRETRAINED
        else checkpoint_file(settings.profile, run, seed)
    )
    return fingerprint(
        sections,
        definition.model_dump(mode="json"),
        seed,
        weights,
        manifest_path(settings.profile),
        code_fingerprint(stage),
    )


def _score_file(stage: str, profile: str, run: str, seed: int) -> Path:
    return paths.scores(profile, stage) / f"{run}-seed{seed}.json"


def _beside(stage: str, profile: str, run: str, seed: int) -> Path | None:
    """The file that a score is of no use without: the probe's matrices."""
    return confusion_file(profile, run, seed) if stage == "probe" else None
