"""What equations 2 and 3 draw: probabilities of regions, and the sampled pixels."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hgrl.reporting.figures.panels import grid, outlined
from hgrl.sampling.pixels import PixelSample

STYLES = {  # colour and size of each kind of pixel
    "negative": ("#d62728", 45),
    "negative from another image": ("#ff9f1c", 80),
    "positive": ("#2ca02c", 45),
    "anchor": ("white", 130),
}
ENLARGED = 4  # thin lines need more pixels than the small profiles' images have
SHARES = 0.001, 1.0  # ends of the colour scale; on a linear one all but one region would be black


def probability_maps(
    image: np.ndarray,
    labels: np.ndarray,
    anchor: int,
    maps: Mapping[str, np.ndarray],
    pixel: tuple[int, int] | None = None,
) -> Figure:
    """An image with its regions and an anchor region, then a map per named probability of regions (R,).

    All maps have one colour scale, and the anchor region an outline. pixel: x and y of the anchor, a star."""
    figure, axes = grid(1, 1 + len(maps), 3.0, aspect=labels.shape[0] / labels.shape[1])
    axes[0, 0].imshow(outlined(image, labels))
    axes[0, 0].set_title("anchor region")
    for axis, (name, probability) in zip(axes[0, 1:], maps.items(), strict=True):
        shown = axis.imshow(probability[labels], cmap="magma", norm=LogNorm(*SHARES, clip=True))
        axis.set_title(name)
    # one further on all sides, so that an outline closes at the border too
    y, x = (np.arange(-1, side + 1) for side in labels.shape)
    for axis in axes[0]:
        axis.contour(x, y, np.pad(labels == anchor, 1), [0.5], colors="cyan")
        axis.set(xlim=(-0.5, x[-1] - 0.5), ylim=(y[-1] - 0.5, -0.5))
        if pixel is not None:
            axis.plot(*pixel, "*", color="white", markeredgecolor="black", markersize=12)
    label = "share of all draws\nthat a region gets"
    figure.colorbar(shown, ax=axes[0, 1:].tolist(), shrink=0.8, label=label)
    return figure


def sampled_pixels(
    images: np.ndarray, labels: np.ndarray, sample: PixelSample, image: int, anchor: int, stride: int = 4
) -> Figure:
    """An anchor with its positives and negatives, in both views of its image and in the images beside it.

    images: (V=2, B, S, S, 3) uint8, the batch that was sampled, labels: (V, B, h, w); image and anchor: which
    of `sample`'s rows. Each view of another image that gives a negative has a small picture."""
    negatives = sample.negatives[image, anchor][sample.negatives_valid[image, anchor]]
    own = (negatives // labels[0, 0].size) % labels.shape[1] == image
    drawn = {
        "negative": negatives[own],
        "negative from another image": negatives[~own],
        "positive": sample.positives[image, anchor][sample.positives_valid[image, anchor]],
        "anchor": sample.anchors[image, anchor : anchor + 1],
    }
    places = {
        kind: np.array(np.unravel_index(cells.numpy(), labels.shape)).T for kind, cells in drawn.items()
    }
    others = np.unique(places["negative from another image"][:, :2], axis=0).tolist()
    columns = -(-len(others) // 2)
    figure = Figure(figsize=(8 + 2 * columns, 4.4), layout="constrained")
    cells = figure.add_gridspec(2, 4 + columns)
    for view, title in enumerate(("first view", "augmented view")):
        axis = figure.add_subplot(cells[:, 2 * view : 2 * view + 2], title=title)
        _draw_view(axis, images, labels, places, (view, image), stride)
    for k, (view, other) in enumerate(others):
        axis = figure.add_subplot(cells[k % 2, 4 + k // 2], title=f"image {other}")
        _draw_view(axis, images, labels, places, (view, other), stride)
    style = {"linestyle": "", "marker": "o", "markersize": 9, "markeredgecolor": "black"}
    kinds = [kind for kind in reversed(STYLES) if len(places[kind])]
    handles = [Line2D([], [], color=STYLES[kind][0], label=kind, **style) for kind in kinds]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(kinds), frameon=False)
    return figure


def _draw_view(
    axis: Axes,
    images: np.ndarray,
    labels: np.ndarray,
    places: Mapping[str, np.ndarray],
    which: tuple[int, int],
    stride: int,
) -> None:
    """A view of an image with its regions, enlarged, and what lies in it of `places`: (n, 4) by kind."""
    pixel, cell = (np.ones((side, side), np.uint8) for side in (ENLARGED, ENLARGED * stride))
    axis.imshow(outlined(np.kron(images[which], pixel[..., None]), np.kron(labels[which], cell)))
    axis.set(xticks=[], yticks=[])
    for kind, (colour, size) in STYLES.items():
        here = places[kind][(places[kind][:, :2] == which).all(1), 2:]
        y, x = here.T * ENLARGED * stride + (ENLARGED * stride - 1) / 2  # the middle of the cell
        axis.scatter(x, y, s=size, c=colour, edgecolors="black", linewidths=0.7)
