"""From a profile's `data` section to samples and videos: the one place that maps a data set's kind to its
loader.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hgrl.core import paths
from hgrl.core.errors import InputError
from hgrl.core.settings import Settings, Source
from hgrl.data.samples import Samples, Video
from hgrl.data.sets.bsds import open_bsds
from hgrl.data.sets.camvid import open_camvid
from hgrl.data.sets.coco import open_coco, open_coco_masks
from hgrl.data.sets.davis import open_davis
from hgrl.data.sets.folder import open_folder
from hgrl.data.sets.imagenet import open_imagenet
from hgrl.data.sets.voc import open_voc

LOADERS = {
    "voc": open_voc,
    "coco": open_coco,
    "coco-masks": open_coco_masks,
    "bsds": open_bsds,
    "camvid": open_camvid,
    "folder": lambda root, folder, split: open_folder([root / folder / split]),
    "imagenet": open_imagenet,
}


def open_samples(source: Source, root: Path) -> Samples:
    """The images (and masks) of one split; for `bsds` a `ContourSamples`. Raises InputError for what is
    missing.
    """
    if source.kind not in LOADERS:
        raise InputError(
            f"setting data: {source.folder} ({source.kind}) holds videos; images come from one of: {', '.join(LOADERS)}"
        )
    samples = LOADERS[source.kind](Path(root), source.folder, source.split)
    first, last = (round(share * len(samples)) for share in source.part)
    return samples if last - first == len(samples) else samples.subset(range(first, last))


def open_videos(source: Source, root: Path) -> tuple[Video, ...]:
    """The videos of one split. Raises InputError for what is missing."""
    if source.kind != "davis":
        raise InputError(
            f"setting data.videos: {source.folder} ({source.kind}) holds no videos; use kind: davis"
        )
    return open_davis(Path(root), source.folder, source.split)


def data_root(settings: Settings) -> Path:
    """The folder that the profile's sources lie in."""
    return paths.data_root(settings.profile, embedded=settings.data.scenes is not None)


def pretraining_samples(settings: Settings) -> Samples:
    """All images of `data.pretrain`, without masks; with `fraction` < 1, that share of them.

    The share is the head of one fixed permutation, so that a smaller share is part of a larger one. An image
    that several splits list is taken once; two images of one name are an InputError.
    """
    union = _union([open_samples(source, data_root(settings)) for source in settings.data.pretrain])
    return union.subset(_share(len(union), settings.data.fraction))


def grouped_samples(settings: Settings) -> Samples:
    """The images that trees are grown for: those of `pretraining_samples`, and behind them those of
    `extra_sources`, each once.
    """
    return _union(
        [
            pretraining_samples(settings),
            *(open_samples(source, data_root(settings)) for source in extra_sources(settings)),
        ]
    )


def extra_sources(settings: Settings) -> list[Source]:
    """The sources of `data.extra` that are at hand: a real data set that is not there takes only its own runs
    with it.
    """
    return [source for source in settings.data.extra if (data_root(settings) / source.folder).is_dir()]


def _union(parts: list[Samples]) -> Samples:
    named = {(name, image): None for part in parts for name, image in zip(part.names, part.images)}
    names, images = zip(*named) if named else ((), ())
    return Samples(names, images)


def _share(count: int, fraction: float) -> np.ndarray:
    kept = max(1, round(fraction * count)) if count else 0
    return np.sort(np.random.default_rng(0).permutation(count)[:kept])
