"""Where the labels of a map change. NumPy only."""

from __future__ import annotations

import numpy as np


def boundary_map(labels: np.ndarray) -> np.ndarray:
    """Boolean (H, W): pixels that differ from their right, lower or lower-right neighbour.

    The boundary lies half a pixel towards the origin. On the last row only the right neighbour counts, on the
    last column only the lower one, and the last corner is never a boundary, so a mask that touches the
    image's border has no boundary there. DAVIS's seg2bmap and, at image size, BSDS's seg2bdry."""
    boundary = np.zeros(labels.shape, bool)
    boundary[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    boundary[:-1] |= labels[:-1] != labels[1:]
    boundary[:-1, :-1] |= labels[:-1, :-1] != labels[1:, 1:]
    return boundary
