"""Any photographs: image files and folders of them, as given on the command line."""

from collections.abc import Iterable
from pathlib import Path

from hgrl.core.errors import InputError
from hgrl.data.samples import Samples, sample_name

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif"}
EDGE_MAP = ".edges.png"  # how `group --edges` names its edge maps: never images to group


def open_folder(given: Iterable[Path], results: Path | None = None) -> Samples:
    """Files as they are, and all images below folders, named by their place below the folder's parent.

    `results` is where results are written: in a given folder that contains it, what lies below it is not
    searched. A given path that is `results`, or lies below it, is read like any other. Raises InputError for
    a path that does not exist or is no regular file, and for a folder without an image."""
    names, images = [], []
    for path in given:
        if path.is_dir():
            found, base = _images_below(path, results), path
        elif path.is_file():
            found, base = [path], path.parent
        else:
            what = "not a regular file" if path.exists() else "no such file or folder"
            raise InputError(f"{path}: {what}; give image files, or folders of them")
        images += found
        parts = (image.relative_to(base).with_suffix("").parts for image in found)
        names += [sample_name(base.resolve().name, "_".join(part)) for part in parts]
    return Samples(tuple(names), tuple(images))


def _images_below(folder: Path, results: Path | None) -> list[Path]:
    excluded = results.resolve() if results else None
    if excluded is not None and folder.resolve().is_relative_to(excluded):
        excluded = None
    found = [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in SUFFIXES
        and not path.name.startswith(".")
        and not path.name.endswith(EDGE_MAP)
        and path.is_file()
        and excluded not in path.resolve().parents
    ]
    if not found:
        raise InputError(f"{folder}: no image found (looked for {', '.join(sorted(SUFFIXES))})")
    return found
