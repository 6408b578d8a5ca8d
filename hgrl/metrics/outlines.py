"""Where the labels of a map change. NumPy only."""

import numpy as np


def boundary_map(labels: np.ndarray) -> np.ndarray:
    """Boolean (H, W): pixels that differ from their right, lower or lower-right neighbour.

    The boundary lies half a pixel towards the origin, and a mask that touches the image's right or lower
    border has none there. DAVIS's seg2bmap and, at image size, BSDS's seg2bdry."""
    boundary = np.zeros(labels.shape, bool)
    boundary[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    boundary[:-1] |= labels[:-1] != labels[1:]
    boundary[:-1, :-1] |= labels[:-1, :-1] != labels[1:, 1:]
    return boundary
