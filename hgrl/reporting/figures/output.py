"""Where figures go: the pipeline saves them, a reader of a notebook sees them."""

import os

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from hgrl.core.experiment import Experiment
from hgrl.core.files import write_figure
from hgrl.core.notebook import IN_PIPELINE


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
    """Write a figure as PNG among the results, which are committed; one that shows others' photographs, which
    are not ours to publish, among the artefacts."""
    committed = not shows_images or experiment.settings.data.scenes is not None
    write_figure(experiment.files.figures(committed) / f"{name}.png", figure)
