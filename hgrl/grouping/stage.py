"""The stages `hed` and `grouping`: a profile's edge network, and region trees of its pretraining images."""

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from hgrl.core.cache import code_fingerprint, fingerprint
from hgrl.core.errors import InputError
from hgrl.core.experiment import Experiment
from hgrl.core.files import read_json, remove_unfinished, write_json
from hgrl.core.progress import bar
from hgrl.core.results import write_results
from hgrl.core.settings import Settings
from hgrl.data.samples import Samples
from hgrl.data.sources import grouped_samples, open_samples, pretraining_samples
from hgrl.grouping.edges import EdgeNetwork, edge_network
from hgrl.grouping.group import group_images, height_scale, tree_recipe
from hgrl.grouping.outputs import inspect
from hgrl.grouping.region_tree import load_tree


def train_edge_network(experiment: Experiment) -> dict[str, Any]:
    """Train the network of `edges: hed` on the profile's human boundaries, and say how; a trained one stays.

    On a CPU torch is held to one thread, so that the weights do not depend on the number of cores."""
    from hgrl.core.checkpoint import remove_aside, set_stale_aside, stale_reason  # here: it needs torch
    from hgrl.core.device import one_thread, pick_device
    from hgrl.grouping.hed.training import hed_identity, initial_network, train_hed

    settings, files, started = experiment.settings, experiment.files, time.monotonic()
    samples = [open_samples(source, experiment.data_root) for source in settings.hed.sources]
    path, device, summary_file = files.hed_weights, pick_device(settings.device), files.result("hed", "hed")
    origin = code_fingerprint("hgrl.grouping.hed.training")
    identity = hed_identity(samples, settings.hed, initial_network(settings.hed)[1], origin)
    set_stale_aside(path, stale_reason(path, identity), files.set_aside(path))
    remove_unfinished(path.parent)
    before = fingerprint(path)
    with one_thread(device):
        saved = train_hed(samples, settings.hed, path, device, origin)
    remove_aside(files.set_aside(path))
    if fingerprint(path) == before and summary_file.exists():
        return read_json(summary_file)  # trained before: the time it took stays on record
    summary = {name: saved.identity[name] for name in ("trunk", "images")}
    summary |= {"iterations": saved.step, "loss": float(saved.losses[-50:].mean())}
    write_results(experiment, "hed", "hed", summary, settings.hed.model_dump(mode="json"), started)
    return summary


def group(experiment: Experiment, grouping: str | None = None) -> dict[str, Any]:
    """Region trees of all pretraining images, and the scale of `height_unit: auto`; returns a summary.

    grouping: one of the profile's `groupings`, whose trees lie in a folder of their own; None: the profile's
    `grouping` itself, by which the images of `data.extra` are grouped too, without a say in the scale. A tree
    stays unless its image, the settings or the code has changed, and until its successor is whole; trees of
    images that left the set go at the end. Images that cannot be read are listed in the summary."""
    settings, files, started = experiment.settings_with(grouping=grouping), experiment.files, time.monotonic()
    own, samples = _samples(experiment, settings, grouping)
    network = _edge_network(experiment, settings)
    remove_unfinished(files.trees(grouping))
    failures = group_images(samples, files.trees(grouping), settings.grouping, settings.jobs, network=network)
    grown = [name for name in own.names if name not in failures]
    if not grown:
        first = next(iter(failures.values()), "there is none")
        raise InputError(f"none of the {len(own)} pretraining images could be grouped; the first: {first}")
    trees, origins = zip(*(load_tree(files.tree_file(name, grouping)) for name in grown), strict=True)
    scale = height_scale(trees, settings.sampling.sigma_p, settings.grouping.self_target)
    wanted = _origins(experiment, settings, samples) if failures else {}
    about = {"scale": scale, "failed": {name: wanted[name] for name in failures}}
    made_by = _mark(settings, dict(zip(grown, origins, strict=True)))
    write_json(files.height_scale(grouping), about | {"made_by": made_by})
    _remove_others(samples, files.trees(grouping))
    regions = np.array([tree.regions for tree in trees])
    spread = {"median": float(np.median(regions)), "min": int(regions.min()), "max": int(regions.max())}
    summary = {"images": len(trees), "failures": failures, "regions": spread, "height_scale": scale}
    if len(samples) > len(own):
        summary["extra_images"] = len(samples) - len(failures) - len(trees)
    name = files.trees(grouping).name
    write_results(experiment, "grouping", name, summary, settings.grouping.model_dump(mode="json"), started)
    return summary


def _samples(experiment: Experiment, settings: Settings, grouping: str | None) -> tuple[Samples, Samples]:
    """The pretraining images, and all that are grouped."""
    own = pretraining_samples(settings.data, experiment.data_root)
    return own, own if grouping else grouped_samples(settings.data, experiment.data_root)


def _origins(experiment: Experiment, settings: Settings, samples: Samples) -> dict[str, str]:
    """What each image's tree is made from today, as a fingerprint, by name."""
    network = EdgeNetwork(experiment.files.hed_weights) if settings.grouping.edges == "hed" else None
    recipe, images = tree_recipe(settings.grouping, network), zip(samples.names, samples.images, strict=True)
    return {name: fingerprint(recipe, image) for name, image in images}


def _mark(settings: Settings, origins: dict[str, str]) -> str:
    """A fingerprint of what decides the height scale: the trees that it is measured on, and its target."""
    return fingerprint(origins, settings.sampling.sigma_p, settings.grouping.self_target)


def _remove_others(samples: Samples, folder: Path) -> None:
    """Remove the trees that grouping wrote for other images, and the folders that this leaves empty."""
    names = set(samples.names)
    for path in sorted(folder.rglob("*.npz")):
        if path.relative_to(folder).with_suffix("").as_posix() not in names and inspect(path)[0]:
            path.unlink()
            with suppress(OSError):
                path.parent.rmdir()


def _edge_network(experiment: Experiment, settings: Settings) -> EdgeNetwork | None:
    """The edge network if the grouping asks for one; InputError if it is missing or foreign."""
    kind, trained = settings.grouping.edges, experiment.files.hed_weights
    if kind == "forest":
        return None
    from hgrl.core.device import pick_device
    from hgrl.grouping.edge_network import load_network

    if kind == "hed" and not trained.exists():
        remedy = f"run `dvc repro hed@{experiment.profile}` first"
        raise InputError(f"{trained}: no trained edge network; {remedy}")
    network = edge_network(settings.grouping, EdgeNetwork(trained) if kind == "hed" else None)
    load_network(network.weights, kind)
    return network._replace(device=str(pick_device(settings.device)))


def is_grouped(experiment: Experiment, grouping: str | None = None) -> bool:
    """Whether all trees and the scale are of today's settings, images and code.

    An image that could not be grouped, and has not changed since, needs no tree."""
    settings, files = experiment.settings_with(grouping=grouping), experiment.files
    if not files.height_scale(grouping).exists():
        return False
    made, (own, samples) = read_json(files.height_scale(grouping)), _samples(experiment, settings, grouping)
    wanted, failed = _origins(experiment, settings, samples), made.get("failed", {})
    for name, origin in bar(wanted.items(), desc="checking the trees"):
        tree = files.tree_file(name, grouping)
        if inspect(tree)[1] != origin and (tree.exists() or failed.get(name) != origin):
            return False
    own_origins = {name: wanted[name] for name in own.names if name not in failed}
    return made.get("made_by") == _mark(settings, own_origins)


def auto_height_scale(experiment: Experiment, grouping: str | None = None) -> float:
    """The factor of `height_unit: auto`, as the stage measured it."""
    return read_json(experiment.files.height_scale(grouping))["scale"]
