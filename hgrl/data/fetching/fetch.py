"""`python -m hgrl fetch`: from a name in the table of data sets to files that the loaders open."""

import fcntl
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hgrl.core.errors import InputError
from hgrl.data.fetching.archives import DATA_SETS
from hgrl.data.fetching.download import download
from hgrl.data.fetching.survey import Row, count
from hgrl.data.fetching.unpack import files_lost, unpack

DOWNLOADS = "downloads"  # folder below the data root, for archives on their way


def fetch_data_sets(names: Sequence[str], root: Path, keep_archives: bool = False) -> bool:
    """Downloads and unpacks what is missing under `root`, prints it, and returns whether all is there then.

    Archives are deleted once unpacked, unless `keep_archives`. ImageNet is only counted. Raises InputError
    before any download when the disk has too little space, when an incomplete copy stands where a set has to
    go, and while another fetch into the same root runs; later, when no address gives the right file."""
    fetched, needed = [], _missing(names, root)
    if needed:
        _check_space(root, needed)
        with _only_fetch(root):
            fetched = _missing(needed, root)  # looked at again: another fetch may just have ended
            for name in fetched:
                known, archive = DATA_SETS[name], DATA_SETS[name].archive
                verified = "" if archive.checksum else "; not verified: no checksum of it is published"
                print(f"{known.title}: {archive.file}, {archive.size / 1e9:.2f} GB{verified}")
                size = archive.size if archive.size_is_exact else None
                path = download(archive.addresses, root / DOWNLOADS / archive.file, size, archive.checksum)
                unpack(path, root / known.folder, archive.top)
                if not keep_archives:
                    path.unlink()
    complete = [_print_state(name, root, name in fetched) for name in dict.fromkeys(names)]
    return all(complete)


def _missing(names: Iterable[str], root: Path) -> list[str]:
    return [name for name in dict.fromkeys(names) if _is_missing(name, root)]


def _own_rows(name: str, root: Path) -> list[Row]:
    """What is there of the splits that need no other data set."""
    known = DATA_SETS[name]
    return [count(root, name, split) for split in known.splits if split.folder == known.folder]


def _is_missing(name: str, root: Path) -> bool:
    """Whether a set must be downloaded. InputError for an incomplete copy: loaders would go on opening it."""
    archive, place = DATA_SETS[name].archive, root / DATA_SETS[name].folder
    if archive is None:
        return False
    unpacked, remedy = place / archive.top, "move it away, or give another --data"
    lost = files_lost(unpacked, archive.file)
    if lost:
        raise InputError(f"{unpacked}: {lost:,} of its files are gone; {remedy}, and run again")
    rows = _own_rows(name, root)
    if lost == 0 or all(row.status == "complete" for row in rows):
        return False
    for row in rows:
        if row.found is not None:
            found = f"{row.found} of {row.split.count} {row.split.name} {row.split.unit}"
            raise InputError(f"{place}: an incomplete copy ({found}) is there; {remedy}")
    if unpacked.exists():
        raise InputError(f"{unpacked}: there, but not unpacked from {archive.file}; {remedy}")
    return True


@contextmanager
def _only_fetch(root: Path) -> Iterator[None]:
    """One lock over downloads and unpacking. The file stays: to delete it would let two processes hold it."""
    path = root / DOWNLOADS / ".lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); check the permissions") from None
    with open(path, "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(f"{root}: another fetch into this folder is running; wait for it") from None
        yield


def _check_space(root: Path, names: Sequence[str]) -> None:
    """InputError when downloads and what they unpack to, both at once, do not fit."""
    place = next(folder for folder in (root.resolve(), *root.resolve().parents) if folder.is_dir())
    needed = 0
    for archive in (DATA_SETS[name].archive for name in names):
        files = (root / DOWNLOADS / f"{archive.file}{suffix}" for suffix in ("", ".part"))
        have = sum(path.stat().st_size for path in files if path.is_file())
        needed += archive.unpacked + max(0, archive.size - have)
    free = shutil.disk_usage(place).free
    if needed > free:
        sizes = f"{needed / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free"
        raise InputError(f"{root}: {sizes}; free some space, or give another --data")


def _print_state(name: str, root: Path, fetched: bool) -> bool:
    known, rows = DATA_SETS[name], _own_rows(name, root)
    found = (f"{row.found or 0:,} of {row.split.count:,} {row.split.name} {row.split.unit}" for row in rows)
    complete = all(row.status == "complete" for row in rows)
    word = ("fetched" if fetched else "already there") if complete else "not complete"
    print(f"{name}: {word}, {', '.join(found)}")
    if known.archive is None and not complete:
        print(known.by_hand.format(folder=root / known.folder))
    elif not complete:
        print(f"next: {next(row.next_step for row in rows if row.next_step)}")
    return complete
