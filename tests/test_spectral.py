"""The spectral signal: ties against a slow loop, eigenvectors against dense algebra, decimation against the exact solver."""

import numpy as np
import pytest

from hgrl.config import GroupingSettings
from hgrl.grouping.hierarchy import collect_arcs, lattice_weights, watershed
from hgrl.grouping.spectral import SHARPNESS, affinity, decimated_eigenvectors, eigenvectors, lattice_signal, spectral_signal
from hgrl.grouping.spectral_mix import add_spectral, arc_map


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
                        out[y * width + x, v * width + u] = np.exp(-max(edge_map[place] for place in way) / SHARPNESS)
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


def test_decimation_finds_nearly_the_exact_signal():
    edge_map = np.clip(two_halves(40, 48) + 0.05 * np.random.default_rng(1).random((40, 48)), 0, 1)
    exact, quick = (spectral_signal(edge_map, 1.0, exact=solver) for solver in (True, False))
    assert np.corrcoef(exact[0].ravel(), quick[0].ravel())[0, 1] > 0.9
    assert quick[0][20].argmax() in (23, 24)  # strongest across the line
    ratio = decimated_eigenvectors(affinity(edge_map), edge_map.shape, 4)[0] / eigenvectors(affinity(edge_map), 4)[0]
    assert (ratio > 0.25).all() and (ratio < 4).all()  # comparable eigenvalues


def test_twice_gives_the_same():
    edge_map = np.random.default_rng(2).random((30, 41))
    for first, second in zip(spectral_signal(edge_map, 4.0), spectral_signal(edge_map, 4.0), strict=True):
        np.testing.assert_array_equal(first, second)


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


@pytest.mark.parametrize("mix", ["arcs", "mcg", "minmax"])
def test_each_mix_keeps_the_arcs_and_changes_only_their_strength(mix):
    arcs = some_arcs()
    mixed = add_spectral(arcs, GroupingSettings(spectral_mix=mix))
    np.testing.assert_array_equal(mixed.ends, arcs.ends)
    assert np.isfinite(mixed.strength).all() and (mixed.strength >= 0).all() and not np.array_equal(mixed.strength, arcs.strength)
    if mix == "minmax":
        assert mixed.strength.max() <= 1


def test_no_weight_no_change():
    arcs = some_arcs()
    np.testing.assert_array_equal(add_spectral(arcs, GroupingSettings(spectral_weight=0)).strength, arcs.strength)


def test_arc_map_paints_each_arc_beside_itself():
    labels = np.array([[0, 0, 1], [2, 2, 1]])
    arcs = collect_arcs(labels, *lattice_weights(np.array([[0.2, 0.4, 0.6], [0.8, 0.0, 1.0]])))
    strength = {tuple(pair): value for pair, value in zip(arcs.ends.tolist(), arcs.strength, strict=True)}
    expected = [[strength[0, 2], max(strength[0, 1], strength[0, 2]), 0], [0, strength[1, 2], 0]]
    np.testing.assert_allclose(arc_map(arcs), expected)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 3), (7, 9)])
def test_small_and_constant_maps_give_a_finite_signal(shape):
    for part in spectral_signal(np.full(shape, 0.3), 4.0):
        assert np.isfinite(part).all()
