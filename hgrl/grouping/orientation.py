"""Orientation of edges, and what an oriented map says on an arc of known direction.

Angles are those of normals, in [0, pi): 0 along x, pi / 2 along y (downward). An angle and the angle plus pi are the same, so
angles are averaged doubled.
"""

from __future__ import annotations

import cv2
import numpy as np

ORIENTATIONS = 8  # TPAMI 2011, section 3
SIGMA = 2.0  # px; smoothing of the edge map before its second derivatives are taken


def edge_normals(edge_map: np.ndarray) -> np.ndarray:
    """Doubled normals of an edge map (H, W): (H, W) complex64, exp(2 i angle) of the direction in which the map bends down most; 0 where flat.

    A structured forest gives no orientation; this is the principal direction of the smoothed map's second derivatives, for which
    `cv2.ximgproc`'s computeOrientation is biased.
    """
    smooth = cv2.GaussianBlur(edge_map.astype(np.float32), (0, 0), SIGMA, borderType=cv2.BORDER_REFLECT)
    xx, yy, xy = (cv2.Sobel(smooth, cv2.CV_32F, *order, ksize=3, borderType=cv2.BORDER_REFLECT) for order in ((2, 0), (0, 2), (1, 1)))
    doubled = (yy - xx) - 1j * 2 * xy
    size = np.abs(doubled)
    return np.where(size > 1e-6, doubled / np.maximum(size, 1e-6), 0).astype(np.complex64)


def oriented_weights(edge_map: np.ndarray, normals: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Lattice weights (H, W-1) and (H-1, W): the mean of both pixels, times |cos| of the angle between the edge's normal and the arc's.

    normals: `arc_segments.arc_normals`. 0 where they are NaN: inside regions.
    """
    pull = edge_map * edge_normals(edge_map)  # a stronger pixel has more say
    out = []
    for axis, angles in zip((1, 0), normals, strict=True):
        doubled, size = _pairs(pull, axis), np.maximum(_pairs(np.abs(pull), axis), 1e-12)
        agreement = np.clip((doubled * np.exp(-2j * angles)).real / size, -1, 1)
        out.append(np.nan_to_num(_pairs(edge_map, axis) / 2 * np.sqrt((1 + agreement) / 2)))
    return out[0], out[1]


def weights_at_normals(planes: np.ndarray, normals: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Lattice weights (H, W-1) and (H-1, W) of an oriented map (8, H, W): both pixels' mean in the plane nearest to the arc's normal."""
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
    """Sums of neighbours along an axis."""
    return values[:, :-1] + values[:, 1:] if axis == 1 else values[:-1] + values[1:]
