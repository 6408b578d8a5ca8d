"""The embedded data set: procedural scenes and videos over scikit-image's photographs, on disk in the real
data sets' layouts.

Six classes of object are told apart by shape and, less surely, by texture; colour is a weak cue. The
generator was fixed before any learned method was run on it. Checksums depend on the settings alone, not on
the number of processes."""

import hashlib
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hgrl.core import files as store
from hgrl.core.errors import InputError
from hgrl.core.processes import run_tasks
from hgrl.core.settings import ScenesSettings
from hgrl.data.scenes.files import Checksums, write_bsds, write_davis, write_files, write_voc
from hgrl.data.scenes.objects import MANY, SINGLE, with_objects
from hgrl.data.scenes.render import SHAPE_NAMES, Picture, Scene, draw_scene, render

CLASSES = ("background", *SHAPE_NAMES)
GENERATOR = 3  # raise it when the pictures change: sets made by another generator are made again
MARKER, UNFINISHED = "scenes.json", "scenes.unfinished"
CHUNK = 50  # pictures or videos per task
# whose part of the photographs a split uses, where it is not its own
PART = {"unlabelled": "train", SINGLE: "train", MANY: "train", "test": "val"}
# share of the picture that every object must show: in a video's first frame, and where objects are counted
MIN_VISIBLE = 0.004
LABELLED = ("train", "tune", "val")
Split = tuple[str, str]  # layout and split, as ("voc", "train")


def make_scenes(root: Path, settings: ScenesSettings, jobs: int = 1) -> None:
    """Writes the whole set under `root`, or returns at once when it is there already, made with the same
    settings.

    VOC2012 (splits unlabelled, train, tune, val; with `objects`, single and many), DAVIS (tune, val), BSDS500
    (train, val, test), and last of all `scenes.json`: settings, counts, and the sha256 over all files. Raises
    InputError when `root` holds data sets that are not scenes, or cannot be written."""
    root = Path(root)
    if is_complete(root, settings):
        return
    _claim(root)
    counts = split_counts(settings)
    tasks = [
        (root, settings, split, range(start, min(start + CHUNK, count)))
        for split, count in counts.items()
        for start in range(0, count, CHUNK)
    ]
    files: Checksums = {}
    for part in run_tasks(_write_chunk, tasks, jobs, "scenes", sum(counts.values())):
        files |= part
    files |= _write_lists(root, settings)
    store.write_json(root / MARKER, _marker(settings) | {"files": len(files), "sha256": _digest(files)})
    (root / UNFINISHED).unlink(missing_ok=True)


def is_complete(root: Path, settings: ScenesSettings) -> bool:
    """Whether `root` holds the set that these settings make."""
    marker = root / MARKER
    return marker.exists() and _marker(settings).items() <= store.read_json(marker).items()


def split_counts(settings: ScenesSettings) -> dict[Split, int]:
    """Pictures (videos, for "davis") of every split."""
    counts = {("voc", split): getattr(settings, split) for split in ("unlabelled", *LABELLED)}
    counts |= {("voc", split): settings.objects for split in (SINGLE, MANY)}
    counts |= {("davis", "tune"): -(-settings.videos // 4), ("davis", "val"): settings.videos}
    return counts | {("bsds", split): settings.contours for split in ("train", "val", "test")}


def _marker(settings: ScenesSettings) -> dict[str, Any]:
    counts = {f"{layout}/{split}": count for (layout, split), count in split_counts(settings).items()}
    return {"generator": GENERATOR, "settings": settings.model_dump(mode="json"), "counts": counts}


def _claim(root: Path) -> None:
    """Takes the marker off an outdated set; refuses a folder of data sets that this module did not make."""
    marker, unfinished = root / MARKER, root / UNFINISHED
    taken = [folder for folder in ("VOC2012", "DAVIS", "BSDS500") if (root / folder).exists()]
    if taken and not marker.exists() and not unfinished.exists():
        what = f"holds {taken[0]} that is not of the embedded scenes"
        raise InputError(f"{root}: {what}; choose another folder for them")
    store.write_text(unfinished, "Being made, or interrupted: the next run makes it again.\n")
    marker.unlink(missing_ok=True)


def _write_chunk(root: Path, settings: ScenesSettings, split: Split, chunk: range, tick: Callable[[int], None]) -> Checksums:
    cv2.setNumThreads(1)  # the pictures are too small to share
    files: Checksums = {}
    for index in chunk:
        files |= _WRITERS[split[0]](root, settings, split, index)
        tick(1)
    return files


def _name(split: Split, index: int) -> str:
    return f"{split[1]}_{index:05d}"


def _part(split: Split) -> str:
    own = {"val": "tune", "test": "val"} if split[0] == "bsds" else PART
    return own.get(split[1], split[1])


def _generator(settings: ScenesSettings, split: Split, index: int, attempt: int = 0) -> np.random.Generator:
    """Each picture's own random numbers: none depends on how many others there are, or on who draws them."""
    return np.random.default_rng([settings.seed, zlib.crc32("/".join(split).encode()), index, attempt])


def _draw_still(settings: ScenesSettings, split: Split, index: int) -> tuple[Scene, Picture]:
    if split[1] in (SINGLE, MANY):
        return draw_counted(settings, split[1], index)
    rng = _generator(settings, split, index)
    scene = draw_scene(rng, settings.size, _part(split))
    return scene, render(scene, rng)


def _write_still(root: Path, settings: ScenesSettings, split: Split, index: int) -> Checksums:
    scene, picture = _draw_still(settings, split, index)
    return write_voc(root, _name(split, index), scene, picture, labelled=split[1] in LABELLED)


def draw_counted(settings: ScenesSettings, split: str, index: int) -> tuple[Scene, Picture]:
    """Picture `index` of split `single` or `many`: the first attempt at placing its objects in which every
    one shows.

    All but the objects' number, sizes and places is drawn by the same random numbers in both splits, the
    sensor's noise too."""
    for attempt in range(1000):
        rng, things = (_generator(settings, ("voc", shared), index) for shared in ("objects", "things"))
        places = _generator(settings, ("voc", split), index, attempt)
        scene = with_objects(draw_scene(rng, settings.size, _part(("voc", split))), split, things, places)
        picture = render(scene, rng)
        if _all_visible(scene, picture):
            break
    return scene, picture


def _all_visible(scene: Scene, picture: Picture) -> bool:
    visible = np.bincount(picture.objects.ravel(), minlength=len(scene.things) + 1)
    return bool(visible.min() >= MIN_VISIBLE * picture.objects.size)


def _write_contours(root: Path, settings: ScenesSettings, split: Split, index: int) -> Checksums:
    rng = _generator(settings, split, index)
    scene = draw_scene(rng, settings.size, _part(split))
    return write_bsds(root, split[1], _name(split, index), render(scene, rng), rng)


def _write_video(root: Path, settings: ScenesSettings, split: Split, index: int) -> Checksums:
    return write_davis(root, _name(split, index), _draw_video(settings, split, index))


def _draw_video(settings: ScenesSettings, split: Split, index: int) -> list[Picture]:
    """The first attempt in which every object shows in the first frame, whose masks tracking is given."""
    for attempt in range(1000):
        rng = _generator(settings, split, index, attempt)
        scene = draw_scene(rng, settings.size, _part(split), moving=True)
        if _all_visible(scene, render(scene, rng)):
            break
    length = max(settings.frames - 1, 1)
    return [render(scene, rng, t, t / length) for t in range(settings.frames)]


_WRITERS = {"voc": _write_still, "davis": _write_video, "bsds": _write_contours}
_LISTS = {"voc": "VOC2012/ImageSets/Segmentation", "davis": "DAVIS/ImageSets/2017"}


def _write_lists(root: Path, settings: ScenesSettings) -> Checksums:
    """The split lists (BSDS500 has none: its folders are its splits) and the class names."""
    contents = {"VOC2012/classes.txt": CLASSES}
    for split, count in split_counts(settings).items():
        if split[0] in _LISTS and count:
            names = tuple(_name(split, index) for index in range(count))
            contents[f"{_LISTS[split[0]]}/{split[1]}.txt"] = names
    return write_files(root, {path: ("\n".join(lines) + "\n").encode() for path, lines in contents.items()})


def _digest(files: Checksums) -> str:
    listing = "".join(f"{checksum}  {path}\n" for path, checksum in sorted(files.items()))
    return hashlib.sha256(listing.encode()).hexdigest()
