"""A spectral edge signal: where the smoothest ways of cutting the whole image in two change value.

Arbelaez et al. (TPAMI 2011), section 3.2: pixels are tied unless an edge lies between them (intervening contour), and the eigenvectors
of the normalised Laplacian with the smallest eigenvalues are differentiated. Decimated eigenvectors: Pont-Tuset et al., "Multiscale
combinatorial grouping" (TPAMI 2017), section 3. Not done: oriented derivatives of the eigenvectors; lattice differences serve.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse
import scipy.sparse.linalg

OFFSETS = ((0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (2, 0))  # pixels tied: all within a radius of 2
SHARPNESS = 0.12  # ties are exp(-edge / 0.12)
VECTORS = 6  # beside the constant one
ROUNDS = 2  # of decimation: each keeps a quarter of the pixels
POWER = 1 / np.sqrt(2)  # TPAMI's code flattens the signal with it
SHIFT = -1e-6  # shift-invert just under 0: exact, and the same at every run


def affinity(edge_map: np.ndarray) -> scipy.sparse.csr_array:
    """Ties between pixels at most 2 apart: exp(-m / 0.12), m the strongest edge on the way; (HW, HW) symmetric, ones on the diagonal.

    edge_map: (H, W) in [0, 1].
    """
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
    """The pixels from which one can go (down, right), and the pixels reached; with step 1, the pixels half-way first."""
    height, width = array.shape
    left = max(0, -right)
    rows, columns = height - down, width - abs(right)
    half = (step * down // 2, left + step * right // 2)
    return array[half[0] : half[0] + rows, half[1] : half[1] + columns], array[down:, left + right : left + right + columns]


def eigenvectors(ties: scipy.sparse.csr_array, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The `count` smallest non-trivial solutions of (D - W) v = lambda D v: eigenvalues (k,), vectors (n, k).

    Exact (shift-invert) from a fixed start, so that every run gives the same. k is smaller for very few pixels.
    """
    nodes = ties.shape[0]
    count = min(count, nodes - 2)
    if count < 1:
        return np.zeros(0), np.zeros((nodes, 0))
    scale = 1 / np.sqrt(ties.sum(axis=1))
    diagonal = scipy.sparse.dia_array((scale[None], [0]), shape=ties.shape)
    laplacian = scipy.sparse.eye_array(nodes) - diagonal @ ties @ diagonal
    start = np.random.default_rng(0).standard_normal(nodes)
    if nodes <= 64:
        values, vectors = np.linalg.eigh(laplacian.toarray())
    else:
        values, vectors = scipy.sparse.linalg.eigsh(laplacian.tocsc(), count + 1, sigma=SHIFT, which="LM", v0=start)
    order = np.argsort(values)[1 : count + 1]
    return np.maximum(values[order], 1e-9), scale[:, None] * vectors[:, order]


def decimated_eigenvectors(
    ties: scipy.sparse.csr_array, shape: tuple[int, int], count: int, rounds: int = ROUNDS
) -> tuple[np.ndarray, np.ndarray]:
    """Nearly the same, from every fourth pixel a round: eigenvalues (k,) comparable to the exact ones, vectors (HW, k).

    Each pixel is tied to the kept ones by its row of ties, normalised; the eigenvectors found there are carried back the same way.
    """
    spreads = []
    for _ in range(rounds):
        if min(shape) < 8:
            break
        keep = np.zeros(shape, bool)
        keep[::2, ::2] = True
        nearby = ties[:, np.flatnonzero(keep.ravel())].tocsr()
        spread = scipy.sparse.dia_array(((1 / nearby.sum(axis=1))[None], [0]), shape=ties.shape) @ nearby
        ties = (nearby.T @ spread).tocsr()
        ties = (ties + ties.T) / 2
        spreads.append(spread)
        shape = ((shape[0] + 1) // 2, (shape[1] + 1) // 2)
    values, vectors = eigenvectors(ties, count)
    for spread in reversed(spreads):
        vectors = spread @ vectors
    return values / 2 ** len(spreads), vectors  # a round about doubles the eigenvalues


def lattice_signal(values: np.ndarray, vectors: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The signal on horizontal (H, W-1) and vertical (H-1, W) lattice edges: |difference| / sqrt(lambda), summed, flattened."""
    maps = vectors.reshape(*shape, -1)
    spread = np.maximum(np.ptp(maps, axis=(0, 1)), 1e-12)
    maps = maps / spread / np.sqrt(values)
    return tuple(np.abs(np.diff(maps, axis=axis)).sum(axis=2) ** POWER for axis in (1, 0))


def spectral_signal(edge_map: np.ndarray, contrast: float, exact: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """The spectral signal of an edge map (H, W) in [0, 1]: horizontal (H, W-1) and vertical (H-1, W) float64, about 0 to 60.

    contrast: the map is multiplied by it, and clipped at 1, before pixels are tied. exact: no decimation (20 s a photograph).
    """
    ties = affinity(np.minimum(1.0, contrast * edge_map.astype(np.float64)))
    if exact:
        solved = eigenvectors(ties, VECTORS)
    else:
        solved = decimated_eigenvectors(ties, edge_map.shape, VECTORS)
    return lattice_signal(*solved, edge_map.shape)
