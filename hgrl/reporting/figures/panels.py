"""Rows of pictures, with label maps and embeddings as pictures (figures 2 and 3)."""

import math
from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from skimage.segmentation import find_boundaries
from torch import Tensor

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
        row[0].set_ylabel(fill(name, 16))
        for axis, picture in zip(row, pictures, strict=True):
            axis.imshow(picture, **style)
    return figure


def centre_crop(image: np.ndarray, side: int) -> np.ndarray:
    """The middle (side, side, 3) of an image, so that pictures of several sizes make one batch."""
    top, left = ((size - side) // 2 for size in image.shape[:2])
    return image[top : top + side, left : left + side]


def outlined(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 with the boundaries of a label map (H, W) drawn in yellow."""
    return np.where(find_boundaries(labels, mode="thick")[..., None], YELLOW, image)


def segmentations(images: Pictures, masks: Mapping[str, Pictures], classes: Sequence[str]) -> Figure:
    """Images over one row of class maps per name, and a legend of the classes that appear; void is white."""
    shown = {name: [np.ma.masked_equal(mask, VOID) for mask in maps] for name, maps in masks.items()}
    colours = class_colours(classes)
    style = {"cmap": ListedColormap(colours), "vmin": -0.5, "vmax": len(classes) - 0.5}
    figure = picture_rows({"image": images, **shown}, **style, interpolation="nearest")
    present = sorted(
        {int(id_) for maps in masks.values() for mask in maps for id_ in np.unique(mask)} - {VOID}
    )
    patches = [Patch(color=colours[id_], label=classes[id_]) for id_ in present]
    lines = max(1, math.ceil(len(present) / 8))
    columns = max(1, math.ceil(len(present) / lines))  # lines of one length
    figure.legend(handles=patches, loc="outside lower center", ncols=columns, frameon=False)
    return figure


def class_colours(classes: Sequence[str]) -> list[Any]:
    """A colour for each of up to 60 classes; `background` is light grey, lest it outshine the objects."""
    named = [colour for name in ("tab20", "tab20b", "tab20c") for colour in colormaps[name].colors]
    return ["0.85" if name == "background" else named[k % 60] for k, name in enumerate(classes)]


def pca_colours(embedding: Tensor) -> np.ndarray:
    """The first three principal components of unit embeddings: (B, D, h, w) -> (B, h, w, 3) in [0, 1].

    One PCA for all images: equal colours mean equal features. Stretched from 2nd to 98th percentile."""
    batch, channels, h, w = embedding.shape
    cells = embedding.permute(0, 2, 3, 1).reshape(-1, channels).double().numpy()
    cells = cells / np.maximum(np.linalg.norm(cells, axis=1, keepdims=True), 1e-12)
    cells -= cells.mean(0)
    _, _, directions = np.linalg.svd(cells, full_matrices=False)
    components = cells @ directions[:3].T  # fewer than three where channels or cells are fewer
    components = np.pad(components, ((0, 0), (0, 3 - components.shape[1])))
    low, high = np.percentile(components, (2, 98), axis=0)
    return np.clip((components - low) / np.maximum(high - low, 1e-12), 0, 1).reshape(batch, h, w, 3)


def embedding_rows(images: np.ndarray, embeddings: Mapping[str, Tensor]) -> Figure:
    """Images (B, H, W, 3) over one row of PCA colours per named embedding."""
    colours = {name: pca_colours(embedding) for name, embedding in embeddings.items()}
    figure = picture_rows({"image": images, **colours})
    for axis in figure.axes[len(images) :]:
        axis.images[0].set_interpolation("bilinear")
    return figure
