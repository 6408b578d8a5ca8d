"""What the loaders have in common: finding a data set's folder, lists and files, naming what is missing."""

import gzip
from collections.abc import Iterable
from pathlib import Path

from hgrl.core.errors import InputError
from hgrl.data.images import SUFFIXES, one_line

SHIPPED = Path(__file__).parent / "lists"  # of names, for splits that no archive brings


def find_folder(root: Path, *candidates: str, needs: str) -> Path:
    """The first folder `root/candidate` that holds `needs`; InputError names the first candidate."""
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; set HGRL_DATA to the folder that holds your data sets")
    for candidate in candidates:
        if (root / candidate / needs).exists():
            return root / candidate
    missing = f"no {needs} in it" if (root / candidates[0]).is_dir() else "no such folder"
    remedy = f"set HGRL_DATA to the folder that holds {candidates[0]}, or correct the profile's `folder`"
    raise InputError(f"{root / candidates[0]}: {missing}; {remedy}")


def shipped_list(data_set: str, split: str) -> Path:
    """Where this package lists the names of a split, if it does."""
    return SHIPPED / f"{data_set}_{split}.txt.gz"


def read_list(path: Path) -> list[list[str]]:
    """The words of each line of a split file that is not blank. InputError names the splits there are."""
    entries = [line.split() for line in read_lines(path) if line.strip()]
    if not entries:
        raise InputError(f"{path}: an empty split; fetch the list again")
    return entries


def read_lines(path: Path) -> list[str]:
    """The lines of a text in UTF-8, or of one in gzip. InputError for a missing one names those beside it."""
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        return content.decode("utf-8-sig").splitlines()
    except FileNotFoundError:
        known = ", ".join(sorted(other.stem for other in path.parent.glob("*.txt"))) or "none"
        raise InputError(f"{path}: no such split file; choose one of those that are there: {known}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a list of names ({one_line(error)}); fetch it again") from None


def images_in(folder: Path) -> tuple[Path, ...]:
    """The images that lie in a folder, by name; InputError when there are none."""
    if not folder.is_dir():
        known = ", ".join(sorted(other.name for other in folder.parent.glob("*") if other.is_dir())) or "none"
        raise InputError(f"{folder}: no such folder; choose one of the splits that are there: {known}")
    found = (path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    images = tuple(sorted(path for path in found if not path.name.startswith(".")))
    if not images:
        raise InputError(f"{folder}: no images in it; fetch the data set again")
    return images


def require_files(paths: Iterable[Path], listed_in: Path) -> None:
    """InputError naming the first file that a list promises and that is not there."""
    for path in paths:
        if not path.is_file():
            raise InputError(f"{path}: listed in {listed_in} but not there; fetch it or take it off the list")
