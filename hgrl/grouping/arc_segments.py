"""Directions of region boundaries: arcs approximated by straight segments.

Arbelaez et al. (TPAMI 2011), section 4.2: an arc is subdivided where it is farthest from the line between its
ends, until every piece is nearly straight. Boundaries are the cracks between pixels, corner to corner."""

import numba
import numpy as np

SLACK = 1.0  # px a piece may leave its line: a digital line leaves it by up to that
SHARE = 0.1  # or this share of the line's length; section 4.2 has "a fixed fraction"


def arc_normals(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Angles of arcs' normals on horizontal (H, W-1) and vertical (H-1, W) lattice edges of labels (H, W).

    float64 in [0, pi), 0 along x, pi / 2 along y (downward); NaN where both pixels are of one region."""
    height, width = labels.shape
    across, down = labels[:, :-1] != labels[:, 1:], labels[:-1] != labels[1:]
    active = np.concatenate([across.ravel(), down.ravel()])
    angles = _segment_angles(active, height, width) if active.any() else np.full(active.shape, np.nan)
    return angles[: across.size].reshape(across.shape), angles[across.size :].reshape(down.shape)


@numba.njit(nogil=True, cache=True)
def _cracks_at(active, height, width, i, j, found):
    """How many cracks at corner (i, j) are active; `found`: their numbers up, down, left, right, or -1."""
    across, down = i * (width - 1) + j - 1, height * (width - 1) + (i - 1) * width + j
    found[0] = across - (width - 1) if 0 < j < width and i > 0 else -1
    found[1] = across if 0 < j < width and i < height else -1
    found[2] = down - 1 if 0 < i < height and j > 0 else -1
    found[3] = down if 0 < i < height and j < width else -1
    count = 0
    for side in range(4):
        if found[side] >= 0 and not active[found[side]]:
            found[side] = -1
        count += found[side] >= 0
    return count


@numba.njit(nogil=True, cache=True)
def _segment_angles(active, height, width):
    """The normal's angle of each active crack: chains from junction to junction first, then closed ones."""
    angles = np.full(len(active), np.nan)
    seen = np.zeros(len(active), np.bool_)
    sides, onward = np.empty((2, 4), np.int64)
    rows, columns, cracks = np.empty((3, len(active) + 1), np.int64)
    for closed in range(2):
        for i in range(height + 1):
            for j in range(width + 1):
                degree = _cracks_at(active, height, width, i, j, sides)
                if degree == 0 or (degree == 2) != (closed == 1):
                    continue
                for side in range(4):
                    if sides[side] >= 0 and not seen[sides[side]]:
                        rows[0], columns[0], cracks[0] = i, j, sides[side]
                        length = _follow(active, height, width, side, seen, rows, columns, cracks, onward)
                        _subdivide(rows, columns, cracks, length, angles)
    return angles


@numba.njit(nogil=True, cache=True)
def _follow(active, height, width, side, seen, rows, columns, cracks, onward):
    """Walk from the first corner to a junction, the border or a crack already seen; how many were passed."""
    i, j, crack, length = rows[0], columns[0], cracks[0], 0
    while True:
        seen[crack] = True
        cracks[length] = crack
        length += 1
        i += (side == 1) - (side == 0)
        j += (side == 3) - (side == 2)
        rows[length], columns[length] = i, j
        if _cracks_at(active, height, width, i, j, onward) != 2:
            return length
        crack = -1
        for candidate in range(4):
            if onward[candidate] >= 0 and not seen[onward[candidate]]:
                crack, side = onward[candidate], candidate
        if crack < 0:
            return length


@numba.njit(nogil=True, cache=True)
def _subdivide(rows, columns, cracks, length, angles):
    """Split the chain where it is farthest from the line between its ends; write each piece's normal."""
    stack = [(0, length)]
    while len(stack) > 0:
        start, stop = stack.pop()
        down, right = rows[stop] - rows[start], columns[stop] - columns[start]
        span = np.sqrt(down * down + right * right)
        farthest, middle = 0.0, start
        for k in range(start + 1, stop):
            v, u = rows[k] - rows[start], columns[k] - columns[start]
            # a closed chain has no line: far from where it starts
            distance = abs(u * down - v * right) / span if span > 0 else np.sqrt(u * u + v * v)
            if distance > farthest:
                farthest, middle = distance, k
        if middle > start and farthest > max(SLACK, SHARE * span):
            stack += [(start, middle), (middle, stop)]
        else:
            angle = (np.arctan2(down, right) + np.pi / 2) % np.pi
            for k in range(start, stop):
                angles[cracks[k]] = angle
