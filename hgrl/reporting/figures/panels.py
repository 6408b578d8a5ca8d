"""Rows of pictures, and label maps as pictures: what the other figures are made of."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from skimage.segmentation import find_boundaries

from hgrl.core.labels import VOID

Pictures = Sequence[np.ndarray]
YELLOW = np.uint8([255, 221, 51])


def grid(rows: int, columns: int, size: float = 2.0, aspect: float = 1.0) -> tuple[Figure, np.ndarray]:
    """A figure of axes (rows, columns) without ticks, each `size` inches wide and `aspect` times as high."""
    figure = Figure(figsize=(size * columns, size * aspect * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    return figure, axes


def picture_rows(rows: Mapping[str, Pictures], size: float = 1.5, **style: Any) -> Figure:
    """A row of pictures per name, equally many in each; style: how `imshow` shows label maps."""
    columns = list(rows.values())
    height, width = columns[0][0].shape[:2]
    figure, axes = grid(len(rows), len(columns[0]), size, height / width)
    for row, (name, pictures) in zip(axes, rows.items(), strict=True):
        row[0].set_ylabel(name)
        for axis, picture in zip(row, pictures, strict=True):
            axis.imshow(picture, **style)
    return figure


def outlined(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 with the boundaries of a label map (H, W) drawn in yellow."""
    return np.where(find_boundaries(labels, mode="thick")[..., None], YELLOW, image)


def segmentations(images: Pictures, masks: Mapping[str, Pictures], classes: int) -> Figure:
    """Images over one row of class maps per name; void is white."""
    shown = {name: [np.ma.masked_equal(mask, VOID) for mask in maps] for name, maps in masks.items()}
    style = {"cmap": "tab20", "vmin": 0, "vmax": max(classes - 1, 19), "interpolation": "nearest"}
    return picture_rows({"image": images, **shown}, **style)
