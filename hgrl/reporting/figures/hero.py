"""The method in one strip, without a word: what README opens with."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from hgrl.core.experiment import load_experiment
from hgrl.core.files import write_bytes
from hgrl.core.loading import grouping_preset
from hgrl.core.settings import SamplingSettings
from hgrl.evaluation.features import NetworkFeatures, single_layer
from hgrl.evaluation.networks import load_network
from hgrl.evaluation.shipped import shipped_file, shipped_network
from hgrl.grouping.group import height_scale, region_tree
from hgrl.grouping.region_tree import RegionTree
from hgrl.pretraining.network import STRIDES
from hgrl.reporting.figures.panels import outlined, pca_colours
from hgrl.reporting.figures.photographs import read_photograph
from hgrl.reporting.figures.sampling import STYLES
from hgrl.reporting.figures.trees import dendrogram, tinted
from hgrl.sampling.heights import in_height_unit
from hgrl.sampling.pixels import sample_pixels

PHOTOGRAPH, SIDE = "astronaut", 256
ANCHOR = 0.29, 0.44  # down and across, of the photograph's size: the face
CUTS = 4, 9, 22  # regions
DRAWN = 14  # positives, and negatives
PROFILES, RUN = ("photos", "mini"), "ours-cns5-20"  # the first of them whose network ships
Spots = dict[str, np.ndarray]  # kind -> (n, 2) row and column


def write_hero(path: Path) -> None:
    """Photograph, edges, tree and cuts, an anchor's positives and negatives, untrained and trained embedding.

    A palette PNG. InputError where the trained network does not ship."""
    there = [profile for profile in PROFILES if shipped_file(profile, RUN).exists()]
    image, experiment = read_photograph(PHOTOGRAPH, SIDE), load_experiment([*there, PROFILES[0]][0])
    edge_map, tree = region_tree(image, grouping_preset("best"))
    untrained = load_network(experiment, experiment.run("random"), 0)
    embeddings = []
    for network in (untrained, shipped_network(experiment, experiment.run(RUN))):
        function = single_layer(NetworkFeatures(network, torch.device("cpu")), "embedding")
        embeddings.append(pca_colours(function(image[None]))[0])
    buffer = io.BytesIO()
    figure = hero_figure(image, edge_map, tree, draw_spots(tree, ANCHOR), embeddings)
    figure.savefig(buffer, format="png", dpi=120, bbox_inches="tight", pad_inches=0.02)
    strip = Image.open(buffer).convert("RGB")
    palette, buffer = strip.quantize(256), io.BytesIO()
    strip.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(buffer, "PNG", optimize=True)
    write_bytes(path, buffer.getvalue())


def draw_spots(tree: RegionTree, anchor: tuple[float, float], seed: int = 0) -> Spots:
    """What equations 2 and 3 draw in the image itself for an anchor at a place in [0, 1)^2, in pixels.

    The unit of height is the one that gives the median region of this very tree a P(self) of 0.85."""
    row, column = (int(place * side) for place, side in zip(anchor, tree.labels.shape, strict=True))
    settings = SamplingSettings(anchors=tree.regions, positives=DRAWN, negatives=DRAWN)
    scaled = in_height_unit(tree, "auto", height_scale([tree], settings.sigma_p, 0.85))
    stride = STRIDES["embedding"]
    cells = torch.from_numpy(tree.labels[stride // 2 :: stride, stride // 2 :: stride].copy())
    views, distances = cells.expand(2, 1, *cells.shape), torch.from_numpy(scaled.distances())[None]
    sample = sample_pixels(views, distances, settings, 0, torch.Generator().manual_seed(seed))
    regions = cells.flatten()[sample.anchors[0] % cells.numel()]
    (which,) = torch.nonzero(regions == tree.labels[row, column])[0].tolist()
    spots = {"anchor": np.array([[row, column]])}
    for kind, drawn in (("negative", sample.negatives), ("positive", sample.positives)):
        first_view = drawn[0, which, :DRAWN].numpy()
        spots[kind] = np.stack(np.divmod(first_view, cells.shape[1]), 1) * stride + stride // 2
    return spots


def hero_figure(
    image: np.ndarray, edge_map: np.ndarray, tree: RegionTree, spots: Spots, embeddings: Sequence[np.ndarray]
) -> Figure:
    """image: (H, W, 3) uint8; edge_map: (H, W) in [0, 1]; embeddings: two (h, w, 3) in [0, 1]."""
    figure = Figure(figsize=(16.4, 2.4))
    gaps = {"left": 0, "right": 1, "bottom": 0, "top": 1, "wspace": 0.06}
    parts = figure.add_gridspec(1, 7, width_ratios=(3, 3, 2.6, 1, 3, 3, 3), **gaps)
    photograph, edges, branches, _, pairs, *maps = (figure.add_subplot(parts[k]) for k in range(7))
    figure.delaxes(_)
    photograph.imshow(image)
    edges.imshow(1 - edge_map, cmap="gray", vmin=0, vmax=1)
    levels = [float(tree.heights[max(tree.regions - count - 1, 0)]) for count in CUTS]
    dendrogram(branches, tree, levels[1])
    for level in levels:
        branches.axhline(level, color="0.4", linestyle="--", linewidth=1)
    column = parts[3].subgridspec(3, 1, hspace=0.04)
    cuts = [figure.add_subplot(column[k]) for k in range(3)]
    for axis, level in zip(cuts, levels, strict=True):
        axis.imshow(tinted(image, tree, level))
    pairs.imshow(outlined(image // 2 + 100, tree.labels))
    for kind in reversed([*spots]):  # the anchor last, on top
        colour, size = STYLES[kind]
        pairs.scatter(*spots[kind].T[::-1], c=colour, s=size, edgecolors="black", linewidths=0.8)
    for axis, embedding in zip(maps, embeddings, strict=True):
        axis.imshow(embedding, interpolation="bilinear")
    _without_words(figure.axes)
    return figure


def _without_words(axes: Sequence[Axes]) -> None:
    for axis in axes:
        axis.set(xticks=[], yticks=[], xlabel="", ylabel="")
        axis.spines[:].set_visible(False)
