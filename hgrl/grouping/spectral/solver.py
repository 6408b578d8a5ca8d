"""The smallest eigenvectors of normalised cuts: exact, or from a decimated image and carried back.

Decimation: Pont-Tuset et al., "Multiscale combinatorial grouping" (TPAMI 2017), section 3. It alone is off by
a factor in the eigenvalues and mixes vectors of close ones: its signal correlates .82 with the exact one
(mean of 10 photographs). So more vectors than wanted are carried back, and at each finer level a few steps of
LOBPCG (Knyazev, SIAM J. Sci. Comput. 2001; preconditioned by the coarsest level's factorisation between
smoothing steps) bring vectors and eigenvalues to the full image's own: .99."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
import scipy.sparse
import scipy.sparse.linalg

ROUNDS = 2  # of decimation: each keeps a quarter of the pixels
LEAST_SIDE = 8  # px; smaller images are not decimated further
SPARE = 4  # vectors beyond those wanted, among which the last wanted ones are where eigenvalues lie close
STEPS = 2  # of refinement on the full image
COARSE_STEPS = 2  # of refinement on the levels between; they are cheap
DAMPING = 0.8
SMOOTHING = 2  # averaging steps before and after the coarse correction
SHIFT = 1e-6  # shift-invert just under 0: exact, and the same at every run
DENSE = 64  # pixels up to which plain algebra is used

Solver = Callable[[np.ndarray], np.ndarray]
Solution = tuple[np.ndarray, np.ndarray]  # eigenvalues (k,) and vectors (n, k)
Ties = scipy.sparse.csr_array


@dataclass(frozen=True)
class Pencil:
    """The problem (D - W) v = lambda D v: ties W (n, n), symmetric, and D, their row sums (n, 1).

    damping: (n, 1), of Jacobi's iteration for D - W, without ties to oneself: else lone pixels never move."""

    ties: Ties
    degree: np.ndarray
    damping: np.ndarray

    @classmethod
    def of(cls, ties: Ties) -> Self:
        degree = np.asarray(ties.sum(axis=1))[:, None]
        return cls(ties, degree, DAMPING / np.maximum(degree - ties.diagonal()[:, None], 1e-12))

    def average(self, vectors: np.ndarray) -> np.ndarray:
        """Draw each pixel to the mean of what it is tied to, a few times: what is rough fades."""
        for _ in range(SMOOTHING):
            vectors = vectors - self.damping * (self.degree * vectors - self.ties @ vectors)
        return vectors

    def gather(self, residuals: np.ndarray) -> np.ndarray:
        """The transpose of `average`, which keeps a preconditioner symmetric."""
        for _ in range(SMOOTHING):
            shares = self.damping * residuals
            residuals = residuals - (self.degree * shares - self.ties @ shares)
        return residuals


def eigenvectors(ties: Ties, count: int) -> Solution:
    """The `count` smallest non-trivial solutions of (D - W) v = lambda D v: eigenvalues (k,), vectors (n, k).

    Exact (shift-invert) from a fixed start: every run gives the same. k is smaller for very few pixels."""
    values, vectors, _ = _solve(Pencil.of(ties), count)
    return np.maximum(values[1:], 1e-9), vectors[:, 1:]


def decimated_eigenvectors(ties: Ties, shape: tuple[int, int], count: int, steps: int) -> Solution:
    """Nearly the same, from every fourth pixel per round: eigenvalues (k,), vectors (HW, k).

    Normalised rows of ties lead to the remaining pixels and carry vectors back. steps: of refinement on the
    full image; 0 is plain decimation, whose eigenvalues, about doubled per round, are divided."""
    pencils, spreads = _decimate(ties, shape)
    if not spreads:
        return eigenvectors(ties, count)
    values, vectors, solver = _solve(pencils[-1], count + SPARE if steps else count)
    if steps == 0:
        for spread in reversed(spreads):
            vectors = spread @ vectors
        return np.maximum(values[1:] / 2 ** len(spreads), 1e-9), vectors[:, 1:]
    for level in reversed(range(len(spreads))):
        solver = _seen_from_finer(solver, spreads[level])
        vectors = pencils[level].average(spreads[level] @ vectors)
        values, vectors = _refine(pencils[level], vectors, solver, COARSE_STEPS if level else steps)
    return np.maximum(values[1 : count + 1], 1e-9), vectors[:, 1 : count + 1]


def _decimate(ties: Ties, shape: tuple[int, int]) -> tuple[list[Pencil], list[Ties]]:
    """The problem at each level, finest first, and what carries vectors from each level to the finer one."""
    pencils, spreads = [Pencil.of(ties)], []
    while len(spreads) < ROUNDS and min(shape) >= LEAST_SIDE:
        is_coarse = np.zeros(shape, bool)
        is_coarse[::2, ::2] = True
        nearby = ties[:, np.flatnonzero(is_coarse)].tocsr()
        scale = scipy.sparse.dia_array(((1 / nearby.sum(axis=1))[None], [0]), shape=ties.shape)
        spread = (scale @ nearby).tocsr()
        ties = (nearby.T @ spread).tocsr()
        ties = (ties + ties.T) / 2
        shape = tuple((side + 1) // 2 for side in shape)
        spreads.append(spread)
        pencils.append(Pencil.of(ties))
    return pencils, spreads


def _solve(pencil: Pencil, count: int) -> tuple[np.ndarray, np.ndarray, Solver]:
    """Exact eigenvalues and vectors, the constant one first, and r -> (D - W + SHIFT D)^-1 r."""
    nodes = len(pencil.degree)
    scale = 1 / np.sqrt(pencil.degree)
    diagonal = scipy.sparse.dia_array((scale.T, [0]), shape=pencil.ties.shape)
    laplacian = (1 + SHIFT) * scipy.sparse.eye_array(nodes) - diagonal @ pencil.ties @ diagonal
    quick = {"permc_spec": "MMD_AT_PLUS_A", "diag_pivot_thresh": 0, "options": {"SymmetricMode": True}}
    inverse = scipy.sparse.linalg.splu(laplacian.tocsc(), **quick).solve  # 4 times as fast as the default
    if nodes <= max(DENSE, count + 2):
        values, vectors = np.linalg.eigh(laplacian.toarray())
    else:
        start = np.random.default_rng(0).standard_normal(nodes)
        operator = scipy.sparse.linalg.LinearOperator(laplacian.shape, matvec=inverse, dtype=np.float64)
        values, vectors = scipy.sparse.linalg.eigsh(laplacian, count + 1, sigma=0, v0=start, OPinv=operator)
    order = np.argsort(values)[: max(1, min(count + 1, nodes - 1))]
    return values[order] - SHIFT, scale * vectors[:, order], lambda right: scale * inverse(scale * right)


def _seen_from_finer(solver: Solver, spread: Ties) -> Solver:
    gather = spread.T.tocsr()
    return lambda right: spread @ solver(gather @ right)


def _refine(pencil: Pencil, vectors: np.ndarray, coarse: Solver, steps: int) -> Solution:
    """Eigenvalues (k,) and vectors (n, k) after `steps` of LOBPCG from `vectors`, the constant one first."""
    ties, degree, count = pencil.ties, pencil.degree, vectors.shape[1]
    basis, tied = vectors, ties @ vectors
    for step in range(steps):
        values, mix = _rayleigh_ritz(basis, tied, degree, count)
        moves = [array[:, count:] @ mix[count:, 1:] for array in (basis, tied) if step]  # of the step before
        vectors, tied_vectors = basis @ mix, tied @ mix
        residual = degree * vectors[:, 1:] * (1 - values[1:]) - tied_vectors[:, 1:]
        search = pencil.average(coarse(pencil.gather(residual)))
        basis = np.hstack([vectors, search, *moves[:1]])
        tied = np.hstack([tied_vectors, ties @ search, *moves[1:]])
    values, mix = _rayleigh_ritz(basis, tied, degree, count)
    return values, basis @ mix


def _rayleigh_ritz(basis: np.ndarray, tied: np.ndarray, degree: np.ndarray, count: int) -> Solution:
    """The `count` best solutions in the span of `basis` (n, m): values ascending, and weights (m, count)."""
    mass = basis.T @ (degree * basis)
    energy = mass - basis.T @ tied
    scale = 1 / np.sqrt(np.diag(mass))
    mass, energy = mass * scale * scale[:, None], energy * scale * scale[:, None]
    weights, directions = np.linalg.eigh(mass)
    independent = weights > 1e-10
    directions = directions[:, independent] / np.sqrt(weights[independent])
    values, mix = np.linalg.eigh(directions.T @ energy @ directions)
    return values[:count], scale[:, None] * (directions @ mix[:, :count])
