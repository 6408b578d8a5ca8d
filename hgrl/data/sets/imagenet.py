"""ImageNet (ILSVRC 2012), for pretraining: images only. `train/<wnid>/*.JPEG`; `val/*.JPEG`, flat or in
folders of their classes.

A list of its 1.28 million files is made once and kept among the artefacts, a part for each folder: a folder
is listed again when its time of change is another one. No file is touched for it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from hgrl.core import paths
from hgrl.core.errors import InputError
from hgrl.core.files import write_text
from hgrl.core.progress import bar
from hgrl.core.cache import fingerprint
from hgrl.data.samples import Samples, sample_name
from hgrl.data.sets.listing import find_folder

SUFFIXES = (".jpeg", ".jpg")


def open_imagenet(root: Path, folder: str, split: str) -> Samples:
    """All images of `train` or `val`, by folder and name; `masks` is None. Raises InputError for a missing
    folder or split.
    """
    files = imagenet_files(root, folder, split)
    return Samples(tuple(sample_name(Path(folder).name, path.stem) for path in files), files)


def imagenet_files(root: Path, folder: str, split: str) -> tuple[Path, ...]:
    """The images of a split."""
    home = _home(root, folder, split)
    kept = _kept(home)
    folders, listed = sorted(entry.name for entry in os.scandir(home) if entry.is_dir()), {}
    for name in bar(["", *folders], desc=f"list {folder}/{split}", delay=5):
        changed = (home / name).stat().st_mtime_ns
        listed[name] = (
            kept[name]
            if name in kept and kept[name]["changed"] == changed
            else {"changed": changed, "files": _images(home / name)}
        )
    if listed != kept:
        write_text(_list_file(home), json.dumps(listed))
    files = tuple(home / name / file for name, found in listed.items() for file in found["files"])
    if not files:
        raise InputError(
            f"{home}: no images in it; run `python -m hgrl fetch imagenet` for what should be there"
        )
    return files


def imagenet_folders(root: Path, folder: str, split: str) -> int:
    """How many class folders a split has."""
    return sum(entry.is_dir() for entry in os.scandir(_home(root, folder, split)))


def _home(root: Path, folder: str, split: str) -> Path:
    home = find_folder(root, folder, f"{folder}/ILSVRC/Data/CLS-LOC", needs=split) / split
    if not home.is_dir():
        raise InputError(f"{home}: not a folder; unpack the archive of {split}")
    return home


def _images(folder: Path) -> list[str]:
    return sorted(
        entry.name
        for entry in os.scandir(folder)
        if entry.name.lower().endswith(SUFFIXES) and not entry.name.startswith(".")
    )


def _list_file(home: Path) -> Path:
    return paths.listings() / f"{fingerprint(str(home.resolve()))}.json"


def _kept(home: Path) -> dict[str, dict]:
    """The list made before; empty where there is none, or where it is damaged."""
    try:
        content = json.loads(_list_file(home).read_text())
    except (OSError, ValueError):
        return {}
    whole = isinstance(content, dict) and all(
        isinstance(found, dict) and found.keys() == {"changed", "files"} for found in content.values()
    )
    return content if whole else {}
