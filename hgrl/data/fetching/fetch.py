"""`python -m hgrl fetch`: from a name of the table of archives to files that the loaders open."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from hgrl.core.errors import InputError
from hgrl.data.fetching.archives import DATA_SETS, Archive, DataSet, imagenet_help
from hgrl.data.fetching.download import download
from hgrl.data.fetching.survey import count
from hgrl.data.fetching.unpack import is_unpacked, unpack

DOWNLOADS = "downloads"  # folder below the data root, for archives on their way


def fetch(names: Sequence[str], root: Path, keep: bool = False) -> bool:
    """Downloads and unpacks what is not under `root` yet, and says so; whether all of it is there at the end.

    Archives go when they are unpacked, unless `keep`. Raises InputError before anything is fetched when the
    disk has too little space or an incomplete copy stands where a set has to go, and later when no address
    gives the right file. ImageNet is only counted.
    """
    waiting = {name: _waiting(name, root) for name in dict.fromkeys(names)}
    _check_space(root, [archive for archives in waiting.values() for archive in archives])
    for name, archives in waiting.items():
        for archive in archives:
            _bring(archive, DATA_SETS[name], root, keep)
    return all([_say(name, root, waiting[name]) for name in waiting])


def _waiting(name: str, root: Path) -> list[Archive]:
    """The archives of a set that are not unpacked; none where the set is complete, however it came there."""
    known = DATA_SETS[name]
    waiting = [
        archive
        for archive in known.archives
        if not is_unpacked(root / known.folder / archive.top, archive.file)
    ]
    if not waiting or _is_complete(name, root):
        return []
    if len(waiting) == len(known.archives):
        _refuse_other_copy(name, root)
    return waiting


def _is_complete(name: str, root: Path) -> bool:
    """By the numbers of its own folder; VOC's train_aug needs a second set."""
    known = DATA_SETS[name]
    return all(
        count(root, name, split).status == "complete"
        for split in known.splits
        if split.folder == known.folder
    )


def _refuse_other_copy(name: str, root: Path) -> None:
    """A loader would go on opening an incomplete copy that was put there by hand."""
    known = DATA_SETS[name]
    for split in known.splits:
        row = count(root, name, split)
        if split.folder == known.folder and row.found is not None:
            found = f"{row.found} of {split.count} {split.name} {split.unit}"
            raise InputError(
                f"{root / known.folder}: an incomplete copy ({found}) is there; move it away, or give another --data"
            )


def _check_space(root: Path, archives: Sequence[Archive]) -> None:
    """InputError when downloads and what they unpack to, both at once, do not fit."""
    place = next(folder for folder in (root.resolve(), *root.resolve().parents) if folder.is_dir())
    needed = sum(archive.unpacked + max(0, archive.download - _have(archive, root)) for archive in archives)
    free = shutil.disk_usage(place).free
    if needed > free:
        raise InputError(
            f"{root}: {needed / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free; free some space, or give another --data"
        )


def _have(archive: Archive, root: Path) -> int:
    target = root / DOWNLOADS / archive.file
    return sum(
        path.stat().st_size for path in (target, target.with_name(target.name + ".part")) if path.is_file()
    )


def _bring(archive: Archive, known: DataSet, root: Path, keep: bool) -> None:
    print(f"{known.title} ({known.terms}): {archive.file}, {archive.download / 1e9:.2f} GB")
    path = download(archive.addresses, root / DOWNLOADS / archive.file, archive.size, archive.checksum)
    if archive.checksum is None:
        print(
            f"{archive.file}: no published checksum; size checked, and its SHA-256 is in {path.name}.sha256"
        )
    unpack(path, root / known.folder, archive.top)
    if not keep:
        path.unlink()


def _say(name: str, root: Path, fetched: Sequence[Archive]) -> bool:
    known = DATA_SETS[name]
    rows = [count(root, name, split) for split in known.splits if split.folder == known.folder]
    numbers = ", ".join(
        f"{row.found or 0:,} of {row.split.count:,} {row.split.name} {row.split.unit}" for row in rows
    )
    complete = all(row.status == "complete" for row in rows)
    if name == "imagenet" and not complete:
        print(imagenet_help(root / known.folder))
    word = ("fetched" if fetched else "already there") if complete else "not complete"
    print(f"{name}: {word}, {numbers}")
    return complete
