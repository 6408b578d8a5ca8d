"""From a profile's `data` section to samples and videos: the one place that maps a kind to its loader."""

import dataclasses
from pathlib import Path

import numpy as np

from hgrl.core.data_settings import DataSettings, LabelledSet, Source
from hgrl.core.errors import InputError
from hgrl.core.labels import MOST_CLASSES, VOID
from hgrl.data.samples import Samples, Video
from hgrl.data.sets.bsds import open_bsds
from hgrl.data.sets.davis import open_davis, open_frames
from hgrl.data.sets.folder import open_folder
from hgrl.data.sets.unlabelled import open_coco, open_imagenet
from hgrl.data.sets.voc import open_voc

LOADERS = {
    "voc": open_voc,
    "coco": open_coco,
    "bsds": open_bsds,
    "folder": lambda root, folder, split: open_folder([root / folder / split]),
    "imagenet": open_imagenet,
}


def open_samples(source: Source, root: Path) -> Samples:
    """The images (and masks) of one split; for `bsds` a `ContourSamples`. InputError for what is missing."""
    if source.kind not in LOADERS:
        what = f"{source.folder} ({source.kind}) holds videos"
        raise InputError(f"setting data: {what}; images come from one of: {', '.join(LOADERS)}")
    if source.kind != "voc" and (source.classes is not None or source.void != VOID):
        which = f"{source.folder} ({source.kind}) has no masks of classes"
        raise InputError(f"settings 'classes' and 'void': {which}; only `kind: voc` has")
    samples = LOADERS[source.kind](Path(root), source.folder, source.split)
    if source.void != VOID:
        samples = dataclasses.replace(samples, void=source.void)
    if source.classes is not None:
        samples = samples.with_classes(source.classes)
    kept = _stretch(source, len(samples))
    return samples if len(kept) == len(samples) else samples.subset(kept)


def _stretch(source: Source, count: int) -> range:
    first, last = (round(end * count) for end in source.part)
    return range(first, last)


def open_labelled(labelled: LabelledSet, root: Path) -> tuple[Samples, Samples]:
    """Train and val of a set to judge features on. InputError where one has no masks, or other classes."""
    train, val = (open_samples(source, root) for source in (labelled.train, labelled.val))
    for source, samples in ((labelled.train, train), (labelled.val, val)):
        if samples.masks is None or not samples.classes:
            which = f"split {source.split!r} of {source.folder} ({source.kind}) has no masks of classes"
            raise InputError(f"setting 'data.labelled': {which}; name one that has (SegmentationClass/*.png)")
    if train.classes != val.classes:
        sets = f"{labelled.train.folder} and {labelled.val.folder} have different classes"
        raise InputError(f"setting 'data.labelled': {sets}; give both the same `classes`")
    return train, val


def image_classes(data: DataSettings, root: Path) -> Samples:
    """The images of `data.label_source`, with labels or masks. InputError where they have neither."""
    source = data.label_source
    samples = open_samples(source, root)
    if samples.labels is None and samples.masks is None:
        which = f"split {source.split!r} of {source.folder} has neither folders of classes nor masks"
        raise InputError(f"setting 'data.labels': {which}; name one that has")
    if len(samples.classes) > MOST_CLASSES:
        found = f"{len(samples.classes)} classes in {source.folder}"
        raise InputError(f"setting 'data.labels': {found}; at most {MOST_CLASSES} can be learnt")
    return samples


def open_videos(source: Source | None, root: Path) -> tuple[Video, ...]:
    """The videos of one split. Raises InputError for what is missing, and where there is no source."""
    if source is None:
        raise InputError("setting data.videos: none in this profile; name a `kind: davis` to track masks")
    if source.kind != "davis":
        raise InputError(f"setting data.videos: {source.folder} ({source.kind}) has none; use kind: davis")
    videos = open_davis(Path(root), source.folder, source.split)
    return tuple(videos[k] for k in _stretch(source, len(videos)))


def clip_frames(data: DataSettings, root: Path) -> Samples:
    """All frames of `data.clips`, video by video, without masks; `part` is a stretch of its videos.

    InputError for what is missing."""
    if data.clips.kind != "davis":
        problem = f"{data.clips.folder} ({data.clips.kind}) has no videos; use kind: davis"
        raise InputError(f"setting data.clips: {problem}, or none for the stills of data.pretrain")
    frames = open_frames(Path(root), data.clips.folder, data.clips.split)
    videos = list(dict.fromkeys(path.parent for path in frames.images))
    kept = {videos[k] for k in _stretch(data.clips, len(videos))}
    return frames.subset(k for k, path in enumerate(frames.images) if path.parent in kept)


def pretraining_samples(data: DataSettings, root: Path) -> Samples:
    """All images of `data.pretrain`, without masks; if `data.fraction` < 1, that share of them.

    It is the head of one fixed permutation: a smaller share is part of a larger one. An image that several
    splits list is taken once; two images of one name are an InputError."""
    union = _union([open_samples(source, root) for source in data.pretrain])
    count = max(1, round(data.fraction * len(union))) if len(union) else 0
    return union.subset(np.sort(np.random.default_rng(0).permutation(len(union))[:count]))


def grouped_samples(data: DataSettings, root: Path) -> Samples:
    """The images that trees are grown for: `pretraining_samples`, then `extra_sources`, each image once."""
    extra = [open_samples(source, root) for source in extra_sources(data, root)]
    return _union([pretraining_samples(data, root), *extra])


def extra_sources(data: DataSettings, root: Path) -> list[Source]:
    """The sources of `data.extra` that are there: a missing one takes only its own runs with it."""
    return [source for source in data.extra if (root / source.folder).is_dir()]


def _union(parts: list[Samples]) -> Samples:
    each = (pair for part in parts for pair in zip(part.names, part.images, strict=True))
    names, images = zip(*dict.fromkeys(each), strict=True) if any(map(len, parts)) else ((), ())
    return Samples(names, images)
