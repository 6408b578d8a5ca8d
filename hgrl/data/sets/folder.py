"""Any photographs: image files and folders of them, as given on the command line."""

from collections.abc import Iterable
from pathlib import Path

from hgrl.core.errors import InputError
from hgrl.data.samples import Samples, sample_name

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif"}
# how `group --edges` and `group --pictures` name their images: never images to group
EDGE_MAP, PICTURE = ".edges.png", ".regions.png"


def open_folder(given: Iterable[Path], results: Path | None = None) -> Samples:
    """Files as they are, and all images below folders, named by their place below the folder's parent.

    `results`, where results are written, is skipped in a folder that contains it, and read where it, or what
    lies below it, is given. Raises InputError for a path that does not exist or is no regular file, and for a
    folder without an image."""
    names, images = [], []
    for path in given:
        if not path.is_dir() and not path.is_file():
            what = "not a regular file" if path.exists() else "no such file or folder"
            raise InputError(f"{path}: {what}; give image files, or folders of them")
        found, base = (_images_below(path, results), path) if path.is_dir() else ([path], path.parent)
        images += found
        parts = (image.relative_to(base).with_suffix("").parts for image in found)
        names += [sample_name(base.resolve().name, "_".join(part)) for part in parts]
    return Samples(tuple(names), tuple(images))


def _images_below(folder: Path, results: Path | None) -> list[Path]:
    excluded = results.resolve() if results else None
    if excluded and folder.resolve().is_relative_to(excluded):
        excluded = None
    named = (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES)
    own = (EDGE_MAP, PICTURE)
    shown = (path for path in named if not path.name.startswith(".") and not path.name.endswith(own))
    found = [path for path in shown if path.is_file() and excluded not in path.resolve().parents]
    if not found:
        raise InputError(f"{folder}: no image found (looked for {', '.join(sorted(SUFFIXES))})")
    return found
