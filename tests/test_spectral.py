"""The spectral signal: ties against a slow loop, eigenvectors against dense algebra, decimation against the
exact solver.
"""

import numpy as np
import pytest

from hgrl.core.settings import GroupingSettings
from hgrl.grouping.hierarchy import collect_arcs, lattice_weights, watershed
from hgrl.grouping.spectral.mix import add_spectral, arc_map, spectral_signal
from hgrl.grouping.spectral.signal import (
    SHARPNESS,
    affinity,
    gaussian_derivatives,
    lattice_signal,
    oriented_signal,
    solve,
)
from hgrl.grouping.spectral.solver import decimated_eigenvectors, eigenvectors


def two_halves(height=24, width=32):
    """A map with one strong line down the middle, leaky at its ends."""
    edge_map = np.full((height, width), 0.02)
    edge_map[2:-2, width // 2] = 0.9
    return edge_map


def slow_affinity(edge_map):
    height, width = edge_map.shape
    out = np.eye(height * width)
    for y in range(height):
        for x in range(width):
            for v in range(height):
                for u in range(width):
                    if 0 < (y - v) ** 2 + (x - u) ** 2 <= 4:
                        half_way = [((y + v) // 2, (x + u) // 2)] if 2 in (abs(y - v), abs(x - u)) else []
                        way = [(y, x), (v, u), *half_way]
                        out[y * width + x, v * width + u] = np.exp(
                            -max(edge_map[place] for place in way) / SHARPNESS
                        )
    return out


@pytest.mark.parametrize("shape", [(5, 6), (1, 4), (4, 1), (2, 2), (1, 1)])
def test_ties_are_those_of_the_slow_loop(shape):
    edge_map = np.random.default_rng(0).random(shape)
    np.testing.assert_allclose(affinity(edge_map).toarray(), slow_affinity(edge_map))


def test_eigenvectors_solve_the_normalised_cut():
    ties = affinity(two_halves(12, 14))
    values, vectors = eigenvectors(ties, 4)
    degree = ties.sum(axis=1)
    left = degree[:, None] * vectors - ties @ vectors
    np.testing.assert_allclose(left, degree[:, None] * vectors * values, atol=1e-8)
    assert (np.diff(values) >= 0).all() and values[0] > 1e-6  # the constant one is left out


def test_the_first_vector_tells_the_two_halves_apart():
    edge_map = two_halves()
    _, vectors = eigenvectors(affinity(edge_map), 1)
    plane = vectors[:, 0].reshape(edge_map.shape)
    assert np.ptp(np.sign(plane[:, :14])) == 0
    assert np.sign(plane[5, 3]) != np.sign(plane[5, -3])


def blocks(height=66, width=82):
    """A map of many cells, weakly and unevenly outlined: eigenvalues lie close, as in photographs."""
    generator = np.random.default_rng(1)
    cells = np.repeat(np.repeat(generator.random((6, 6)), height // 6, 0), -(-width // 6), 1)[:, :width]
    edge_map = 0.05 * generator.random(cells.shape)
    edge_map[:, 1:] += np.abs(np.diff(cells, axis=1))
    edge_map[1:] += np.abs(np.diff(cells, axis=0))
    return np.clip(edge_map, 0, 1)


def flat(signal):
    return np.concatenate([part.ravel() for part in signal])


def correlation(first, second):
    return np.corrcoef(flat(first), flat(second))[0, 1]


@pytest.mark.parametrize(
    "signal", [lattice_signal, lambda *solved: [oriented_signal(*solved)]], ids=["lattice", "oriented"]
)
def test_the_decimated_signal_is_nearly_the_exact_one(signal):
    edge_map = blocks()
    exact, quick = (signal(*solve(edge_map, exact), edge_map.shape) for exact in (True, False))
    assert correlation(exact, quick) >= 0.98
    plain = signal(*solve(edge_map, refinements=0), edge_map.shape)
    assert correlation(exact, plain) < correlation(exact, quick)


def test_refined_eigenvalues_are_the_exact_ones():
    edge_map = blocks()
    exact, quick, plain = (
        solve(edge_map, exact=True)[0],
        solve(edge_map)[0],
        solve(edge_map, refinements=0)[0],
    )
    assert (quick >= exact * (1 - 1e-9)).all()  # the best within a subspace is never better than the best
    np.testing.assert_allclose(quick, exact, rtol=0.05)
    np.testing.assert_allclose(plain, exact, rtol=0.8)  # comparable, no more


def test_more_refinement_comes_closer():
    ties = affinity(blocks())
    exact = eigenvectors(ties, 6)[0]
    far = [
        np.abs(decimated_eigenvectors(ties, (66, 82), 6, steps)[0] / exact - 1).max() for steps in (1, 3, 8)
    ]
    assert far[0] > far[1] > far[2] and far[2] < 1e-2


def test_decimated_vectors_are_orthogonal_in_the_degrees():
    ties = affinity(blocks())
    vectors = decimated_eigenvectors(ties, (66, 82), 6, 2)[1]
    gram = vectors.T @ (ties.sum(axis=1)[:, None] * vectors)
    np.testing.assert_allclose(gram, np.eye(6), atol=1e-8)


def test_the_signal_is_strongest_across_the_line():
    horizontal, _ = lattice_signal(*solve(two_halves(40, 48)), (40, 48))
    assert horizontal[20].argmax() in (23, 24)
    planes = oriented_signal(*solve(two_halves(40, 48)), (40, 48))
    assert planes[:, 20, 24].argmax() == 0 and planes[0, 20].argmax() in (23, 24, 25)  # the normal is along x


def test_twice_gives_the_same():
    edge_map = np.random.default_rng(2).random((30, 41))
    for first, second in zip(solve(edge_map), solve(edge_map), strict=True):
        np.testing.assert_array_equal(first, second)


def slow_derivative(image, angle, sigma=1.0):
    """The directional derivative of a Gaussian at an angle, as one 7x7 filter whose absolute values sum to 1
    along x.
    """
    y, x = np.mgrid[-3:4, -3:4]
    gaussian = np.exp(-(x**2 + y**2) / (2 * sigma**2))
    kernel = (np.cos(angle) * x + np.sin(angle) * y) * gaussian / np.abs(x * gaussian).sum()
    padded = np.pad(image, 3, mode="symmetric")
    return np.array(
        [
            [(padded[v : v + 7, u : u + 7] * kernel).sum() for u in range(image.shape[1])]
            for v in range(image.shape[0])
        ]
    )


def test_oriented_signal_is_that_of_the_slow_filters():
    generator = np.random.default_rng(5)
    vectors, values = generator.standard_normal((9 * 11, 2)), np.array([0.2, 0.5])
    images = [
        v.reshape(9, 11) / np.ptp(v) / np.sqrt(value) for v, value in zip(vectors.T, values, strict=True)
    ]
    planes = oriented_signal(values, vectors, (9, 11))
    for number, plane in enumerate(planes):
        slow = sum(np.abs(slow_derivative(image, number * np.pi / 8)) for image in images) ** (1 / np.sqrt(2))
        np.testing.assert_allclose(plane, slow, rtol=1e-3, atol=1e-4)


def test_a_ramp_has_its_slope_along_it():
    y, x = np.mgrid[:20, :30].astype(np.float32)
    along_x, along_y = gaussian_derivatives((2 * x - y)[..., None])
    inside = np.s_[0, 5:-5, 5:-5]
    np.testing.assert_allclose(along_x[inside] / along_y[inside], -2, rtol=1e-4)


def test_the_signal_ignores_the_vectors_signs_and_scales():
    generator = np.random.default_rng(3)
    vectors = generator.standard_normal((20, 3))
    first = lattice_signal(np.array([0.1, 0.2, 0.4]), vectors, (4, 5))
    second = lattice_signal(np.array([0.1, 0.2, 0.4]), vectors * [-1, 2, 0.5], (4, 5))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(a, b)


def some_arcs():
    edge_map = np.clip(np.random.default_rng(4).random((33, 45)) * 0.3 + two_halves(33, 45), 0, 1)
    return collect_arcs(watershed(edge_map), *lattice_weights(edge_map))


@pytest.mark.parametrize("arc_strength", ["mean", "oriented"])
@pytest.mark.parametrize("derivative", ["lattice", "oriented"])
@pytest.mark.parametrize("mix", ["arcs", "mcg", "minmax"])
def test_each_mix_keeps_the_arcs_and_changes_only_their_strength(mix, derivative, arc_strength):
    arcs = some_arcs()
    mixed = add_spectral(
        arcs, GroupingSettings(spectral_mix=mix, spectral_derivative=derivative, arc_strength=arc_strength)
    )
    np.testing.assert_array_equal(mixed.ends, arcs.ends)
    assert (
        np.isfinite(mixed.strength).all()
        and (mixed.strength >= 0).all()
        and not np.array_equal(mixed.strength, arcs.strength)
    )
    if mix == "minmax":
        assert mixed.strength.max() <= 1


def test_no_weight_no_change():
    arcs = some_arcs()
    np.testing.assert_array_equal(
        add_spectral(arcs, GroupingSettings(spectral_weight=0)).strength, arcs.strength
    )


def test_arc_map_paints_each_arc_beside_itself():
    labels = np.array([[0, 0, 1], [2, 2, 1]])
    arcs = collect_arcs(labels, *lattice_weights(np.array([[0.2, 0.4, 0.6], [0.8, 0.0, 1.0]])))
    strength = {tuple(pair): value for pair, value in zip(arcs.ends.tolist(), arcs.strength, strict=True)}
    expected = [[strength[0, 2], max(strength[0, 1], strength[0, 2]), 0], [0, strength[1, 2], 0]]
    np.testing.assert_allclose(arc_map(arcs), expected)


@pytest.mark.parametrize("derivative", ["lattice", "oriented"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 3), (7, 9), (8, 8), (9, 33)])
def test_small_and_constant_maps_give_a_finite_signal(shape, derivative):
    labels = np.arange(np.prod(shape)).reshape(shape)
    arcs = collect_arcs(labels, *lattice_weights(np.full(shape, 0.3)))
    for part in spectral_signal(arcs, GroupingSettings(spectral_derivative=derivative)):
        assert np.isfinite(part).all()
