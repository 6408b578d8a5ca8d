"""What equations 2 and 3 draw: probabilities of regions, and the sampled pixels."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from hgrl.reporting.figures.panels import grid, outlined
from hgrl.sampling.pixels import PixelSample

ANCHOR, POSITIVE, NEGATIVE = "white", "#2ca02c", "#d62728"
ENLARGED = 4  # thin lines need more pixels than the small profiles' images have


def probability_maps(
    image: np.ndarray, labels: np.ndarray, anchor: int, maps: Mapping[str, np.ndarray]
) -> Figure:
    """An image with its regions and an anchor region, then a map per named probability of regions (R,)."""
    figure, axes = grid(1, 1 + len(maps), 3.0)
    axes[0, 0].imshow(outlined(image, labels))
    axes[0, 0].imshow(np.ma.masked_where(labels != anchor, labels), cmap="spring", alpha=0.6)
    axes[0, 0].set_title("anchor region")
    for axis, (name, probability) in zip(axes[0, 1:], maps.items(), strict=True):
        shown = axis.imshow(probability[labels], cmap="magma", vmin=0)
        axis.set_title(name)
        figure.colorbar(shown, ax=axis, shrink=0.7)
    return figure


def sampled_pixels(
    images: np.ndarray, labels: np.ndarray, sample: PixelSample, image: int, anchor: int, stride: int = 4
) -> Figure:
    """Both views of an image (2, S, S, 3) with regions (2, h, w), an anchor, its positives and negatives.

    Negatives from other images (cns) are not shown. image: its index in the batch that was sampled."""
    figure, axes = grid(1, 2, 4.0)
    batch, cells = len(sample.anchors), labels[0].size
    groups = (
        (sample.negatives[image, anchor][sample.negatives_valid[image, anchor]], NEGATIVE, 45),
        (sample.positives[image, anchor][sample.positives_valid[image, anchor]], POSITIVE, 45),
        (sample.anchors[image, anchor : anchor + 1], ANCHOR, 120),
    )
    for view, axis in enumerate(axes[0]):
        pixel, cell = (np.ones((side, side), np.uint8) for side in (ENLARGED, ENLARGED * stride))
        axis.imshow(outlined(np.kron(images[view], pixel[..., None]), np.kron(labels[view], cell)))
        axis.set_title(("first view", "augmented view")[view])
        first = (view * batch + image) * cells
        for drawn, colour, size in groups:
            inside = drawn.numpy() - first
            inside = inside[(inside >= 0) & (inside < cells)]  # those that lie in this view
            places = np.array(np.divmod(inside, labels[view].shape[1])) * ENLARGED * stride
            y, x = places + (ENLARGED * stride - 1) / 2  # the middle of the cell
            axis.scatter(x, y, s=size, c=colour, edgecolors="black", linewidths=0.7)
    return figure
