"""The photographs that benchmarks run on: BSDS500's, or scikit-image's where there is no HGRL_DATA."""

from __future__ import annotations

import itertools
import os
import shutil
from pathlib import Path

import cv2
import skimage.data

from hgrl.core import paths
from hgrl.data.sets.bsds import ContourSamples, open_bsds

SKIMAGE = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")
SIZE, TREE_SIZE = (481, 321), (500, 375)  # BSDS500's, and VOC's most frequent one


def bsds500(split: str, folder: Path | None = None) -> ContourSamples:
    """BSDS500's split; folder: its own, or BSDS500 under HGRL_DATA."""
    root = (folder or paths.data_root() / "BSDS500").resolve()
    return open_bsds(root.parent, root.name, split)


def skimage_files(names: tuple[str, ...] = SKIMAGE) -> list[Path]:
    return [Path(skimage.data.__file__).parent / name for name in names]


def write_resized(source: Path, target: Path, size: tuple[int, int]) -> None:
    cv2.imwrite(str(target), cv2.resize(cv2.imread(str(source)), size, interpolation=cv2.INTER_AREA))


def fill(folder: Path, count: int) -> None:
    """Fill a folder with `count` JPEGs of 481x321 or 321x481, repeated in turn where there are fewer."""
    real = "HGRL_DATA" in os.environ
    files = bsds500("val").images if real else skimage_files()
    for k, file in enumerate(itertools.islice(itertools.cycle(files), count)):
        target = folder / f"{k:04}.jpg"
        if real:
            shutil.copy(file, target)
        else:
            write_resized(file, target, SIZE)
