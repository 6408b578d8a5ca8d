"""A spectral edge signal: where the smoothest ways of cutting the whole image in two change value.

Arbelaez et al. (TPAMI 2011), section 3.2: pixels are tied unless an edge lies between them (intervening
contour), and the first eigenvectors of the normalised Laplacian are differentiated: by differences on the
lattice, or by their oriented filters."""

import cv2
import numpy as np
import scipy.sparse

from hgrl.grouping.orientation import ORIENTATIONS, Pair
from hgrl.grouping.spectral.solver import STEPS, Solution, decimated_eigenvectors, eigenvectors

OFFSETS = ((0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (2, 0))  # pixels tied: all within a radius of 2
SHARPNESS = 0.12  # ties are exp(-edge / 0.12)
VECTORS = 6  # beside the constant one
POWER = 1 / np.sqrt(2)  # TPAMI's code flattens the signal with it
SIGMA = 1.0  # px; of the Gaussian whose derivatives filter the eigenvectors, as in TPAMI's code


def affinity(edge_map: np.ndarray) -> scipy.sparse.csr_array:
    """Ties between pixels at most 2 apart of a map (H, W) in [0, 1]: (HW, HW), ones on the diagonal.

    exp(-m / 0.12), m the strongest edge on the way; symmetric."""
    height, width = edge_map.shape
    number = np.arange(height * width, dtype=np.int32).reshape(height, width)
    rows, columns, values = [], [], []
    for down, right in OFFSETS:
        if height > down and width > abs(right):
            between = np.maximum(*_ends(edge_map, down, right))
            if max(down, abs(right)) == 2:
                half_way = edge_map[down // 2 :, right // 2 :]
                between = np.maximum(between, half_way[: between.shape[0], : between.shape[1]])
            first, second = (end.ravel() for end in _ends(number, down, right))
            rows += [first, second]
            columns += [second, first]
            values += [np.exp(-between.ravel() / SHARPNESS)] * 2
    own = number.ravel()
    entries = np.concatenate([*values, np.ones(own.size)])
    places = np.concatenate([*rows, own]), np.concatenate([*columns, own])
    return scipy.sparse.coo_array((entries, places), shape=(own.size,) * 2).tocsr()


def _ends(array: np.ndarray, down: int, right: int) -> tuple[np.ndarray, np.ndarray]:
    """The pixels from which one can go (down, right), and the pixels reached."""
    rows, columns, left = array.shape[0] - down, array.shape[1] - abs(right), max(0, -right)
    return array[:rows, left : left + columns], array[down:, left + right : left + right + columns]


def solve(edge_map: np.ndarray, exact: bool = False, refinements: int = STEPS) -> Solution:
    """Eigenvalues (k,) and eigenvectors (HW, k) of an edge map (H, W) in [0, 1]; k is 6 but for tiny images.

    exact: on the whole image (3 to 5 s per photograph); else decimated, and refined that often (0.5 s)."""
    ties = affinity(edge_map.astype(np.float64))
    if exact:
        return eigenvectors(ties, VECTORS)
    return decimated_eigenvectors(ties, edge_map.shape, VECTORS, refinements)


def weighted_vectors(values: np.ndarray, vectors: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The eigenvectors as images of range 1, divided by the root of their eigenvalue: (H, W, k)."""
    maps = vectors.reshape(*shape, -1)
    return maps / np.maximum(np.ptp(maps, axis=(0, 1)), 1e-12) / np.sqrt(values)


def lattice_signal(values: np.ndarray, vectors: np.ndarray, shape: tuple[int, int]) -> Pair:
    """|Difference| / sqrt(lambda) on lattice edges, summed and flattened: float64, about 0 to 60."""
    maps = weighted_vectors(values, vectors, shape)
    return tuple(np.abs(np.diff(maps, axis=axis)).sum(axis=2) ** POWER for axis in (1, 0))


def oriented_signal(values: np.ndarray, vectors: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The signal at 8 orientations: (8, H, W) float32; plane o answers to edges whose normal is at o pi / 8.

    TPAMI 2011, section 3.2: |Gaussian derivative along the normal| / sqrt(lambda), summed over the vectors,
    flattened. As in their code the filter's absolute values sum to 1."""
    along_x, along_y = gaussian_derivatives(weighted_vectors(values, vectors, shape).astype(np.float32))
    angles = np.arange(ORIENTATIONS, dtype=np.float32) * np.float32(np.pi / ORIENTATIONS)
    mixed = (np.abs(np.cos(angle) * along_x + np.sin(angle) * along_y).sum(axis=0) for angle in angles)
    return np.stack([plane ** np.float32(POWER) for plane in mixed])


def gaussian_derivatives(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian derivatives of (H, W, k) float32 along x and y (downward): two (k, H, W) float32."""
    steps = np.arange(-int(3 * SIGMA), int(3 * SIGMA) + 1)
    gaussian = np.exp(-(steps**2) / (2 * SIGMA**2))
    slope = steps * gaussian
    gaussian, slope = gaussian / gaussian.sum(), slope / np.abs(slope).sum()
    out = np.zeros((2, maps.shape[2], *maps.shape[:2]), np.float32)
    for number in range(maps.shape[2]):
        plane = np.ascontiguousarray(maps[..., number])
        out[0, number] = cv2.sepFilter2D(plane, cv2.CV_32F, slope, gaussian, borderType=cv2.BORDER_REFLECT)
        out[1, number] = cv2.sepFilter2D(plane, cv2.CV_32F, gaussian, slope, borderType=cv2.BORDER_REFLECT)
    return out[0], out[1]
