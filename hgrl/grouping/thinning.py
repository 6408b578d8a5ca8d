"""Edge maps thinned to one pixel by non-maximum suppression, as the boundary benchmark wants them.

After Dollar & Zitnick, "Fast edge detection using structured forests": an edge stays where it is not weaker
than both neighbours across it, one pixel away. The normal is the Hessian's eigenvector; their code's (and
OpenCV's) arc tangent of a ratio of second derivatives is right at multiples of 45 degrees only."""

import cv2
import numba
import numpy as np

RADIUS = 4  # triangle that smooths the map before derivatives are taken
TOLERANCE = 1.01  # an edge survives a neighbour that is stronger by less than 1 %
BORDER = 5  # px: edges fade linearly towards the border


def thin_edges(edge_map: np.ndarray, border: int = BORDER) -> np.ndarray:
    """Non-maximum suppression of a map (H, W) in [0, 1]: (H, W) float32, its values on ridges, else 0.

    Within `border` px of the image's border (0: nowhere) values fade linearly. A plateau stays whole."""
    edge_map = np.ascontiguousarray(edge_map, np.float32)
    thin = np.empty_like(edge_map)
    suppress(edge_map, normal_angle(edge_map), TOLERANCE, thin)
    return thin * np.outer(*(_fade(side, border) for side in edge_map.shape))


def normal_angle(edge_map: np.ndarray) -> np.ndarray:
    """Direction across the edge, from the x axis towards growing rows: (H, W) float32 in [-pi/2, pi/2].

    The eigenvector of the smoothed map's Hessian with the larger eigenvalue in size: on a ridge the map
    curves most across it, downwards on the crest and upwards on the flanks."""
    rising = np.arange(1, 2 * RADIUS + 2)
    kernel = np.minimum(rising, rising[::-1]).astype(np.float32) / (RADIUS + 1) ** 2
    edge_map = np.asarray(edge_map, np.float32)
    smoothed = cv2.sepFilter2D(edge_map, -1, kernel, kernel, borderType=cv2.BORDER_REFLECT)
    along_x, along_y = _slope(smoothed, 1), _slope(smoothed, 0)
    xx, xy, yy = _slope(along_x, 1), _slope(along_x, 0), _slope(along_y, 0)
    sign = np.where(xx + yy > 0, np.float32(1), np.float32(-1))  # of the larger eigenvalue
    return 0.5 * np.arctan2(2 * sign * xy, sign * (xx - yy))


def _slope(values: np.ndarray, axis: int) -> np.ndarray:
    return np.gradient(values, axis=axis) if values.shape[axis] > 1 else np.zeros_like(values)


def _fade(side: int, border: int) -> np.ndarray:
    border, steps = min(border, side // 2), np.arange(side)
    return np.clip(np.minimum(steps, steps[::-1]) / max(border, 1), 0 if border else 1, 1).astype(np.float32)


@numba.njit(nogil=True, cache=True)
def between(values, y, x):
    """Bilinear interpolation at (y, x), which is moved into the image."""
    y, x = min(max(y, 0.0), values.shape[0] - 1.0), min(max(x, 0.0), values.shape[1] - 1.0)
    row, column = int(y), int(x)
    below, right = min(row + 1, values.shape[0] - 1), min(column + 1, values.shape[1] - 1)
    down, across = y - row, x - column
    upper = (1 - across) * values[row, column] + across * values[row, right]
    return (1 - down) * upper + down * ((1 - across) * values[below, column] + across * values[below, right])


@numba.njit(nogil=True, cache=True)
def suppress(values, angle, tolerance, out):
    """out = values that reach, times `tolerance`, both values one pixel away along +-angle; 0 elsewhere."""
    for y in range(values.shape[0]):
        for x in range(values.shape[1]):
            out[y, x] = 0
            if values[y, x] > 0:
                own, dy, dx = tolerance * values[y, x], np.sin(angle[y, x]), np.cos(angle[y, x])
                if own >= between(values, y + dy, x + dx) and own >= between(values, y - dy, x - dx):
                    out[y, x] = values[y, x]
