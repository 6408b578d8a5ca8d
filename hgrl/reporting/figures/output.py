"""Where figures go: the pipeline saves them, a reader of a notebook sees them."""

import io
import os

from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

from hgrl.core.experiment import Experiment
from hgrl.core.files import write_bytes
from hgrl.core.notebook import IN_PIPELINE
from hgrl.reporting.figures.compressed import palette_png

DPI = 120
WIDTHS, LARGEST = (1200, 900, 700, 500), 400_000  # pixels across: the first below so many bytes
OF_A_RUN = "loss-", "embedding-"  # thirty of each: the report draws the losses; one embedding shows the idea
SHOWN_RUN = "embedding-ours-cns5-20"


def show(
    figure: Figure, experiment: Experiment, name: str, shows_images: bool = True, own: bool = True
) -> Figure:
    """The figure for a notebook's cell; saved as well, but only if the pipeline executes the notebook.

    own: whether it shows this profile's results; those of another are never saved."""
    if own and IN_PIPELINE in os.environ:
        save_figure(experiment, name, figure, shows_images)
    plt.switch_backend(plt.get_backend())  # a kernel learns how to display figures that pyplot did not make
    plt.close(figure)  # one that pyplot made would show twice
    return figure


def save_figure(experiment: Experiment, name: str, figure: Figure, shows_images: bool) -> None:
    """Write a figure as a small PNG among the results, which are committed, if README or the report shows
    it; else, or if it shows others' photographs, which are not ours to publish, among the artefacts."""
    publishable = not shows_images or experiment.settings.data.scenes is not None
    committed = publishable and (name == SHOWN_RUN or not name.startswith(OF_A_RUN))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, bbox_inches="tight")
    picture = Image.open(buffer)
    sizes = (palette_png(picture, width) for width in WIDTHS)
    content = next((small for small in sizes if len(small) < LARGEST), palette_png(picture, WIDTHS[-1]))
    write_bytes(experiment.files.figures(committed) / f"{name}.png", content)
