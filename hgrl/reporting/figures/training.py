"""A network while it learns: its loss so far, and what its embedding shows, in one small picture."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from IPython.display import Image
from matplotlib.figure import Figure
from PIL.Image import open as open_image
from torch import Tensor

from hgrl.core.experiment import load_experiment
from hgrl.reporting.figures.committed import ALWAYS_THERE
from hgrl.reporting.figures.compressed import jpeg
from hgrl.reporting.figures.panels import pca_colours
from hgrl.reporting.figures.scores import draw_losses

SIDE = 1.4  # inches of an image
WIDEST = 1000  # pixels


def training_picture(
    losses: Sequence[float], steps: int, switches: Mapping[float, str], images: np.ndarray, embedding: Tensor
) -> Image:
    """The losses of the steps done, of `steps` in all, beside images (B, H, W, 3) and their PCA colours.

    switches: see `hgrl.reporting.figures.scores.loss_curves`. A picture to be shown once and then updated."""
    width = SIDE * len(images)
    figure = Figure(figsize=(4.2 + width, 2 * SIDE + 0.1), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(4.2, width))
    axes = left.subplots()
    if losses:
        draw_losses(axes, {"loss": (np.arange(1, len(losses) + 1), np.array(losses))}, switches)
    axes.set(xlabel="step", ylabel="loss", xlim=(0, max(steps, 1)), title=f"step {len(losses)} of {steps}")
    rows = {"image": images, "embedding": pca_colours(embedding)}
    for row, (name, pictures) in zip(right.subplots(2, len(images)), rows.items(), strict=True):
        row[0].set_ylabel(name)
        for axis, picture in zip(row, pictures, strict=True):
            axis.imshow(picture, interpolation="bilinear")
            axis.set(xticks=[], yticks=[])
    return as_picture(figure)


def as_picture(figure: Figure) -> Image:
    """A figure as a small JPEG that a notebook shows, and that nothing saves."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80)
    return Image(jpeg(open_image(buffer), WIDEST), format="jpeg")


def committed_picture(name: str) -> Image:
    """A figure of the committed results, not over `WIDEST` pixels; says whose it is."""
    path = load_experiment(ALWAYS_THERE).files.figures(committed=True) / f"{name}.png"
    print(f"{name}: as committed in results/{ALWAYS_THERE}")
    return Image(jpeg(open_image(path), WIDEST), format="jpeg")
