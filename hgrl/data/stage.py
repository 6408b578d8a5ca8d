"""The stage `data`: draws the embedded scenes, or looks through the real data sets, and writes a manifest."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from hgrl.core.cache import fingerprint
from hgrl.core.data_settings import Source
from hgrl.core.errors import InputError
from hgrl.core.experiment import Experiment
from hgrl.core.files import read_json, remove_unfinished, write_json
from hgrl.core.labels import VOID
from hgrl.core.progress import bar
from hgrl.data.samples import Samples
from hgrl.data.scenes.draw import is_complete, make_scenes
from hgrl.data.sources import (
    clip_frames,
    extra_sources,
    image_classes,
    open_labelled,
    open_samples,
    open_videos,
    pretraining_samples,
)


def prepare_data(experiment: Experiment) -> dict[str, Any]:
    """Draws scenes that are not there yet; writes, and returns, the manifest that later stages depend on."""
    data, root = experiment.settings.data, experiment.data_root
    remove_unfinished(experiment.files.data)
    if data.scenes is not None:
        make_scenes(root, data.scenes, experiment.settings.jobs)
    sets = {set_name(source): open_samples(source, root).images for source in extra_sources(data, root)}
    sets["pretrain"] = pretraining_samples(data, root).images
    frequencies = {}
    for name, labelled in data.labelled.items():
        both = dict(zip((f"{name}.train", f"{name}.val"), open_labelled(labelled, root), strict=True))
        sets |= {part: samples.images for part, samples in both.items()}
        *_, frequencies[name] = (_class_frequency(samples, part) for part, samples in both.items())
    sets["labels"] = image_classes(data, root).images
    videos = open_videos(data.videos, root) if data.videos else ()
    sets["videos"] = [frame for video in videos for frame in video.frames]
    if data.clips is not None:
        sets["clips"] = clip_frames(data, root).images
    manifest = {
        "profile": experiment.profile,
        "settings": data.model_dump(mode="json"),
        "sets": {name: _described(files) for name, files in sets.items()},
        "class_frequency": frequencies,
    }
    write_json(experiment.files.manifest, manifest)
    return manifest


def is_prepared(experiment: Experiment) -> bool:
    """Whether the manifest is of these settings, and the scenes are all there."""
    data, path = experiment.settings.data, experiment.files.manifest
    found = read_json(path) if path.exists() else None
    if not isinstance(found, dict) or found.get("settings") != data.model_dump(mode="json"):
        return False
    return data.scenes is None or is_complete(experiment.data_root, data.scenes)


def set_name(source: Source) -> str:
    """What a source of `data.extra` is called in the manifest."""
    return f"{source.folder}/{source.split}"


def _described(files: Iterable[Path]) -> dict[str, Any]:
    sizes = [(path.name, path.stat().st_size) for path in files]
    return {"files": len(sizes), "bytes": sum(size for _, size in sizes), "fingerprint": fingerprint(sizes)}


def _class_frequency(samples: Samples, name: str) -> dict[str, float]:
    """The share of the scored pixels that each class has (the first row of table 2).

    Reads every mask, so that a bad one is told before anything is trained."""
    counts = np.zeros(len(samples.classes), np.int64)
    for index in bar(range(len(samples)), desc=f"masks of {name}", delay=5):
        mask = samples.mask(index)
        counts += np.bincount(mask[mask != VOID], minlength=len(counts))
    if not counts.any():
        raise InputError(f"{samples.masks[0]}: void in all its pixels, and so are all masks of {name}")
    return {name: float(count / counts.sum()) for name, count in zip(samples.classes, counts, strict=True)}
