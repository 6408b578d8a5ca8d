"""Trees and embeddings of photographs, by networks that ship: docs/gallery.md's, or of a reader's own."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from hgrl.core.errors import InputError
from hgrl.core.experiment import load_experiment
from hgrl.core.files import write_bytes
from hgrl.core.loading import grouping_preset
from hgrl.evaluation.features import NetworkFeatures, single_layer
from hgrl.evaluation.networks import load_network
from hgrl.evaluation.shipped import shipped_network
from hgrl.grouping.group import region_tree
from hgrl.reporting.explorer import sheet, tree_panels
from hgrl.reporting.figures.compressed import jpeg
from hgrl.reporting.figures.panels import pca_colours
from hgrl.reporting.figures.photographs import PHOTOGRAPHS, read_photograph

SIDE, WIDTH = 256, 900  # pixels: the shorter side that networks see; across a picture
RUN, TRAINED = "ours-cns5-20", {"mini": "trained on drawn scenes", "photos": "trained on photographs"}


def write_gallery(folder: Path, photographs: Sequence[str] = PHOTOGRAPHS) -> Iterator[Path]:
    """A JPEG for each photograph: its tree, and embeddings of an untrained and of the trained networks.

    photographs: names of scikit-image's, or files. A network that does not ship is left out. Yields each file
    as it is written; InputError if none ships, or if a sheet would take a photograph's place."""
    networks = dict(_networks())
    for name in photographs:
        path = folder / f"{Path(name).stem}.jpg"
        if path.resolve() == Path(name).resolve():
            raise InputError(f"{path}: the sheet would take its place; name another folder with --out")
        image = read_photograph(name, SIDE)
        edge_map, tree = region_tree(image, grouping_preset("best"))
        panels = tree_panels(image, edge_map, tree)
        height, width = panels[0][1].shape[:2]
        for caption, network in networks.items():
            function = single_layer(NetworkFeatures(network, torch.device("cpu")), "embedding")
            colours = np.rint(255 * pca_colours(function(image[None]))[0]).astype(np.uint8)
            panels.append((caption, np.asarray(Image.fromarray(colours).resize((width, height)))))
        write_bytes(path, jpeg(Image.fromarray(sheet(panels)), WIDTH))
        yield path


def _networks() -> Iterator[tuple[str, torch.nn.Module]]:
    """Caption -> an untrained network of the first profile, then every one that ships."""
    problems = []
    experiment = load_experiment(next(iter(TRAINED)))
    yield "untrained", load_network(experiment, experiment.run("random"), experiment.settings.seeds[0])
    for profile, caption in TRAINED.items():
        experiment = load_experiment(profile)
        try:
            yield caption, shipped_network(experiment, experiment.run(RUN))
        except InputError as error:
            problems.append(error)
    if len(problems) == len(TRAINED):
        raise problems[0]
