"""The files that grouping writes: which are done, which may be replaced, and which are not ours."""

import io
import os
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from hgrl.core import files
from hgrl.core.errors import InputError
from hgrl.data.sets.folder import EDGE_MAP, PICTURE
from hgrl.grouping.region_tree import load_tree

EDGE_LEVELS = 65535  # edge maps are 16-bit PNG
MARK = "hgrl"  # the text chunk of an edge map that holds its fingerprint


def tree_path(folder: Path, name: str) -> Path:
    return Path(folder) / f"{name}.npz"


def edge_map_path(folder: Path, name: str) -> Path:
    return Path(folder) / f"{name}{EDGE_MAP}"


def save_edge_map(path: Path, edge_map: np.ndarray, origin: str = "") -> None:
    """An edge map (H, W) in [0, 1] as a 16-bit grey PNG, atomically. origin: as in `RegionTree.save`."""
    save_marked(path, np.rint(edge_map * EDGE_LEVELS).astype(np.uint16), origin)


def save_marked(path: Path, picture: np.ndarray, origin: str) -> None:
    """A (H, W) uint16 or (H, W, 3) uint8 array as PNG with the mark of grouping and `origin`, atomically."""
    buffer, mark = io.BytesIO(), PngImagePlugin.PngInfo()
    mark.add_text(MARK, origin)
    Image.fromarray(picture).save(buffer, "PNG", pnginfo=mark)
    files.write_bytes(path, buffer.getvalue())


def is_our_image(path: Path) -> bool:
    """Whether `save_marked` wrote this file, by its name and its mark."""
    return path.name.endswith((EDGE_MAP, PICTURE)) and bool(inspect(path)[0])


def is_done(path: Path, origin: str) -> bool:
    """Whether a tree or an edge map is there, whole and made from `origin`. InputError for a foreign one."""
    is_ours, found = inspect(path)
    if is_ours is False:
        raise InputError(f"{path}: not written by `group`, so left alone; move it, or choose another --out")
    return found == origin


def make_way(path: Path) -> str | None:
    """Rename a file too damaged to tell whether grouping wrote it; what was done, in words."""
    if not os.path.lexists(path) or inspect(path)[0] is not None:
        return None
    names = (path.with_name(f"{path.name}.damaged{number or ''}") for number in range(1000))
    aside = next(name for name in names if not os.path.lexists(name))
    try:
        path.rename(aside)
    except OSError as error:
        raise InputError(f"{path}: damaged, and cannot be renamed ({error.strerror}); remove it") from error
    return f"{path}: damaged, so made again; the damaged file is {aside.name} now"


def inspect(path: Path) -> tuple[bool | None, str | None]:
    """Whether grouping wrote this file (None: missing, or unreadable), and the fingerprint of a whole one."""
    is_ours = None
    try:
        if path.is_dir():
            return False, None
        if path.suffix == ".npz":
            with zipfile.ZipFile(path) as file:
                is_ours = {"labels.npy", "children.npy", "heights.npy"} <= set(file.namelist())
            return is_ours, load_tree(path)[1]
        with Image.open(path) as image:
            is_ours, origin = MARK in image.info, image.info.get(MARK)
            image.verify()
        return is_ours, origin
    except Exception:  # zip, NumPy and Pillow raise a dozen different things on a broken file
        return is_ours, None
