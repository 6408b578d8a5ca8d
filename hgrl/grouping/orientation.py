"""Orientation of edges, and what an oriented map says on an arc of known direction.

Angles are of normals, modulo pi, so averaged doubled: 0 along x, pi / 2 along y (downward)."""

import numpy as np

from hgrl.grouping.thinning import normal_angle

ORIENTATIONS = 8  # TPAMI 2011, section 3
Pair = tuple[np.ndarray, np.ndarray]  # on horizontal (H, W-1) and vertical (H-1, W) lattice edges


def oriented_weights(edge_map: np.ndarray, normals: Pair) -> Pair:
    """Lattice weights: the mean of both pixels, times |cos| of the angle between edge's and arc's normals.

    TPAMI 2011, section 4.2; a structured forest answers without orientation, so that of the map's own ridges
    is used. normals: `arc_segments.arc_normals`. 0 where they are NaN: inside regions."""
    pull = edge_map * np.exp(2j * normal_angle(edge_map))  # stronger pixels count more
    out = []
    for axis, angles in zip((1, 0), normals, strict=True):
        doubled, size = _pairs(pull, axis), np.maximum(_pairs(np.abs(pull), axis), 1e-12)
        agreement = np.clip((doubled * np.exp(-2j * angles)).real / size, -1, 1)
        out.append(np.nan_to_num(_pairs(edge_map, axis) / 2 * np.sqrt((1 + agreement) / 2)))
    return out[0], out[1]


def weights_at_normals(planes: np.ndarray, normals: Pair) -> Pair:
    """Lattice weights of an oriented map (8, H, W): both pixels' mean in the plane of the arc's normal."""
    out = []
    for axis, angles in zip((1, 0), normals, strict=True):
        weights = np.zeros(angles.shape)
        rows, columns = np.nonzero(~np.isnan(angles))
        plane = np.rint(angles[rows, columns] * ORIENTATIONS / np.pi).astype(np.int64) % ORIENTATIONS
        there = planes[plane, rows + (axis == 0), columns + (axis == 1)]
        weights[rows, columns] = (planes[plane, rows, columns] + there) / 2
        out.append(weights)
    return out[0], out[1]


def _pairs(values: np.ndarray, axis: int) -> np.ndarray:
    return values[:, :-1] + values[:, 1:] if axis == 1 else values[:-1] + values[1:]
