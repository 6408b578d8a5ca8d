"""The embedded data set: scenes and videos over scikit-image's photographs, in the real data sets' layouts.

Six classes of object are told apart by shape and, less surely, by texture; colour is a weak cue. The
generator was fixed before any learned method was run on it. The files depend on the settings alone, not on
the number of processes."""

import hashlib
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hgrl.core import files as store
from hgrl.core.cache import code_fingerprint
from hgrl.core.data_settings import ScenesSettings
from hgrl.core.errors import InputError
from hgrl.core.processes import run_tasks
from hgrl.data.scenes.files import CLASSES, Contents, bsds_files, davis_files, voc_files
from hgrl.data.scenes.objects import MANY, SINGLE, with_objects
from hgrl.data.scenes.render import Picture, Scene, draw_scene, render

MARKER, UNFINISHED = "scenes.json", "scenes.unfinished"
CHUNK = 50  # pictures or videos per task
ATTEMPTS = 1000  # at a scene whose objects all show
MIN_VISIBLE = 0.004  # share of the picture; in a video, of its first frame
LABELLED = ("train", "tune", "val")
LISTS = {"voc": "VOC2012/ImageSets/Segmentation", "davis": "DAVIS/ImageSets/2017"}  # BSDS500 has none
Split = tuple[str, str]  # layout and split, as ("voc", "train")
Tick = Callable[[int], None]
Drawn = tuple[Scene, Picture, np.random.Generator]
Checksums = dict[str, str]  # path under the root -> sha256 of the bytes


def make_scenes(root: Path, settings: ScenesSettings, jobs: int = 1) -> None:
    """Writes the whole set under `root`, unless it is there already, of the same settings and drawing code.

    VOC2012 (splits unlabelled, train, tune, val; with `objects`, single and many), DAVIS (tune, val; clips,
    without masks), BSDS500 (train, val, test), and last of all `scenes.json`: settings, code, counts, and the
    sha256 over all files.
    Raises InputError when `root` holds data sets that are not scenes, or cannot be written."""
    if is_complete(root, settings):
        (root / UNFINISHED).unlink(missing_ok=True)  # of a run that was killed after its last file
        return
    _claim(root)
    counts = split_counts(settings)
    chunks = ((split, range(n)[k : k + CHUNK]) for split, n in counts.items() for k in range(0, n, CHUNK))
    tasks = [(root, settings, *chunk) for chunk in chunks]
    parts = run_tasks(_write_chunk, tasks, jobs, "scenes", sum(counts.values()))
    parts.append(_write(root, _lists(settings)))
    files = {path: checksum for part in parts for path, checksum in part.items()}
    listing = "".join(f"{checksum}  {path}\n" for path, checksum in sorted(files.items()))
    digest = hashlib.sha256(listing.encode()).hexdigest()
    store.write_json(root / MARKER, _marker(settings) | {"files": len(files), "sha256": digest})
    (root / UNFINISHED).unlink(missing_ok=True)


def is_complete(root: Path, settings: ScenesSettings) -> bool:
    """Whether `root` holds the set that these settings and this code make."""
    found = store.read_json(root / MARKER) if (root / MARKER).exists() else None
    return isinstance(found, dict) and _marker(settings).items() <= found.items()


def split_counts(settings: ScenesSettings) -> dict[Split, int]:
    """Pictures (videos, for "davis") of every split."""
    counts = {("voc", split): getattr(settings, split) for split in ("unlabelled", *LABELLED)}
    counts |= {("voc", split): settings.objects for split in (SINGLE, MANY)}
    counts |= {("davis", "tune"): -(-settings.videos // 4), ("davis", "val"): settings.videos}
    counts[("davis", "clips")] = settings.clips
    return counts | {("bsds", split): settings.contours for split in ("train", "val", "test")}


def _marker(settings: ScenesSettings) -> dict[str, Any]:
    counts = {"/".join(split): count for split, count in split_counts(settings).items()}
    return {"code": code_fingerprint(__name__), "settings": settings.model_dump(), "counts": counts}


def _claim(root: Path) -> None:
    """Takes the marker off an outdated set; refuses a folder of data sets that are not scenes."""
    marker, unfinished = root / MARKER, root / UNFINISHED
    taken = [folder for folder in ("VOC2012", "DAVIS", "BSDS500") if (root / folder).exists()]
    if taken and not marker.exists() and not unfinished.exists():
        raise InputError(f"{root}: its {taken[0]} is not of the embedded scenes; choose another folder")
    store.write_text(unfinished, "Being made, or interrupted: the next run makes it again.\n")
    marker.unlink(missing_ok=True)


def _write_chunk(root: Path, settings: ScenesSettings, split: Split, chunk: range, tick: Tick) -> Checksums:
    cv2.setNumThreads(1)  # the pictures are too small to share
    files: Checksums = {}
    for index in chunk:
        files |= _write(root, _contents(settings, split, index))
        tick(1)
    return files


def _write(root: Path, contents: Contents) -> Checksums:
    for path, content in contents.items():
        store.write_bytes(root / path, content, durable=False)
    return {path: hashlib.sha256(content).hexdigest() for path, content in contents.items()}


def _part(split: Split) -> str:
    """Whose part of the photographs a split uses."""
    name = {("bsds", "val"): "tune", ("bsds", "test"): "val"}.get(split, split[1])
    return name if name in LABELLED else "train"


def _generator(settings: ScenesSettings, split: Split, index: int, attempt: int = 0) -> np.random.Generator:
    """Each picture's own random numbers: none depends on how many others there are, or on who draws them."""
    return np.random.default_rng([settings.seed, zlib.crc32("/".join(split).encode()), index, attempt])


def draw_picture(settings: ScenesSettings, split: Split, index: int, attempt: int = 0) -> Drawn:
    """An ordinary picture (of a video, frame 0), and the generator that drew it, for what follows."""
    rng = _generator(settings, split, index, attempt)
    scene = draw_scene(rng, settings.size, _part(split), moving=split[0] == "davis")
    return scene, render(scene, rng), rng


def draw_counted(settings: ScenesSettings, split: str, index: int) -> tuple[Scene, Picture]:
    """Picture `index` of split `single` or `many`: the first attempt at places where all objects show.

    The same random numbers draw both splits, even the noise, but for objects' number, sizes and places."""
    for attempt in range(ATTEMPTS):
        rng, things = (_generator(settings, ("voc", shared), index) for shared in ("objects", "things"))
        places = _generator(settings, ("voc", split), index, attempt)
        scene = with_objects(draw_scene(rng, settings.size, "train"), split, things, places)
        picture = render(scene, rng)
        if _all_visible(scene, picture):
            break
    return scene, picture


def _all_visible(scene: Scene, picture: Picture) -> bool:
    visible = np.bincount(picture.objects.ravel(), minlength=len(scene.things) + 1)
    return bool(visible.min() >= MIN_VISIBLE * picture.objects.size)


def _contents(settings: ScenesSettings, split: Split, index: int) -> Contents:
    (layout, part), name = split, f"{split[1]}_{index:05d}"
    if layout == "davis":
        return davis_files(name, _draw_video(settings, split, index), labelled=part in LABELLED)
    if part in (SINGLE, MANY):
        return voc_files(name, *draw_counted(settings, part, index), labelled=False)
    scene, picture, rng = draw_picture(settings, split, index)
    if layout == "bsds":
        return bsds_files(part, name, picture, rng)
    return voc_files(name, scene, picture, labelled=part in LABELLED)


def _draw_video(settings: ScenesSettings, split: Split, index: int) -> list[Picture]:
    """The first attempt in which every object shows in the first frame, whose masks tracking is given."""
    for attempt in range(ATTEMPTS):
        scene, first, rng = draw_picture(settings, split, index, attempt)
        if _all_visible(scene, first):
            break
    length = max(settings.frames - 1, 1)
    return [render(scene, rng, t, t / length) for t in range(settings.frames)]


def _lists(settings: ScenesSettings) -> Contents:
    """The split lists and the class names."""
    lines = {"VOC2012/classes.txt": CLASSES}
    for (layout, part), count in split_counts(settings).items():
        if layout in LISTS and count:
            lines[f"{LISTS[layout]}/{part}.txt"] = [f"{part}_{index:05d}" for index in range(count)]
    return {path: ("\n".join(names) + "\n").encode() for path, names in lines.items()}
