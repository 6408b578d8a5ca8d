"""Adding the spectral signal to the arcs of a watershed: three public readings of "combined"."""

import dataclasses

import numpy as np

from hgrl.core.settings import GroupingSettings
from hgrl.grouping.arc_segments import arc_normals
from hgrl.grouping.hierarchy import Arcs, collect_arcs, lattice_weights
from hgrl.grouping.orientation import Pair, weights_at_normals
from hgrl.grouping.spectral.signal import lattice_signal, oriented_signal, solve

CONTRAST = {"arcs": 4.0, "mcg": 10.0, "minmax": 10.0}  # 10: MCG's factor; 4 was better on BSDS val
DIVISOR = 60.0  # MCG's, which brings the signal to the edges' range


def add_spectral(arcs: Arcs, settings: GroupingSettings) -> Arcs:
    """Arcs whose strength is edge + weight * spectral.

    `arcs` and `mcg`: the signal divided by 60, of the arcs' map times 4 and times 10; `minmax`: brought to
    [0, 1] over the image, and the sum divided by 1 + weight, so that heights stay in [0, 1]."""
    # the same regions: the same arcs, in the same order
    spectral = collect_arcs(arcs.labels, *spectral_signal(arcs, settings)).strength
    weight = settings.spectral_weight
    if settings.spectral_mix == "minmax":
        spectral = (spectral - spectral.min()) / max(np.ptp(spectral), 1e-12)
        return dataclasses.replace(arcs, strength=(arcs.strength + weight * spectral) / (1 + weight))
    return dataclasses.replace(arcs, strength=arcs.strength + weight * spectral / DIVISOR)


def spectral_signal(arcs: Arcs, settings: GroupingSettings) -> Pair:
    """The spectral signal of the arcs' map on horizontal (H, W-1) and vertical (H-1, W) lattice edges.

    Oriented derivatives are read at the arc's direction where `arc_strength` is oriented, at the strongest
    orientation otherwise."""
    edge_map = np.minimum(1.0, CONTRAST[settings.spectral_mix] * arc_map(arcs))
    solved = solve(edge_map, settings.spectral_exact, settings.spectral_refinements)
    if settings.spectral_derivative == "lattice":
        return lattice_signal(*solved, edge_map.shape)
    planes = oriented_signal(*solved, edge_map.shape)
    if settings.arc_strength == "oriented":
        return weights_at_normals(planes, arc_normals(arcs.labels))
    return lattice_weights(planes.max(axis=0))


def arc_map(arcs: Arcs) -> np.ndarray:
    """Each pixel's strongest arc to its right or below: (H, W) float64; 0 inside regions."""
    labels, out = arcs.labels, np.zeros(arcs.labels.shape)
    keys = arcs.ends[:, 0] * arcs.regions + arcs.ends[:, 1]  # sorted
    right, below = (labels[:, 1:], np.s_[:, :-1]), (labels[1:], np.s_[:-1])
    for there, place in (right, below):
        here, part = labels[place], out[place]
        crossing = here != there
        low, high = np.minimum(here, there)[crossing], np.maximum(here, there)[crossing]
        strength = arcs.strength[np.searchsorted(keys, low * arcs.regions + high)]
        part[crossing] = np.maximum(part[crossing], strength)
    return out
