"""A spectral edge signal: where the smoothest ways of cutting the whole image in two change value.

Arbelaez et al. (TPAMI 2011), section 3.2: pixels are tied unless an edge lies between them (intervening
contour), and the eigenvectors of the normalised Laplacian with the smallest eigenvalues are differentiated:
by differences on the lattice, or by their oriented filters."""

from __future__ import annotations

import cv2
import numpy as np
import scipy.sparse

from hgrl.grouping.orientation import ORIENTATIONS
from hgrl.grouping.spectral.solver import STEPS, decimated_eigenvectors, eigenvectors

OFFSETS = ((0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (2, 0))  # pixels tied: all within a radius of 2
SHARPNESS = 0.12  # ties are exp(-edge / 0.12)
VECTORS = 6  # beside the constant one
POWER = 1 / np.sqrt(2)  # TPAMI's code flattens the signal with it
SIGMA = 1.0  # px; of the Gaussian whose derivatives filter the eigenvectors, as in TPAMI's code


def affinity(edge_map: np.ndarray) -> scipy.sparse.csr_array:
    """Ties between pixels at most 2 apart: exp(-m / 0.12), m the strongest edge on the way; (HW, HW)
    symmetric, ones on the diagonal.

    edge_map: (H, W) in [0, 1]."""
    height, width = edge_map.shape
    number = np.arange(height * width, dtype=np.int32).reshape(height, width)
    rows, columns, values = [], [], []
    for down, right in OFFSETS:
        if height > down and width > abs(right):
            first, second = _windows(edge_map, down, right)
            between = np.maximum(first, second)
            if max(down, abs(right)) == 2:
                between = np.maximum(between, _windows(edge_map, down, right, 1)[0])
            ends = _windows(number, down, right)
            rows += [ends[0].ravel(), ends[1].ravel()]
            columns += [ends[1].ravel(), ends[0].ravel()]
            values += [np.exp(-between.ravel() / SHARPNESS)] * 2
    rows.append(number.ravel()), columns.append(number.ravel()), values.append(np.ones(number.size))
    entries = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    return scipy.sparse.coo_array(entries, shape=(number.size,) * 2).tocsr()


def _windows(array: np.ndarray, down: int, right: int, step: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The pixels from which one can go (down, right), with step 1 those half-way; and the pixels reached."""
    height, width = array.shape
    left = max(0, -right)
    rows, columns = height - down, width - abs(right)
    half = (step * down // 2, left + step * right // 2)
    start = array[half[0] : half[0] + rows, half[1] : half[1] + columns]
    return start, array[down:, left + right : left + right + columns]


def solve(
    edge_map: np.ndarray, exact: bool = False, refinements: int = STEPS
) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues (k,) and eigenvectors (HW, k) of the image whose edges are `edge_map` (H, W) in [0, 1]; k
    is 6 but for tiny images.

    exact: on the whole image (3 to 5 s per photograph); otherwise decimated and refined that many steps (0.5
    s)."""
    ties = affinity(edge_map.astype(np.float64))
    if exact:
        return eigenvectors(ties, VECTORS)
    return decimated_eigenvectors(ties, edge_map.shape, VECTORS, refinements)


def weighted_vectors(values: np.ndarray, vectors: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The eigenvectors as images of range 1, divided by the root of their eigenvalue: (H, W, k)."""
    maps = vectors.reshape(*shape, -1)
    return maps / np.maximum(np.ptp(maps, axis=(0, 1)), 1e-12) / np.sqrt(values)


def lattice_signal(
    values: np.ndarray, vectors: np.ndarray, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """The signal on horizontal (H, W-1) and vertical (H-1, W) lattice edges, float64, about 0 to 60.

    |difference| / sqrt(lambda), summed over the vectors, flattened."""
    maps = weighted_vectors(values, vectors, shape)
    return tuple(np.abs(np.diff(maps, axis=axis)).sum(axis=2) ** POWER for axis in (1, 0))


def oriented_signal(values: np.ndarray, vectors: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The signal of TPAMI 2011, section 3.2, at 8 orientations: (8, H, W) float32; plane o answers to edges
    whose normal is at o pi / 8.

    |Gaussian derivative along the normal| / sqrt(lambda), summed over the vectors, flattened. A derivative at
    any angle is a mix of those along x and y. As in their code the filter's absolute values sum to 1."""
    along_x, along_y = gaussian_derivatives(weighted_vectors(values, vectors, shape).astype(np.float32))
    angles = np.arange(ORIENTATIONS, dtype=np.float32) * np.float32(np.pi / ORIENTATIONS)
    planes = [
        np.abs(np.cos(angle) * along_x + np.sin(angle) * along_y).sum(axis=0) ** np.float32(POWER)
        for angle in angles
    ]
    return np.stack(planes)


def gaussian_derivatives(maps: np.ndarray, sigma: float = SIGMA) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian derivatives of (H, W, k) float32 along x and y (downward): two (k, H, W) float32."""
    steps = np.arange(-int(3 * sigma), int(3 * sigma) + 1)
    gaussian = np.exp(-(steps**2) / (2 * sigma**2))
    slope = steps * gaussian
    gaussian, slope = gaussian / gaussian.sum(), slope / np.abs(slope).sum()
    out = np.zeros((2, maps.shape[2], *maps.shape[:2]), np.float32)
    for number in range(maps.shape[2]):
        plane = np.ascontiguousarray(maps[..., number])
        out[0, number] = cv2.sepFilter2D(plane, cv2.CV_32F, slope, gaussian, borderType=cv2.BORDER_REFLECT)
        out[1, number] = cv2.sepFilter2D(plane, cv2.CV_32F, gaussian, slope, borderType=cv2.BORDER_REFLECT)
    return out[0], out[1]
