"""Any photographs: image files and folders of them, as given on the command line."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from hgrl.core.errors import InputError
from hgrl.data.samples import Samples, sample_name

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif"}


def open_folder(given: Iterable[Path], leave_out: Path | None = None) -> Samples:
    """Files as they are, and all images below folders, named by their place below the folder's parent.

    What lies below `leave_out` is not looked at: results written into a folder of images are no images to
    group.
    Raises InputError for a path that does not exist, and when there is no image at all.
    """
    names, images = [], []
    for path in given:
        if not path.exists():
            raise InputError(f"{path}: no such file or folder; give image files, or folders of them")
        found = _images_below(path, leave_out) if path.is_dir() else [path]
        base = path if path.is_dir() else path.parent
        images += found
        names += [
            sample_name(base.resolve().name, "_".join(image.relative_to(base).with_suffix("").parts))
            for image in found
        ]
    if not images:
        raise InputError(
            f"{', '.join(map(str, given))}: no image found (looked for {', '.join(sorted(SUFFIXES))})"
        )
    return Samples(tuple(names), tuple(images))


def _images_below(folder: Path, leave_out: Path | None) -> list[Path]:
    excluded = leave_out.resolve() if leave_out else None
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    return [
        path for path in found if not path.name.startswith(".") and excluded not in path.resolve().parents
    ]
