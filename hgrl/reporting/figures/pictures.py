"""The notebooks' pictures of regions, sampling, training and embeddings. Each function returns a matplotlib
Figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from skimage.segmentation import find_boundaries
from torch import Tensor

from hgrl.core import paths
from hgrl.core.files import write_figure
from hgrl.core.settings import load_settings
from hgrl.sampling.pixels import PixelSample

ANCHOR, POSITIVE, NEGATIVE = "white", "#2ca02c", "#d62728"


CHART = "chart"  # the label of figures that show numbers alone


def save(figure: Figure, profile: str, name: str) -> Figure:
    """Keep a picture beside the results, or beside the artefacts where it shows other people's images;
    returns it for the cell.
    """
    committed = load_settings(profile).data.scenes is not None or figure.get_label() == CHART
    write_figure(paths.figures(profile, committed) / f"{name}.png", figure)
    plt.close(figure)  # the cell shows the returned figure; pyplot would show it twice
    return figure


def grid(rows: int, columns: int, size: float = 2.0) -> tuple[Figure, np.ndarray]:
    """A figure of rows x columns axes without ticks; axes (rows, columns)."""
    figure, axes = plt.subplots(
        rows, columns, figsize=(size * columns, size * rows), squeeze=False, layout="constrained"
    )
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    return figure, axes


def label_rows(axes: np.ndarray, names: Sequence[str]) -> None:
    for axis, name in zip(axes[:, 0], names, strict=True):
        axis.set_ylabel(name)


def outlined(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 with the boundaries of a label map (H, W) drawn in yellow."""
    return np.where(find_boundaries(labels, mode="thick")[..., None], np.uint8([255, 221, 51]), image)


def probability_maps(
    image: np.ndarray, labels: np.ndarray, anchor: int, maps: Mapping[str, np.ndarray]
) -> Figure:
    """An image with its regions and an anchor region, then one map of a probability of each region (R,) by
    its name.
    """
    figure, axes = grid(1, 1 + len(maps), 3.0)
    axes[0, 0].imshow(outlined(image, labels))
    axes[0, 0].imshow(np.ma.masked_where(labels != anchor, labels), cmap="spring", alpha=0.6)
    axes[0, 0].set_title("anchor region")
    for axis, (name, probability) in zip(axes[0, 1:], maps.items(), strict=True):
        shown = axis.imshow(probability[labels], cmap="magma", vmin=0)
        axis.set_title(name)
        figure.colorbar(shown, ax=axis, shrink=0.7)
    return figure


ENLARGED = 4  # thin lines need more pixels than the small profiles' images have


def sampled_pixels(
    images: np.ndarray, labels: np.ndarray, sample: PixelSample, image: int, anchor: int, stride: int = 4
) -> Figure:
    """Both views of an image (2, S, S, 3) with regions (2, h, w), one anchor, its positives (green) and
    negatives (red).

    `image` is the image's index in the batch that was sampled; pixels of other images (cns) are not shown.
    """
    figure, axes = grid(1, 2, 4.0)
    cells = labels[0].size
    batch = len(sample.anchors)
    for view, axis in enumerate(axes[0]):
        pixels_wide, cells_wide = (np.ones((side, side), np.uint8) for side in (ENLARGED, ENLARGED * stride))
        axis.imshow(
            outlined(np.kron(images[view], pixels_wide[..., None]), np.kron(labels[view], cells_wide))
        )
        axis.set_title(("first view", "augmented view")[view])
        first = (view * batch + image) * cells
        groups = (
            (sample.negatives, sample.negatives_valid, NEGATIVE, 45),
            (sample.positives, sample.positives_valid, POSITIVE, 45),
        )
        for pixels, valid, colour, size in groups:
            _dots(
                axis,
                pixels[image, anchor][valid[image, anchor]].numpy() - first,
                labels[view].shape,
                ENLARGED * stride,
                colour,
                size,
            )
        _dots(
            axis,
            sample.anchors[image, anchor : anchor + 1].numpy() - first,
            labels[view].shape,
            ENLARGED * stride,
            ANCHOR,
            120,
        )
    return figure


def _dots(
    axis: Any, cells: np.ndarray, shape: tuple[int, int], stride: int, colour: str, size: float
) -> None:
    cells = cells[(cells >= 0) & (cells < shape[0] * shape[1])]
    y, x = np.divmod(cells, shape[1])
    axis.scatter(
        x * stride + stride / 2 - 0.5,
        y * stride + stride / 2 - 0.5,
        s=size,
        c=colour,
        edgecolors="black",
        linewidths=0.7,
    )


def _chart(width: float, height: float) -> tuple[Figure, Any]:
    figure, axis = plt.subplots(figsize=(width, height), layout="constrained")
    figure.set_label(CHART)
    return figure, axis


def loss_curves(curves: Mapping[str, np.ndarray], window: int = 20) -> Figure:
    """The loss over the steps of each named run, its running mean in front."""
    figure, axis = _chart(7, 3.2)
    for colour, (name, losses) in zip(
        plt.rcParams["axes.prop_cycle"].by_key()["color"] * 3, curves.items(), strict=False
    ):
        width = max(1, min(window, len(losses) // 4))
        axis.plot(losses, color=colour, alpha=0.2, linewidth=0.8)
        axis.plot(
            np.arange(width - 1, len(losses)),
            np.convolve(losses, np.ones(width) / width, "valid"),
            color=colour,
            label=name,
        )
    axis.set(xlabel="step", ylabel="loss")
    axis.legend(frameon=False)
    return figure


def pca_colours(embedding: Tensor) -> np.ndarray:
    """The first three principal components of unit embeddings as colours (figure 2): (B, D, h, w) -> (B, h,
    w, 3) in [0, 1].

    One PCA for all B images, so that equal colours mean equal features; each component is stretched between
    its 2nd and 98th percentile.
    """
    batch, channels, h, w = embedding.shape
    cells = embedding.permute(0, 2, 3, 1).reshape(-1, channels).double().numpy()
    cells = cells / np.maximum(np.linalg.norm(cells, axis=1, keepdims=True), 1e-12)
    cells -= cells.mean(0)
    _, _, directions = np.linalg.svd(cells, full_matrices=False)
    components = cells @ directions[:3].T
    # fewer than three where channels or cells are fewer
    components = np.pad(components, ((0, 0), (0, 3 - components.shape[1])))
    low, high = np.percentile(components, (2, 98), axis=0)
    return np.clip((components - low) / np.maximum(high - low, 1e-12), 0, 1).reshape(batch, h, w, 3)


def embedding_rows(images: np.ndarray, embeddings: Mapping[str, Tensor]) -> Figure:
    """Images (B, H, W, 3) over one row of PCA colours for each named embedding (figures 2 and 3)."""
    figure, axes = grid(1 + len(embeddings), len(images), 1.5)
    for axis, image in zip(axes[0], images, strict=True):
        axis.imshow(image)
    for row, embedding in zip(axes[1:], embeddings.values(), strict=True):
        for axis, colours in zip(row, pca_colours(embedding), strict=True):
            axis.imshow(colours, interpolation="bilinear")
    label_rows(axes, ["image", *embeddings])
    return figure


def segmentations(
    images: Sequence[np.ndarray], masks: Mapping[str, Sequence[np.ndarray]], classes: int
) -> Figure:
    """Images over one row of class maps for each name; void (255) is white."""
    figure, axes = grid(1 + len(masks), len(images), 1.5)
    for axis, image in zip(axes[0], images, strict=True):
        axis.imshow(image)
    for row, maps in zip(axes[1:], masks.values(), strict=True):
        for axis, mask in zip(row, maps, strict=True):
            axis.imshow(
                np.ma.masked_equal(mask, 255),
                cmap="tab20",
                vmin=0,
                vmax=max(classes - 1, 19),
                interpolation="nearest",
            )
    label_rows(axes, ["image", *masks])
    return figure


def bars(means: Mapping[str, float], deviations: Mapping[str, float], label: str) -> Figure:
    """Horizontal bars with deviations, best at the top."""
    names = sorted(means, key=means.__getitem__)
    figure, axis = _chart(7, 0.5 + 0.3 * len(names))
    axis.barh(
        names,
        [means[name] for name in names],
        xerr=[deviations[name] for name in names],
        color="#4878a8",
        ecolor="0.3",
    )
    axis.set_xlabel(label)
    axis.set_ylim(-0.6, len(names) - 0.4)
    return figure


def heat_map(
    values: np.ndarray,
    rows: Sequence[Any],
    columns: Sequence[Any],
    row_name: str,
    column_name: str,
    label: str,
) -> Figure:
    """A grid of numbers (rows, columns), each written in its cell; nan cells stay empty."""
    figure, axis = _chart(1.5 + 1.1 * len(columns), 1 + 0.7 * len(rows))
    shown = axis.imshow(values, cmap="viridis", aspect="auto")
    for (y, x), value in np.ndenumerate(values):
        if np.isfinite(value):
            axis.text(
                x,
                y,
                f"{value:.1f}",
                ha="center",
                va="center",
                color="white" if value < np.nanmean(values) else "black",
            )
    axis.set_xticks(range(len(columns)), columns)
    axis.set_yticks(range(len(rows)), rows)
    axis.set(xlabel=column_name, ylabel=row_name)
    figure.colorbar(shown, ax=axis, label=label)
    return figure
