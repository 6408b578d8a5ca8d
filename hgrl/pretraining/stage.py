"""The stages of the pipeline, as the notebooks and `dvc.yaml` call them: settings by profile name in, files
out.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hgrl.core import paths
from hgrl.core.checkpoint import Checkpoint, delete_run, load_checkpoint, mend, snapshot_file, snapshot_step
from hgrl.core.errors import InputError
from hgrl.core.files import read_json, write_json, write_text
from hgrl.core.interruption import passing_on_sigterm
from hgrl.core.left_out import LOSS_COLUMNS
from hgrl.core.processes import run_tasks
from hgrl.core.provenance import code_fingerprint, fingerprint, machine
from hgrl.core.settings import Settings, Source, left_out, load_run, load_settings, trained_run
from hgrl.data.samples import Samples
from hgrl.data.scenes.draw import is_complete, make_scenes
from hgrl.data.sources import (
    data_root,
    extra_sources,
    grouped_samples,
    open_samples,
    open_videos,
    pretraining_samples,
)
from hgrl.grouping.edges import EdgeNetwork
from hgrl.grouping.group import group_images, height_scale
from hgrl.grouping.hed.network import load_hed
from hgrl.grouping.hed.training import hed_identity, initial_network, train_hed
from hgrl.grouping.region_tree import RegionTree
from hgrl.pretraining import ranks as distributed
from hgrl.pretraining.loop import pick_device, run_identity, training_device
from hgrl.pretraining.loop import pretrain as pretrain_one
from hgrl.pretraining.methods import REGISTRY, Method, method_files


def prepare_data(profile: str) -> dict[str, Any]:
    """Draw the embedded data set, or look through the real ones; writes a manifest that later stages depend
    on.
    """
    settings = load_settings(profile)
    if settings.data.scenes is not None:
        make_scenes(data_root(settings), settings.data.scenes, settings.jobs)
    val = open_samples(settings.data.probe_val, data_root(settings))
    manifest = {
        "profile": profile,
        "settings": settings.data.model_dump(mode="json"),
        "sets": {name: _describe(samples) for name, samples in _all_sets(settings).items()},
    }
    manifest["class_frequency"] = _class_frequency(val)
    write_json(manifest_path(profile), manifest)
    return manifest


def manifest_path(profile: str) -> Path:
    return paths.scenes(profile) / "manifest.json"


def _all_sets(settings: Settings) -> dict[str, Any]:
    root, data = data_root(settings), settings.data
    extra = {set_name(source): open_samples(source, root).images for source in extra_sources(settings)}
    return extra | {
        "pretrain": pretraining_samples(settings).images,
        "probe_train": open_samples(data.probe_train, root).images,
        "probe_val": open_samples(data.probe_val, root).images,
        "videos": [frame for video in open_videos(data.videos, root) for frame in video.frames],
    }


def set_name(source: Source) -> str:
    """What a source of `data.extra` is called in the manifest."""
    return f"{source.folder}/{source.split}"


def _describe(files: Any) -> dict[str, Any]:
    sizes = [(path.name, path.stat().st_size) for path in files]
    return {"files": len(sizes), "bytes": sum(size for _, size in sizes), "fingerprint": fingerprint(sizes)}


def _class_frequency(samples: Samples) -> dict[str, float]:
    """The share of the scored pixels that each class has (the first row of table 2)."""
    counts = sum(
        np.bincount(samples.mask(index).ravel(), minlength=256)[:255] for index in range(len(samples))
    )
    return {name: float(counts[index] / counts.sum()) for index, name in enumerate(samples.classes)}


def train_edge_network(profile: str) -> dict[str, Any]:
    """Train the network of `edges: hed` on the profile's human boundaries, and say how; a trained one stays
    as it is.

    Torch is held to one thread on a CPU, so that the weights do not depend on the number of cores.
    """
    settings, started = load_settings(profile), time.monotonic()
    samples, path, device = _contours(settings), paths.hed_weights(profile), pick_device(settings.device)
    origin = code_fingerprint("hed")
    _discard_stale(path, hed_identity(samples, settings.hed, initial_network(settings.hed)[1], origin))
    if path.exists() and paths.hed_summary(profile).exists() and load_checkpoint(path).complete:
        return read_json(paths.hed_summary(profile))  # trained before: the time it took stays on record
    with _one_thread(device):
        saved = train_hed(samples, settings.hed, path, device, origin)
    summary = {
        "trunk": saved.identity["trunk"],
        "images": saved.identity["images"],
        "iterations": saved.step,
        "loss": float(saved.losses[-50:].mean()),
    }
    write_results(profile, "hed", "hed", summary, settings.hed.model_dump(mode="json"), started)
    return summary


def _contours(settings: Settings) -> list[Samples]:
    return [open_samples(source, data_root(settings)) for source in settings.hed.sources]


@contextmanager
def _one_thread(device: torch.device) -> Iterator[None]:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if device.type == "cpu" else threads)
        yield
    finally:
        torch.set_num_threads(threads)


def group(profile: str, grouping: str | None = None) -> dict[str, Any]:
    """Region trees of all pretraining images, and the scale of `height_unit: auto`.

    grouping: one of the profile's `groupings`, whose trees lie in a folder of their own; None: the profile's
    `grouping` itself, by which the images of `data.extra` are grouped too. They have no say in the scale,
    which is the same with and without them.
    Trees that are there stay, unless settings, data or code have changed since; images that cannot be read
    are listed in the summary, and the others go on.
    """
    settings = load_settings(profile, grouping=grouping)
    own, started = pretraining_samples(settings), time.monotonic()
    samples = own if grouping else grouped_samples(settings)
    network = _edge_network(profile, settings)
    _discard_stale_trees(profile, grouping, _grouping_mark(profile, settings))
    folder = paths.trees(profile, grouping)
    failures = group_images(samples, folder, settings.grouping, settings.jobs, network=network)
    trees = [
        RegionTree.load(tree_path(profile, name, grouping)) for name in own.names if name not in failures
    ]
    if not trees:
        first = next(iter(failures.values()), "there is none")
        raise InputError(f"none of the {len(own)} pretraining images could be grouped; the first: {first}")
    scale = height_scale(trees, settings.sampling.sigma_p, settings.grouping.self_target)
    write_json(
        folder / "height_scale.json",
        {"scale": scale, "sigma_p": settings.sampling.sigma_p, "target": settings.grouping.self_target},
    )
    regions = np.array([len(tree.heights) + 1 for tree in trees])
    summary = {
        "images": len(trees),
        "failures": failures,
        "regions": {
            "median": float(np.median(regions)),
            "min": int(regions.min()),
            "max": int(regions.max()),
        },
        "height_scale": scale,
    } | ({"extra_images": len(samples) - len(failures) - len(trees)} if len(samples) > len(own) else {})
    write_results(
        profile, "grouping", folder.name, summary, settings.grouping.model_dump(mode="json"), started
    )
    return summary


def _edge_network(profile: str, settings: Settings) -> EdgeNetwork | None:
    """The profile's trained edge network where its grouping asks for one; a missing or foreign file is told
    before any image is read.
    """
    if settings.grouping.edges != "hed":
        return None
    path = paths.hed_weights(profile)
    if not path.exists():
        raise InputError(f"{path}: no trained edge network; run `dvc repro hed@{profile}` first")
    load_hed(path)
    in_workers = settings.jobs > 1  # each process would need a copy of the network on the card
    return EdgeNetwork(path, "cpu" if in_workers else str(pick_device(settings.device)))


def _grouping_mark(profile: str, settings: Settings) -> dict[str, str]:
    """What decides the trees, by name."""
    mark = {
        "settings": fingerprint(settings.grouping.model_dump(mode="json", exclude={"self_target"})),
        "data": fingerprint(manifest_path(profile)),
        "code": code_fingerprint("grouping"),
    }
    return mark | (
        {"edge network": fingerprint(paths.hed_weights(profile))} if settings.grouping.edges == "hed" else {}
    )


def _trees_mark(profile: str, grouping: str | None) -> Path:
    return paths.trees(profile, grouping) / "made_by.json"


def _discard_stale_trees(profile: str, grouping: str | None, mark: dict[str, str]) -> None:
    """Trees of other settings, data or code go before any new one is made: a folder never holds two kinds."""
    path, folder = _trees_mark(profile, grouping), paths.trees(profile, grouping)
    kept = read_json(path) if path.exists() else {}
    if kept != mark and folder.exists():
        changed = ", ".join(name for name in mark if kept.get(name) != mark[name])
        print(f"{folder}: made anew, because these changed: {changed}")
        shutil.rmtree(folder)
    write_json(path, mark)


def tree_path(profile: str, name: str, grouping: str | None = None) -> Path:
    return paths.trees(profile, grouping) / f"{name}.npz"


def auto_height_scale(profile: str, grouping: str | None = None) -> float:
    return read_json(paths.trees(profile, grouping) / "height_scale.json")["scale"]


def training_samples(
    profile: str, settings: Settings, method: str = "hierarchical", grouping: str | None = None
) -> Samples:
    """The pretraining images that have a tree: those that could not be read are left out, for methods without
    trees too.

    All images of a run's own `data.pretrain` where the method reads no trees and none were grown for them.
    The probe's labelled images where the method learns from labels.
    """
    definition = REGISTRY.get(method, Method)
    if definition.needs_classes:
        return open_samples(settings.data.probe_train, data_root(settings))
    samples = pretraining_samples(settings)
    if not definition.needs_trees and not _is_grouped(profile, settings, grouping):
        return samples
    return samples.subset(
        [index for index, name in enumerate(samples.names) if tree_path(profile, name, grouping).exists()]
    )


def _is_grouped(profile: str, settings: Settings, grouping: str | None) -> bool:
    """Whether the profile's grouping grows trees for all that a run learns from."""
    data = load_settings(profile).data
    return set(settings.data.pretrain) <= {*data.pretrain, *(() if grouping else data.extra)}


def pretrain(profile: str, run: str, seed: int | None = None) -> list[Checkpoint]:
    """Train a run with every seed, side by side, or with one alone; seeds that are trained already stay as
    they are.

    Where `torchrun` started this process, all of its processes train the seeds together, one after the other;
    the first one writes.
    Scores and curves are written when all seeds are asked for. Raises Stopped after a SIGTERM: the
    checkpoints are then not complete.
    """
    if reason := left_out(profile, run):
        raise InputError(f"run {run!r} is left out of profile {profile!r}: {reason}; see {paths.PARAMS}")
    if trained_run(run) != run:
        raise InputError(
            f"{paths.PARAMS}: run {run!r} has the checkpoints of {trained_run(run)!r}; list that under 'trained', not this"
        )
    settings, definition, started = load_settings(profile, run), load_run(run), time.monotonic()
    if seed is not None and seed not in settings.seeds:
        raise InputError(
            f"profile {profile}: seed {seed} is none of its seeds; choose one of: {', '.join(map(str, settings.seeds))}"
        )
    one = settings if seed is None else settings.model_copy(update={"seeds": (seed,)})
    folder = paths.checkpoints(profile, run)
    with distributed.processes(training_device(settings.device)):
        checkpoints = train_seeds(
            profile, definition.method, one, folder, desc=f"pretrain {run}", grouping=definition.grouping
        )
        if seed is None:
            distributed.from_first(lambda: _write_training(profile, run, settings, checkpoints, started))
    return checkpoints


def _write_training(
    profile: str, run: str, settings: Settings, checkpoints: list[Checkpoint], started: float
) -> None:
    scores = {
        seed: {"loss": float(saved.losses[-50:].mean()), "steps": saved.step}
        for seed, saved in zip(settings.seeds, checkpoints, strict=True)
    }
    write_results(profile, "pretraining", run, {"seeds": scores}, settings.model_dump(mode="json"), started)
    write_text(
        paths.results(profile) / "pretraining" / f"{run}.csv", _loss_curves(settings.seeds, checkpoints)
    )


def _loss_curves(seeds: tuple[int, ...], checkpoints: list[Checkpoint], points: int = 100) -> str:
    """CSV of the loss over the steps, each point the mean of its stretch of the run: what `dvc plots` draws."""
    rows = [LOSS_COLUMNS]
    for seed, saved in zip(seeds, checkpoints, strict=True):
        stretches = np.array_split(np.arange(saved.step), min(points, saved.step))
        rows += [
            f"{seed},{stretch[-1] + 1},{saved.losses.numpy()[stretch].mean():.6f}" for stretch in stretches
        ]
    return "\n".join(rows) + "\n"


def train_seeds(
    profile: str, method: str, settings: Settings, folder: Path, desc: str, grouping: str | None = None
) -> list[Checkpoint]:
    """One checkpoint `seed<k>.pt` in `folder` for each of `settings.seeds`, from the trees of the named
    grouping.

    Of several processes the first alone reads them back: the others return none.
    """
    tasks = training_tasks(profile, method, settings, folder, grouping)
    images = len(training_samples(profile, settings, method, grouping))
    steps = settings.pretrain.run_epochs * (images // min(settings.pretrain.batch, images))
    jobs, first = settings.jobs if distributed.world() == 1 else 1, distributed.is_first()
    with passing_on_sigterm():
        run_tasks(train, tasks, jobs, f"{desc}: {len(tasks)} seeds, steps", steps * len(tasks), shown=first)
    return [load_checkpoint(folder / f"seed{seed}.pt") for seed in settings.seeds] if first else []


def training_tasks(
    profile: str, method: str, settings: Settings, folder: Path, grouping: str | None = None
) -> list[tuple]:
    """The arguments of `train` for each of `settings.seeds`; checkpoints that are of no use to them are
    removed, damaged ones mended.
    """
    samples, trees = training_samples(profile, settings, method, grouping), paths.trees(profile, grouping)
    if not len(samples):
        stage = f"grouping-{grouping}" if grouping else "grouping"
        listed = _is_grouped(profile, settings, grouping)
        first = (
            ""
            if listed
            else f"list the run's own `data.pretrain` under 'data.extra' in {paths.profile_file(profile)}, then "
        )
        raise InputError(f"{trees}: no region trees; {first}run `dvc repro {stage}@{profile}` first")
    code = (code_fingerprint("pretrain", leave_out=("methods",)), *method_files(method))
    origin = fingerprint(*code, samples.names, manifest_path(profile), trees / "height_scale.json")
    tasks = []
    for seed in settings.seeds:
        path, identity = folder / f"seed{seed}.pt", run_identity(method, settings, len(samples), seed, origin)
        distributed.from_first(
            lambda path=path, identity=identity: _make_ready(path, identity, settings.pretrain.snapshots)
        )
        tasks.append(
            (method, settings, samples, trees, auto_height_scale(profile, grouping), path, seed, origin)
        )
    return tasks


def _make_ready(path: Path, identity: dict[str, Any], snapshots: tuple[float, ...]) -> None:
    mend(path, identity)
    _discard_stale(path, identity)
    _discard_without_snapshots(path, identity, snapshots)


def _discard_without_snapshots(path: Path, identity: dict[str, Any], shares: tuple[float, ...]) -> None:
    """A run that has passed the place of a snapshot and has none cannot go back for it: it is trained anew,
    and the reader is told.
    """
    if not path.exists() or not shares:
        return
    saved = load_checkpoint(path)
    passed = [share for share in shares if snapshot_step(share, saved.total_steps) <= saved.step]
    if missing := [share for share in passed if not _is_snapshot(snapshot_file(path, share), identity)]:
        print(
            f"{path.name}: training anew, because its snapshots at {', '.join(map(str, missing))} of the run are missing"
        )
        delete_run(path)


def _is_snapshot(path: Path, identity: dict[str, Any]) -> bool:
    try:
        return not load_checkpoint(path).differing(identity)
    except InputError:
        return False


def train(
    method: str,
    settings: Settings,
    samples: Samples,
    trees: Path,
    scale: float,
    path: Path,
    seed: int,
    origin: str,
    tick: Callable,
) -> None:
    """Train one seed up to its last step, from its checkpoint where there is one."""
    pretrain_one(method, settings, samples, trees, scale, path, seed, tick, origin=origin)


def _discard_stale(path: Path, identity: dict[str, Any]) -> None:
    """A checkpoint of other settings, data or code is of no use to this run: it goes, and the reader is told."""
    if not path.exists():
        return
    try:
        differing = load_checkpoint(path).differing(identity)
    except InputError as error:
        differing = [str(error)]
    if differing:
        print(f"{path.name}: training anew, because these changed: {', '.join(differing[:4])}")
        delete_run(path)


def write_results(
    profile: str, stage: str, name: str, content: dict[str, Any], settings: dict[str, Any], started: float
) -> None:
    """Scores in `<name>.json`, equal whenever they are made again; settings, versions, time and machine in
    `<name>.origin.json`.
    """
    folder = paths.results(profile) / stage
    write_json(folder / f"{name}.json", {"profile": profile, "stage": stage, "name": name, **content})
    write_json(folder / f"{name}.origin.json", {"settings": settings, **machine(started)})


def prepare(profile: str, *runs: str, grouping: str | None = None) -> None:
    """Make what a notebook reads where it is missing: data, the trees of a grouping, and the checkpoints of
    `runs`.

    In the pipeline all is there; a reader who opens one notebook alone waits for the smoke-sized rest.
    """
    settings = load_settings(profile)
    if not _is_prepared(profile, settings):
        prepare_data(profile)
    _prepare_trees(profile, grouping)
    for run in runs:
        definition = load_run(run)
        if definition.method in REGISTRY:
            if definition.grouping != grouping:
                _prepare_trees(profile, definition.grouping)
            pretrain(profile, trained_run(run))


def _prepare_trees(profile: str, grouping: str | None) -> None:
    settings = load_settings(profile, grouping=grouping)
    if settings.grouping.edges == "hed":
        train_edge_network(profile)
    mark, scale = _trees_mark(profile, grouping), paths.trees(profile, grouping) / "height_scale.json"
    if not scale.exists() or not mark.exists() or read_json(mark) != _grouping_mark(profile, settings):
        group(profile, *filter(None, [grouping]))


def _is_prepared(profile: str, settings: Settings) -> bool:
    path = manifest_path(profile)
    if not path.exists() or read_json(path).get("settings") != settings.data.model_dump(mode="json"):
        return False
    return settings.data.scenes is None or is_complete(data_root(settings), settings.data.scenes)
